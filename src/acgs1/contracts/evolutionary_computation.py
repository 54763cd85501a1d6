"""Boundary of the evolutionary computation service (port 8006)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import PolicyText
from acgs1.contracts.policy_governance import EvaluationRequest

_LONG = 2**63


class LabelledOutcome(Message):
    """A past request and what a person says the decision should have been.

    A request without `context.approved` counts as one that nobody has approved: only the decision point sets that.
    """

    request: EvaluationRequest
    should: Literal["allow", "deny"]


class Tunable(Message):
    """One whole-number threshold of one policy: the one literal that `attribute` is compared with there. The range is inclusive."""

    policy_id: str
    attribute: Annotated[str, Field(pattern=r"^(principal|resource|context)(\.[A-Za-z_][A-Za-z0-9_]*)+$")]
    minimum: Annotated[int, Field(ge=-_LONG, lt=_LONG)]
    maximum: Annotated[int, Field(ge=-_LONG, lt=_LONG)]


class NewRun(Message):
    """Search the thresholds that agree best with the labels; only a candidate that is proved to comply is shown.

    The same request gives the same search: `seed` decides what chance decides.
    """

    policies: PolicyText
    constitution: Constitution
    tunables: Annotated[list[Tunable], Field(min_length=1, max_length=8)]
    outcomes: Annotated[list[LabelledOutcome], Field(min_length=1, max_length=20_000)]
    seed: Annotated[int, Field(ge=0, lt=_LONG)] = 0
    generations: Annotated[int, Field(ge=1, le=500)] = 40


class Candidate(Message):
    """Thresholds whose policy set was proved to comply with the constitution."""

    values: dict[str, int] = Field(description="`policy_id/attribute` -> threshold")
    policies: str
    policies_hash: Sha256
    agreement: float = Field(ge=0, le=1, description="share of labelled outcomes decided as labelled")
    verdict: Literal["proved"]
    certificate_hash: Sha256


class OversightCheck(Message):
    """One question that is asked about a candidate without relying on the search that found it."""

    name: Literal["only_thresholds", "within_bounds", "certificate", "agreement"] = Field(
        description="it differs from the baseline in the tunable thresholds alone; these are in their ranges; its certificate is about "
        "these policies, this schema and this constitution; it agrees with the labels as far as is said, and no worse than the baseline"
    )
    finding: str | None = Field(description="what is wrong; None when it holds")


class Oversight(Message):
    """The oversight of a run: what was checked before its candidate was shown. One finding, and it is withheld."""

    outcome: Literal["approved", "withheld"]
    policies_hash: Sha256 = Field(description="of the candidate")
    checks: list[OversightCheck]


class Run(Message):
    """A search and where it stands. What was refuted, or could not be proved, is counted and never shown."""

    id: str
    status: Literal["running", "done", "failed"]
    method: Literal["exhaustive", "evolution"] | None = Field(
        description="`exhaustive` where every distinguishable combination of thresholds was scored; None while that is not known"
    )
    baseline: dict[str, int] = Field(description="the thresholds before the run, as in `Candidate.values`")
    baseline_agreement: float
    best: Candidate | None = Field(
        description="approved by the oversight; may be the baseline itself: then nothing that agrees better was proved"
    )
    oversight: Oversight | None = Field(
        description="None while there is no candidate to look at, and for runs from before there was oversight"
    )
    refuted_candidates: int
    unproved_candidates: int = Field(description="neither proved nor refuted")
    evaluations: int = Field(description="combinations of thresholds that were scored")
    generations: int
    outcomes: int
    seed: int
    detail: str | None
    started_by: str
    created_at: datetime
    finished_at: datetime | None
