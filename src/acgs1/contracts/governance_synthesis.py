"""Boundary of the governance synthesis service (port 8004)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Counterexample, VerificationReport

Strategy = Literal["permissive", "literal"]
"""`literal` drafts exactly what the sentences say. `permissive` leaves out the prohibitions of every principle that has a `never`
invariant: a floor to repair from, since a proof will miss exactly those."""


class NewDraft(Message):
    """Draft a policy set from the principles of `constitution`."""

    constitution: Constitution
    strategy: Strategy = "literal"


class Sentence(Message):
    """How one sentence of a principle was read: the policies it became, or why it became none."""

    principle_id: str
    text: str
    start: Annotated[int, Field(ge=0, description="offset of the sentence in the principle's text, in characters")]
    policy_ids: list[str]
    reason: str | None = Field(default=None, description="why there is no policy")
    position: int | None = Field(
        default=None, description="offset in the principle's text at which reading stopped, in characters"
    )


class RepairNote(Message):
    """What a repair did about one invariant (or one policy that could err), or why it could do nothing."""

    principle_id: str | None
    obligation_ids: list[str]
    change: str
    repaired: bool
    policy_ids: list[str] = Field(default=[], description="the policies that were added or changed")
    counterexample: Counterexample | None


class Draft(Message):
    id: str
    constitution_hash: Sha256
    policies: str
    policies_hash: Sha256
    author: str
    strategy: Strategy
    parent_id: str | None
    sentences: list[Sentence]
    actions_without_policy: list[str] = Field(
        default=[], description="actions of the schema that no sentence permits: they are denied"
    )
    notes: list[RepairNote] = Field(default=[], description="how this draft differs from its parent")
    created_by: str
    created_at: datetime


class DraftSummary(Message):
    """A draft without its texts, for lists."""

    id: str
    constitution_hash: Sha256
    policies_hash: Sha256
    author: str
    strategy: Strategy
    parent_id: str | None
    created_by: str
    created_at: datetime


class RepairRequest(Message):
    """Repair a draft from the counterexamples of the report that refuted it."""

    report: VerificationReport
