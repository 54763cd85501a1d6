"""Boundary of the constitutional AI service (port 8001)."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution, Principle

ConstitutionStatus = Literal["draft", "adopting", "in_force", "superseded"]


class ConstitutionVersion(Message):
    """A constitution and where it stands. `version` counts the constitutions that came into force, from 1; None for one that has not."""

    hash: Sha256
    name: str
    status: ConstitutionStatus
    version: int | None
    principles: int
    created_by: str
    created_at: datetime
    in_force_at: datetime | None
    ledger_signature: str | None
    refusal: str | None = Field(description="why the last attempt to adopt it failed")


class ConstitutionDocument(Message):
    """A stored constitution in full."""

    meta: ConstitutionVersion
    constitution: Constitution


class Check(Message):
    """What validation found: compiled guards of `never` invariants, and principles that only people can judge."""

    hash: Sha256
    guards: str
    principles_without_invariants: list[str]


class PrincipleInForce(Message):
    constitution_hash: Sha256
    principle: Principle
