"""Boundary of the governance synthesis service (port 8004)."""

from datetime import datetime
from typing import Literal

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Counterexample, VerificationReport

Strategy = Literal["permissive", "literal"]
"""`literal` drafts exactly what the sentences say; `permissive` leaves out the exceptions, as a floor to repair from."""


class NewDraft(Message):
    """Draft a policy set from the principles of `constitution`."""

    constitution: Constitution
    strategy: Strategy = "literal"


class Sentence(Message):
    """How one sentence of a principle was read: the policy it became, or why it became none."""

    principle_id: str
    text: str
    policy_id: str | None
    reason: str | None = None


class Draft(Message):
    id: str
    constitution_hash: Sha256
    policies: str
    policies_hash: Sha256
    author: str
    strategy: str
    parent_id: str | None
    sentences: list[Sentence]
    created_at: datetime


class RepairRequest(Message):
    """Repair a draft from the counterexamples of the report that refuted it."""

    report: VerificationReport


class RepairNote(Message):
    principle_id: str
    change: str
    counterexample: Counterexample | None
