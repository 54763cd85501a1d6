"""Boundary of the evolutionary computation service (port 8006)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import PolicyText, Verdict
from acgs1.contracts.policy_governance import EvaluationRequest


class LabelledOutcome(Message):
    """A past request and what a person says the decision should have been."""

    request: EvaluationRequest
    should: Literal["allow", "deny"]


class Tunable(Message):
    """One whole-number threshold of one policy: the literal that `attribute` is compared with."""

    policy_id: str
    attribute: Annotated[str, Field(pattern=r"^(principal|resource|context)(\.[A-Za-z_][A-Za-z0-9_]*)+$")]
    minimum: int
    maximum: int


class NewRun(Message):
    """Search the thresholds that agree best with the labels; only candidates that are proved to comply are shown."""

    policies: PolicyText
    constitution: Constitution
    tunables: Annotated[list[Tunable], Field(min_length=1, max_length=8)]
    outcomes: Annotated[list[LabelledOutcome], Field(min_length=1, max_length=20_000)]
    seed: int = 0
    generations: Annotated[int, Field(ge=1, le=500)] = 40


class Candidate(Message):
    values: dict[str, int] = Field(description="`policy_id/attribute` -> threshold")
    policies: str
    policies_hash: Sha256
    agreement: float = Field(ge=0, le=1, description="share of labelled outcomes decided as labelled")
    verdict: Verdict
    certificate_hash: Sha256 | None


class Run(Message):
    id: str
    status: Literal["running", "done", "failed"]
    baseline_agreement: float | None
    best: Candidate | None
    refuted_candidates: int
    evaluations: int
    generations: int
    detail: str | None
    started_by: str
    created_at: datetime
    finished_at: datetime | None
