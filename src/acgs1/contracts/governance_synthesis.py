"""Boundary of the governance synthesis service (port 8004)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from acgs1.contracts.common import Message, ProblemItem, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Counterexample, VerificationReport

Strategy = Literal["permissive", "literal"]
"""`literal` drafts exactly what the sentences say. `permissive` leaves out the prohibitions of every principle that has a `never`
invariant: a floor to repair from, since a proof will miss exactly those."""


Instruction = Annotated[str, Field(min_length=1, max_length=1000)]
"""One or more rule sentences in controlled English, as a principle's text holds them."""


class NewDraft(Message):
    """Draft a policy set from the principles of `constitution`, and from `instructions` beside them.

    An instruction makes policies and changes no principle: what it allows must stand under the constitution as it is.
    """

    constitution: Constitution
    strategy: Strategy = "literal"
    instructions: Annotated[tuple[Instruction, ...], Field(max_length=50)] = ()


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


# --- workflows -------------------------------------------------------------------------------------------------------

WorkflowStatus = Literal["running", "completed", "failed", "cancelled"]
"""`failed` and `cancelled` stand still and can be resumed; `completed` is the end, also when the vote said no."""


class NewPolicyCreation(Message):
    """Take a policy set from sentences into force: draft, proof (and repair), bundle, proposal, vote, activation, evidence.

    It is drafted from the constitution in force and from `instructions` beside it.
    """

    name: Annotated[str, Field(min_length=1, max_length=200, description="of the bundle and of the proposal")]
    instructions: Annotated[tuple[Instruction, ...], Field(max_length=50)] = ()
    strategy: Strategy = "literal"
    repairs: Annotated[int, Field(ge=0, le=8, description="how often a refuted draft may be repaired")] = 4
    voting_seconds: Annotated[int, Field(ge=1, le=30 * 86400)] = 3 * 86400


class WorkflowStep(Message):
    """A step that is done; it is not done again, whatever happens to the process."""

    name: str
    started_at: datetime
    finished_at: datetime
    result: JsonValue


class WorkflowProblem(Message):
    """Why a workflow failed, and at which step; `resume` tries that step again."""

    step: str
    code: str
    detail: str
    errors: list[ProblemItem] = []


class WorkflowSummary(Message):
    """`step` is the one at hand; `waiting_for` says what it waits for, when it waits."""

    id: str
    type: Literal["policy_creation"] = "policy_creation"
    name: str
    status: WorkflowStatus
    step: str | None
    waiting_for: str | None
    outcome: Literal["activated", "rejected"] | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None


class Workflow(WorkflowSummary):
    request: NewPolicyCreation
    steps: list[WorkflowStep]
    problem: WorkflowProblem | None
