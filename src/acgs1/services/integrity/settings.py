"""Settings of integrity, beside those of the platform."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class IntegritySettings(BaseSettings):
    """Read from the environment with the prefix `ACGS_INTEGRITY_`."""

    model_config = SettingsConfigDict(env_prefix="ACGS_INTEGRITY_", frozen=True, extra="ignore")

    origin: Annotated[str, Field(pattern=r"^[^\s+]{1,200}$")] | None = None
    """The log's name in checkpoints, best its public URL without scheme. Made once, and kept with the log key, unless given."""
    anchor_seconds: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """At most this long after an entry was logged its tree is anchored on the ledger, while the ledger answers."""
