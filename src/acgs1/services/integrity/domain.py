"""Pure rules of the log: what a leaf is, what a checkpoint must agree with, and how evidence is verified offline."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

from pydantic import ValidationError

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.events import Commitment, Event
from acgs1.contracts.integrity import (
    MAX_LEAF_BYTES,
    Anchor,
    Entry,
    EvidenceBundle,
    leaf_content,
)
from acgs1.core.canonical import CanonicalError, canonical_json
from acgs1.core.clock import format_instant
from acgs1.core.merkle import TreeHead, leaf_hash, verify_consistency, verify_inclusion
from acgs1.kit.notes import NoteError, NoteVerifier, open_checkpoint
from acgs1.ledger.anchor_proof import verify_anchor_transaction
from acgs1.services.integrity.errors import EventNotLoggable, MalformedEvidence

READERS = frozenset({Role.AUDITOR, Role.ADMIN, Role.LEGISLATOR, Role.OPERATOR, Role.SERVICE})
"""Who may read every entry. Anybody may read the entries in which they are the actor."""

_HEAD = b'{"event":'
_BETWEEN = b',"logged_at":"'
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_LONG_NUMBER = re.compile(rb"[0-9]{16}")


def may_read(identity: Identity, event: Event) -> bool:
    return bool(READERS.intersection(identity.roles)) or identity.id == event.actor


# --- leaves ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf as stored: `content` is what was hashed."""

    index: int
    hash: bytes
    content: bytes
    event: Event

    def entry(self) -> Entry:
        return Entry.model_validate(
            {"leaf_index": self.index, "leaf_hash": self.hash.hex(), **json.loads(self.content)}
        )


def encode_event(event: Event) -> bytes:
    """The canonical JSON of `event`; raises EventNotLoggable where it has none, or makes a leaf of over 65,535 bytes."""
    try:
        encoded = canonical_json(event.model_dump(mode="json"))
        # A number such as 1e16 is written as an integer that readers cannot hold exactly: the leaf would not verify again.
        stable = not _LONG_NUMBER.search(encoded) or canonical_json(json.loads(encoded)) == encoded
    except ValueError as error:
        # CanonicalError, or pydantic's own for a time in year 1 or 9999 whose UTC form lies outside the calendar.
        raise EventNotLoggable(f"event `{event.id}` has no canonical JSON: {error}") from error
    if not stable:
        raise EventNotLoggable(f"event `{event.id}` holds a number that changes when read again; write it as a string")
    if (size := len(_content(encoded, _ANY_TIME))) > MAX_LEAF_BYTES:
        raise EventNotLoggable(
            f"event `{event.id}` takes {size} bytes as a leaf; at most {MAX_LEAF_BYTES} fit (log a hash of large data)"
        )
    return encoded


def make_leaf(event: Event, encoded: bytes, index: int, logged_at: datetime) -> Leaf:
    """The leaf of `event`, whose `encode_event` is `encoded`."""
    content = _content(encoded, logged_at)
    return Leaf(index, leaf_hash(content), content, event)


def records_event(content: bytes, encoded: bytes) -> bool:
    """Whether the leaf with `content` records exactly the event that `encoded` is."""
    return content.startswith(_HEAD + encoded + _BETWEEN) and len(content) == len(_content(encoded, _ANY_TIME))


def _content(encoded: bytes, logged_at: datetime) -> bytes:
    """As `leaf_content`, put together from the encoded event."""
    return b"".join((_HEAD, encoded, _BETWEEN, format_instant(logged_at).encode(), b'"}'))


def commit(value: str, salt: bytes) -> Commitment:
    """The commitment to a personal value (`acgs1.contracts.events.Commitment`)."""
    return Commitment(sha256=sha256(salt + canonical_json(value)).hexdigest())


# --- evidence -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a verification. `passed` is None where nothing was given to check against."""

    name: str
    passed: bool | None
    detail: str


def verified(checks: Sequence[Check]) -> bool:
    """Whether no check failed (and there was at least one)."""
    return bool(checks) and all(check.passed is not False for check in checks)


