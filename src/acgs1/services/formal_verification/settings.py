"""Settings of this room alone."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ProverSettings(BaseSettings):
    """Read from the environment with the prefix `ACGS_PROVER_`."""

    model_config = SettingsConfigDict(env_prefix="ACGS_PROVER_", frozen=True, extra="ignore")

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Prover processes at most. Each starts with the first job that needs it."""
    memory_mb: Annotated[int, Field(ge=256)] = 1024
    """Private memory of one process; a solver that wants more ends its process."""
    solver_timeout_ms: Annotated[int, Field(ge=1)] = 5000
    """cvc5's time per query."""
    second_opinion_ms: Annotated[int, Field(ge=0)] = 2000
    """z3's time per proved obligation; 0 asks for no second opinion."""
    item_seconds: Annotated[float, Field(gt=0)] = 20.0
    """When an obligation takes longer, its process is killed and the obligation is `unknown`."""
    ethos: Path | None = None
    """The proof checker Ethos; with it, kept proof objects are checked. Needs `cpc_signature`."""
    cpc_signature: Path | None = None
    """The rules of cvc5's proofs: `proofs/eo/cpc/Cpc.eo` of its sources."""
    idle_seconds: Annotated[float, Field(gt=0)] = 600.0
    """A process without work for so long ends."""
