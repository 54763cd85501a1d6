"""C2SP signed notes and transparency-log checkpoints, with Ed25519 signatures (type 0x01).

Sources: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint. Other signature types, such as a witness's
cosignatures, are kept as they stand in a note and ignored in verification, as the specification asks.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from acgs1.core.merkle import HASH_LENGTH, TreeHead
from acgs1.kit.signing import SigningKey, VerifyingKey

_ED25519 = b"\x01"
_MAX_NOTE_BYTES = 1 << 20
_MAX_SIGNATURES = 100
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_HASH = re.compile(r"[0-9a-f]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """A note, checkpoint or verifier key is malformed, or no trusted signature stands under it."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: `key_hash` are the four bytes of the key ID, `signature` what follows them."""

    name: str
    key_hash: bytes
    signature: bytes

    def line(self) -> str:
        return f"— {self.name} {base64.b64encode(self.key_hash + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note: its text (with the final newline) MUST be ignored until `NoteVerifier.verify` has passed."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(signature.line() for signature in self.signatures)}"


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A verifier key: the name and public key that a reader of notes trusts."""

    name: str
    key: VerifyingKey

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Read `<name>+<key ID in hex>+<base64(type || key)>`; raises NoteError for any other form or type."""
        parts = vkey.split("+", 2)
        if len(parts) != 3 or not _KEY_HASH.fullmatch(parts[1]):
            raise NoteError(f"a verifier key looks like `<name>+<8 hex digits>+<base64>`, not `{vkey[:100]}`")
        material = _base64(parts[2], "verifier key")
        if material[:1] != _ED25519 or len(material) != 33:
            raise NoteError(f"verifier key `{vkey[:100]}` is not of type 0x01 (Ed25519)")
        verifier = cls(parts[0], VerifyingKey(material[1:]))
        if verifier.key_hash.hex() != parts[1]:
            raise NoteError(f"key ID `{parts[1]}` of `{vkey[:100]}` is not that of its name and key")
        return verifier

    @property
    def key_hash(self) -> bytes:
        """The key ID: SHA-256(name || 0x0A || 0x01 || public key)[:4]."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.key.raw).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(_ED25519 + self.key.raw).decode()}"

    def verify(self, note: Note) -> None:
        """Raises NoteError unless this key signed the note: at least one signature by it, and none that fails."""
        ours = [s for s in note.signatures if s.name == self.name and s.key_hash == self.key_hash]
        if not ours:
            raise NoteError(f"the note carries no signature of `{self.name}` with key ID `{self.key_hash.hex()}`")
        if not all(self.key.verify(s.signature, note.text.encode()) for s in ours):
            raise NoteError(f"the signature of `{self.name}` does not match the note's text")


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A named private key that signs notes."""

    name: str
    key: SigningKey

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.name, self.key.public)

    def sign(self, text: str) -> Note:
        """A note with this key's signature; raises NoteError when `text` cannot be a note's text."""
        _check_text(text)
        return Note(text, (NoteSignature(self.name, self.verifier.key_hash, self.key.sign(text.encode())),))


def parse_note(note: str) -> Note:
    """Take a note apart without verifying anything; raises NoteError where it breaks the format.

    Only the canonical base64 of a signature is accepted, so that `str(parse_note(x)) == x`.
    """
    if len(note.encode(errors="surrogatepass")) > _MAX_NOTE_BYTES:
        raise NoteError(f"the note is larger than {_MAX_NOTE_BYTES} bytes")
    at = note.rfind("\n\n")
    if at < 0:
        raise NoteError("a note is text, an empty line, and signature lines; there is no empty line")
    text, block = note[: at + 1], note[at + 2 :]
    _check_text(text)
    if not block.endswith("\n"):
        raise NoteError("the last signature line must end with a newline, and there must be one")
    lines = block[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise NoteError(f"the note carries {len(lines)} signatures; at most {_MAX_SIGNATURES} are read")
    return Note(text, tuple(_parse_signature(line) for line in lines))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The text of a checkpoint: which log, how many leaves, which root; extension lines are opaque."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def head(self) -> TreeHead:
        return TreeHead(self.size, self.root)

    def text(self) -> str:
        """The note text; raises NoteError for an empty origin or one with a newline, or a root of another length."""
        if not self.origin or "\n" in self.origin or len(self.root) != HASH_LENGTH or self.size < 0:
            raise NoteError("a checkpoint has a non-empty origin line, a size and a root of 32 bytes")
        if any(not line or "\n" in line for line in self.extensions):
            raise NoteError("an extension line of a checkpoint is one non-empty line")
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `text`; raises NoteError where the format is broken."""
        if not text.endswith("\n"):
            raise NoteError("the text of a checkpoint ends with a newline")
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError("a checkpoint has at least three lines (origin, size, root), none of them empty")
        origin, size, root, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise NoteError(f"the tree size is a decimal number without leading zeroes, not `{size[:40]}`")
        digest = _base64(root, "root hash")
        if len(digest) != HASH_LENGTH:
            raise NoteError(f"the root hash has {len(digest)} bytes instead of {HASH_LENGTH}")
        return cls(origin, int(size), digest, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> str:
    """The checkpoint as a signed note. The signer's name must be the origin (tlog-checkpoint: SHOULD; here: must)."""
    if signer.name != checkpoint.origin:
        raise NoteError(f"the key of `{signer.name}` does not sign for the log `{checkpoint.origin}`")
    return str(signer.sign(checkpoint.text()))


def open_checkpoint(note: str, verifier: NoteVerifier) -> Checkpoint:
    """The checkpoint in a note that `verifier` signed for the log of its own name; raises NoteError otherwise."""
    parsed = parse_note(note)
    verifier.verify(parsed)
    checkpoint = Checkpoint.from_text(parsed.text)
    if checkpoint.origin != verifier.name:
        raise NoteError(f"the checkpoint is of the log `{checkpoint.origin}`, not of `{verifier.name}`")
    return checkpoint


def _parse_signature(line: str) -> NoteSignature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "—" or not encoded:
        raise NoteError(f"a signature line is `— <key name> <base64>`, not `{line[:100]}`")
    _check_name(name)
    blob = _base64(encoded, "signature")
    if len(blob) < 5:
        raise NoteError(f"the signature of `{name}` is shorter than a key ID and one byte")
    return NoteSignature(name, blob[:4], blob[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name) or _CONTROL.search(name):
        raise NoteError(f"a key name is non-empty and has no space, control character or plus: `{name[:100]}`")


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("the text of a note ends with a newline")
    if _CONTROL.search(text):
        raise NoteError("the text of a note has no control character other than newline")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoteError("the text of a note is valid UTF-8; it has a lone surrogate") from None


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise NoteError(f"the {what} is not canonical base64: `{text[:100]}`")
    return data
