"""Check offline that a log root stands on the ledger: the authority's signed transaction is the evidence.

Imports the standard library and `cryptography` alone. What this proves: the log authority signed a transaction that
calls `anchor_root` of the given program with this size and root. That it also landed is what the ledger says for its
signature (`getTransaction`); a transaction has 60 seconds to do so and the program refuses a tree that does not grow.

Wire format: https://solana.com/docs/core/transactions (compact-u16 lengths, message header, legacy and version 0).
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from acgs1.ledger.base58 import b58decode, b58encode

# Anchor's instruction discriminator.
ANCHOR_ROOT: Final = hashlib.sha256(b"global:anchor_root").digest()[:8]
_ARGUMENTS: Final = 8 + 32


class AnchorProofError(ValueError):
    """The transaction does not prove that the authority anchored a root."""


@dataclass(frozen=True, slots=True)
class AnchoredRoot:
    """What the transaction anchors. `signature` (base58) is the one to look up on the ledger."""

    tree_size: int
    root: str
    signature: str


def verify_anchor_transaction(raw: bytes, log_authority: str, program_id: str) -> AnchoredRoot:
    """The tree size and root (hex) that the signed wire transaction `raw` anchors.

    Every signature is verified (Ed25519, RFC 8032), and exactly one `anchor_root` of `program_id` (base58) with
    `log_authority` (base58) as its signing authority must be in it. Raises AnchorProofError otherwise.
    """
    authority, program = _address(log_authority), _address(program_id)
    reader = _Reader(raw)
    signatures = [reader.take(64) for _ in range(reader.compact_u16())]
    signed = raw[reader.position :]
    message = _read_message(reader)
    if message.required != len(signatures):
        raise AnchorProofError("the message's header does not fit its signatures")
    if reader.position != len(raw):
        raise AnchorProofError(f"{len(raw) - reader.position} bytes too many")

    found = [
        _anchored(message, call, authority)
        for call in message.calls
        if message.key(call.program) == program and call.data[:8] == ANCHOR_ROOT
    ]
    if len(found) != 1:
        raise AnchorProofError(f"expected one `anchor_root` of program `{program_id}`, found {len(found)}")
    for key, signature in zip(message.keys, signatures, strict=False):
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
        except InvalidSignature:
            raise AnchorProofError(f"the signature of `{b58encode(key)}` is wrong") from None
    tree_size, root = found[0]
    return AnchoredRoot(tree_size, root, b58encode(signatures[0]))


@dataclass(frozen=True, slots=True)
class _Call:
    program: int
    accounts: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class _Message:
    required: int
    keys: tuple[bytes, ...]
    calls: tuple[_Call, ...]

    def key(self, index: int) -> bytes | None:
        """None for an index behind the static keys: a lookup table's, which the message does not hold."""
        return self.keys[index] if index < len(self.keys) else None


def _read_message(reader: "_Reader") -> _Message:
    required = reader.take(1)[0]
    versioned = required & 0x80 != 0
    if versioned:
        if required != 0x80:
            raise AnchorProofError(f"unknown message version {required & 0x7F}")
        required = reader.take(1)[0]
    readonly_signed, readonly_unsigned = reader.take(1)[0], reader.take(1)[0]
    keys = tuple(reader.take(32) for _ in range(reader.compact_u16()))
    if not 0 < required <= len(keys) or readonly_signed >= required or readonly_unsigned > len(keys) - required:
        raise AnchorProofError("the message's header does not fit its accounts")
    reader.take(32)  # recent blockhash
    calls = tuple(
        _Call(reader.take(1)[0], reader.take(reader.compact_u16()), reader.take(reader.compact_u16()))
        for _ in range(reader.compact_u16())
    )
    for _ in range(reader.compact_u16() if versioned else 0):  # address table lookups
        reader.take(32)
        reader.take(reader.compact_u16())
        reader.take(reader.compact_u16())
    return _Message(required, keys, calls)


def _anchored(message: _Message, call: _Call, authority: bytes) -> tuple[int, str]:
    if len(call.data) != 8 + _ARGUMENTS:
        raise AnchorProofError(f"`anchor_root` takes {_ARGUMENTS} bytes of arguments, got {len(call.data) - 8}")
    # The first account of anchor_root is the authority; it counts only as one of the signers.
    if not call.accounts or call.accounts[0] >= message.required or message.keys[call.accounts[0]] != authority:
        raise AnchorProofError(f"`anchor_root` is not signed by the log authority `{b58encode(authority)}`")
    return int.from_bytes(call.data[8:16], "little"), call.data[16:48].hex()


def _address(text: str) -> bytes:
    try:
        address = b58decode(text)
    except ValueError as error:
        raise AnchorProofError(f"not an address: {error}") from None
    if len(address) != 32:
        raise AnchorProofError(f"`{text}` is not an address of 32 bytes in base58")
    return address


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self.position : self.position + count]
        if len(piece) != count:
            raise AnchorProofError(
                f"the transaction ends after {len(self._data)} bytes, {count - len(piece)} too early"
            )
        self.position += count
        return piece

    def compact_u16(self) -> int:
        value = 0
        for shift in (0, 7, 14):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if value > 0xFFFF or (byte == 0 and shift):
                    break
                return value
        raise AnchorProofError("a length is not in its shortest form")
