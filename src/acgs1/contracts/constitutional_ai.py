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


class PrincipleChange(Message):
    """`principle` as it would be; as it was, when it is retired."""

    change: Literal["add", "amend", "retire"]
    principle: Principle


class Difference(Message):
    """What one constitution changes in another: principles by their id, and the text around them."""

    old_hash: Sha256
    new_hash: Sha256
    principles: list[PrincipleChange]
    text: list[Literal["name", "preamble", "schema", "order"]]


def difference(old: Constitution, new: Constitution) -> Difference:
    """What `new` changes in `old`. `order`: principles that stay have changed places among themselves."""
    before = {principle.id: principle for principle in old.principles}
    after = {principle.id: principle for principle in new.principles}
    changes = [
        PrincipleChange(change="amend" if principle.id in before else "add", principle=principle)
        for principle in new.principles
        if before.get(principle.id) != principle
    ]
    changes += [PrincipleChange(change="retire", principle=p) for p in old.principles if p.id not in after]
    text: list[Literal["name", "preamble", "schema", "order"]] = []
    if old.name != new.name:
        text.append("name")
    if old.preamble != new.preamble:
        text.append("preamble")
    if old.schema_text != new.schema_text:
        text.append("schema")
    if [name for name in before if name in after] != [name for name in after if name in before]:
        text.append("order")
    return Difference(old_hash=old.hash, new_hash=new.hash, principles=changes, text=text)
