"""SHA-256 in the one form that the system writes: lower-case hexadecimal."""

import hashlib

from acgs1.core.canonical import canonical_json


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def content_hash(value: object) -> str:
    """SHA-256 of the canonical JSON (RFC 8785) of `value`: the identity of immutable content."""
    return sha256_hex(canonical_json(value))


def text_hash(text: str) -> str:
    """SHA-256 of `text` in UTF-8."""
    return sha256_hex(text.encode())