def parse_evidence(text: bytes | str) -> EvidenceBundle:
    """Read a bundle; raises MalformedEvidence for anything that is not exactly the JSON value of one.

    Pydantic would take `1.5e1` for 15 or a space for the `T` of a time; here a value in any other spelling than the
    one that the service writes is refused, and so is a member that occurs twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        bundle = EvidenceBundle.model_validate(value)
        exact = _typed(value) == _typed(_as_written(bundle))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise MalformedEvidence(f"`{where}`: {first['msg']}") from error
    except (ValueError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedEvidence(f"not a JSON document of the right form: {error}") from error
    if not exact:
        raise MalformedEvidence("a value is spelled in another way than the log writes it, so the file was changed")
    return bundle


def verify_evidence(
    bundle: EvidenceBundle,
    log_key: str | None = None,
    *,
    authority: str | None = None,
    program_id: str | None = None,
) -> list[Check]:
    """Every check that needs nothing but the bundle, and the keys that the auditor got elsewhere.

    `log_key` is the log's verifier key, `authority` the log authority's address on the ledger, `program_id` the address
    of the governance program; where one is None, its check says so and the bundle's own value is used. Never raises.
    """
    entry, proof, anchor = bundle.entry, bundle.proof, bundle.anchor
    checks = [
        _expected("log key", bundle.log_key, log_key),
        _expected("log authority", anchor.authority, authority),
        _expected("program", anchor.program_id, program_id),
    ]
    try:
        recomputed = leaf_hash(leaf_content(entry.event, entry.logged_at)).hex()
        matches = recomputed == entry.leaf_hash == proof.leaf_hash
        checks.append(Check("leaf hash", matches, f"the event hashes to {recomputed}"))
    except CanonicalError as error:
        checks.append(Check("leaf hash", False, str(error)))
    try:
        checkpoint = open_checkpoint(bundle.checkpoint, NoteVerifier.from_vkey(bundle.log_key))
    except (NoteError, ValueError) as error:
        checks.append(Check("checkpoint signature", False, str(error)))
        head = None
    else:
        head = checkpoint.head
        detail = f"`{checkpoint.origin}` signed {head.size} leaves with root {head.root.hex()}"
        checks.append(Check("checkpoint signature", True, detail))
    checks.append(_check_inclusion(bundle, head))
    anchored, check = _check_transaction(anchor)
    checks.append(check)
    checks.append(_check_anchor(bundle, head, anchored))
    return checks


def _check_inclusion(bundle: EvidenceBundle, head: TreeHead | None) -> Check:
    name, entry, proof = "inclusion", bundle.entry, bundle.proof
    if proof.leaf_index != entry.leaf_index or proof.checkpoint != bundle.checkpoint:
        return Check(name, False, "the proof is for another leaf or another checkpoint than the bundle's")
    if head is None or proof.tree_size != head.size:
        return Check(name, False, f"no verified checkpoint of {proof.tree_size} leaves stands behind the proof")
    hashes = [bytes.fromhex(value) for value in proof.hashes]
    if not verify_inclusion(entry.leaf_index, bytes.fromhex(entry.leaf_hash), head, hashes):
        return Check(name, False, "the proof does not lead from the leaf to the checkpoint's root")
    return Check(name, True, f"leaf {entry.leaf_index} of {head.size}, by {len(hashes)} hashes")


def _check_transaction(anchor: Anchor) -> tuple[TreeHead | None, Check]:
    name = "anchor transaction"
    try:
        raw = base64.b64decode(anchor.transaction, validate=True)
        if base64.b64encode(raw).decode() != anchor.transaction:
            return None, Check(name, False, "the transaction is not in canonical base64")
        found = verify_anchor_transaction(raw, anchor.authority, anchor.program_id)
    except ValueError as error:
        return None, Check(name, False, str(error))
    if found.signature != anchor.signature:
        return None, Check(name, False, f"the transaction's signature is {found.signature}, not the bundle's")
    detail = f"{anchor.authority} signed {found.tree_size} leaves with root {found.root}"
    return TreeHead(found.tree_size, bytes.fromhex(found.root)), Check(name, True, detail)


def _check_anchor(  # noqa: PLR0911 - one return per way to fail
    bundle: EvidenceBundle, head: TreeHead | None, anchored: TreeHead | None
) -> Check:
    name, anchor, proof = "anchor", bundle.anchor, bundle.anchor_consistency
    if head is None or anchored is None:
        return Check(name, False, "without a verified checkpoint and transaction there is nothing to compare")
    if (anchor.tree_size, anchor.root_hash) != (anchored.size, anchored.root.hex()):
        return Check(name, False, "the transaction anchors another tree than the bundle says")
    if anchored.size <= bundle.entry.leaf_index:
        return Check(name, False, f"the anchored tree of {anchored.size} leaves does not reach the entry")
    if proof is None:
        if head != anchored:
            return Check(name, False, "the checkpoint is not the anchored one, and no consistency proof ties them")
        return Check(name, True, "the checkpoint's own root stands on the ledger")
    old, new = sorted((head, anchored))
    stated = (proof.old_size, proof.old_root, proof.new_size, proof.new_root)
    if head.size == anchored.size or stated != (old.size, old.root.hex(), new.size, new.root.hex()):
        return Check(name, False, "the consistency proof is not for the checkpoint and the anchored tree")
    if not verify_consistency(old, new, [bytes.fromhex(value) for value in proof.hashes]):
        return Check(name, False, "the consistency proof does not hold: the two trees are different histories")
    return Check(name, True, f"the trees of {old.size} and {new.size} leaves are one history")


def _expected(name: str, stated: str, trusted: str | None) -> Check:
    if trusted is None:
        return Check(name, None, f"not compared; the bundle says {stated}")
    if trusted != stated:
        return Check(name, False, f"the bundle says {stated}, but {trusted} is trusted")
    return Check(name, True, stated)


def _as_written(bundle: EvidenceBundle) -> object:
    return json.loads(bundle.model_dump_json())


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a member twice")
    return value


def _typed(value: object) -> object:
    """A form whose equality is that of JSON values: in Python, `True == 1`."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_typed(item) for item in cast("list[object]", value)]
    return type(value), value
