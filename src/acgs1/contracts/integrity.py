"""Boundary of the integrity service (port 8002): the transparency log and what can be proved from it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.events import Event, Instant
from acgs1.core.canonical import canonical_json
from acgs1.core.clock import format_instant

MAX_LEAF_BYTES = 65_535
"""The longest leaf content: tlog-tiles gives an entry's length in 16 bits."""

Size = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A number of leaves, or the index of one."""


def leaf_content(event: Event, logged_at: datetime) -> bytes:
    """What a leaf holds: the canonical JSON of the event and of the instant at which the log took it.

    Raises CanonicalError for an event that has no canonical JSON (RFC 8785), such as one with an integer beyond 2^53-1.
    """
    return canonical_json({"event": event.model_dump(mode="json"), "logged_at": format_instant(logged_at)})


class Entry(Message):
    """One leaf: the event, when the log took it, and its place.

    `leaf_hash` = SHA-256(0x00 || `leaf_content(event, logged_at)`) (RFC 9162, section 2.1.1), so that neither the event nor the time can
    be told differently later.
    """

    leaf_index: Size
    leaf_hash: Sha256
    event: Event
    logged_at: Instant


class Checkpoint(Message):
    """A head of the log as a C2SP signed note (tlog-checkpoint). `note` is authoritative; `origin`, `tree_size` and `root_hash` are read
    from it. `signed_at` is the log's own statement and not part of the note."""

    note: str
    origin: str
    tree_size: Size
    root_hash: Sha256
    signed_at: Instant


class InclusionProof(Message):
    """RFC 9162, section 2.1.3: that `leaf_hash` stands at `leaf_index` in the tree that `checkpoint` signs."""

    leaf_index: Size
    tree_size: Size
    leaf_hash: Sha256
    hashes: Annotated[list[Sha256], Field(max_length=64)]
    checkpoint: str


class ConsistencyProof(Message):
    """RFC 9162, section 2.1.4: that the tree of `new_size` leaves begins with the tree of `old_size` leaves."""

    old_size: Size
    new_size: Size
    hashes: Annotated[list[Sha256], Field(max_length=65)]
    old_root: Sha256
    new_root: Sha256


class Anchor(Message):
    """Proof that a root stands on the ledger: the whole signed transaction, so that it verifies offline."""

    tree_size: Size
    root_hash: Sha256
    signature: str = Field(description="transaction signature, base58")
    transaction: str = Field(description="the signed wire transaction, base64")
    program_id: str = Field(description="address of the governance program, base58")
    authority: str = Field(description="public key of the log authority, base58")


class AnchorRecord(Anchor):
    """An anchor and where the ledger has it: what the log knows but a transaction does not say of itself."""

    slot: int
    anchored_at: Instant

    def evidence(self) -> Anchor:
        """The part that verifies offline."""
        return Anchor.model_validate(self.model_dump(exclude={"slot", "anchored_at"}))


class EvidenceBundle(Message):
    """Everything that an auditor needs to verify one record without asking us anything: `acgs1 verify evidence FILE`.

    Every field is bound by a hash or a signature: a bundle with any byte changed does not verify.
    """

    format: Literal["acgs1-evidence/1"] = "acgs1-evidence/1"
    entry: Entry
    proof: InclusionProof
    checkpoint: str
    log_key: str = Field(description="verifier key of the log, C2SP vkey form; compare with one you got elsewhere")
    anchor: Anchor
    anchor_consistency: ConsistencyProof | None = Field(
        default=None, description="between the checkpoint's tree and the anchored tree, where their sizes differ"
    )


class NewAppeal(Message):
    """A challenge of a decision or a policy."""

    subject: Annotated[str, Field(pattern=r"^(dec|pol|bnd)_[0-9a-f-]+$|^[0-9a-f]{64}$", max_length=80)]
    grounds: Annotated[str, Field(min_length=1, max_length=4000)]


class Ruling(Message):
    outcome: Literal["upheld", "dismissed"]
    reason: Annotated[str, Field(min_length=1, max_length=4000)]


class Appeal(Message):
    """`upheld` means that the appellant was right."""

    id: str
    subject: str
    grounds: str
    appellant: str
    status: Literal["open", "upheld", "dismissed"]
    ruling: Ruling | None
    ruled_by: str | None
    created_at: Instant
    ruled_at: Instant | None
