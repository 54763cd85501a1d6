"""Settings of policy_governance beside the platform's."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GovernanceSettings(BaseSettings):
    """The rules that the ledger is initialised with; after ratification only a vote changes them."""

    model_config = SettingsConfigDict(env_prefix="ACGS_GOVERNANCE_", frozen=True, extra="ignore", populate_by_name=True)

    threshold_bp: Annotated[int, Field(ge=5001, le=10_000)] = 6000
    """Share of the votes for and against that accepts, in basis points."""
    quorum_bp: Annotated[int, Field(ge=1, le=10_000)] = 5000
    """Share of the total weight that must take part, in basis points."""
    voting_seconds: Annotated[int, Field(ge=1, le=30 * 86400)] = 60
    """The shortest voting window."""
    emergency_poll_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How often the ledger is asked what has happened: emergency actions are obeyed within this time."""
    worker: Annotated[int, Field(ge=0, le=999, validation_alias="ACGS_WORKER")] = 0
    """This process's number among the service's workers on one data directory: each has a decision spool of its own, number 0 does what
    only one may do. The supervisor sets it."""
