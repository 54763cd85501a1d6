"""Boundary of the integrity service (port 8002): the transparency log and what can be proved from it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.events import Event


class Entry(Message):
    """One leaf: the event and its place. `leaf_hash` = SHA-256(0x00 || canonical JSON of `event`) (RFC 9162, section 2.1.1)."""

    leaf_index: int
    leaf_hash: Sha256
    event: Event
    logged_at: datetime


class Checkpoint(Message):
    """The log's head as a C2SP signed note (tlog-checkpoint); `note` is authoritative, the rest is read from it."""

    note: str
    origin: str
    tree_size: int
    root_hash: Sha256
    signed_at: datetime


class InclusionProof(Message):
    leaf_index: int
    tree_size: int
    leaf_hash: Sha256
    hashes: list[Sha256]
    checkpoint: str


class ConsistencyProof(Message):
    old_size: int
    new_size: int
    hashes: list[Sha256]
    old_root: Sha256
    new_root: Sha256


class Anchor(Message):
    """Proof that a checkpoint's root stands on the ledger: the whole signed transaction, so that it verifies offline."""

    tree_size: int
    root_hash: Sha256
    signature: str = Field(description="transaction signature, base58")
    slot: int
    transaction: str = Field(description="the signed wire transaction, base64")
    program_id: str
    authority: str = Field(description="public key of the log authority, base58")


class EvidenceBundle(Message):
    """Everything that an auditor needs to verify one record without asking us anything: `acgs1 verify evidence FILE`."""

    format: str = "acgs1-evidence/1"
    entry: Entry
    proof: InclusionProof
    checkpoint: str
    log_key: str = Field(description="verifier key of the log, C2SP vkey form; compare with one you got elsewhere")
    anchor: Anchor
    anchor_consistency: ConsistencyProof | None = Field(
        default=None, description="from the checkpoint's tree to the anchored tree, where they differ"
    )


class NewAppeal(Message):
    """A challenge of a decision or a policy."""

    subject: Annotated[str, Field(pattern=r"^(dec|pol|bnd)_[0-9a-f-]+$|^[0-9a-f]{64}$")]
    grounds: Annotated[str, Field(min_length=1, max_length=4000)]


class Ruling(Message):
    outcome: Annotated[str, Field(pattern=r"^(upheld|dismissed)$")]
    reason: Annotated[str, Field(min_length=1, max_length=4000)]


class Appeal(Message):
    id: str
    subject: str
    grounds: str
    appellant: str
    status: str
    ruling: Ruling | None
    created_at: datetime
    ruled_at: datetime | None
