"""Ed25519 keys (RFC 8032): key files, signatures, and the key's forms in JOSE (RFC 7638, RFC 8037).

One kind of key for everything that the system signs: tokens, checkpoints, certificates, bundles.
"""

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex
from acgs1.kit.home import write_private

_KEY_LENGTH = 32
_SIGNATURE_LENGTH = 64
# A PKCS#8 Ed25519 key in PEM takes 119 bytes; a file much larger than that is not one of ours.
_MAX_KEY_FILE = 4096


class KeyFileError(Exception):
    """A key file cannot be trusted or read; the message names the file, what is wrong and what would be right."""


def base64url_encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """The inverse of `base64url_encode`.

    Raises ValueError for padding, for characters outside the alphabet and for a form that is not the
    canonical one: each value has exactly one text, so a changed character is always noticed.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"not unpadded base64url: `{text[:80]}`") from None
    if base64url_encode(data) != text:
        raise ValueError(f"not the canonical unpadded base64url form: `{text[:80]}`")
    return data


class VerifyingKey:
    """The public half of an Ed25519 key. Equal when the key bytes are equal."""

    __slots__ = ("_key", "_raw")

    def __init__(self, raw: bytes) -> None:
        """`raw` is the 32-byte encoding of RFC 8032, section 5.1.2; raises ValueError for another length."""
        if len(raw) != _KEY_LENGTH:
            raise ValueError(f"an Ed25519 public key has {_KEY_LENGTH} bytes, not {len(raw)}")
        self._raw = bytes(raw)
        self._key = Ed25519PublicKey.from_public_bytes(self._raw)

    @classmethod
    def from_base64url(cls, text: str) -> Self:
        """The key whose 32 bytes `text` encodes; raises ValueError when it does not."""
        return cls(base64url_decode(text))

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, object]) -> Self:
        """The key of an OKP JWK with curve Ed25519 (RFC 8037, section 2); raises ValueError for any other JWK."""
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            raise ValueError("the JWK is not an Ed25519 key: `kty` must be `OKP` and `crv` `Ed25519`")
        x = jwk.get("x")
        if not isinstance(x, str):
            raise ValueError("the JWK has no public key: member `x` must be a string")  # noqa: TRY004 - bad data, not a bad call
        return cls.from_base64url(x)

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the key."""
        return self._raw

    @property
    def key(self) -> Ed25519PublicKey:
        """The key as the `cryptography` package has it, for libraries that take that form (PyJWT)."""
        return self._key

    @property
    def base64url(self) -> str:
        """The 32 bytes in base64url."""
        return base64url_encode(self._raw)

    @property
    def key_id(self) -> str:
        """The JWK thumbprint with SHA-256 in base64url (RFC 7638, RFC 8037 section 2)."""
        members = {"crv": "Ed25519", "kty": "OKP", "x": self.base64url}
        return base64url_encode(bytes.fromhex(sha256_hex(canonical_json(members))))

    def jwk(self) -> dict[str, str]:
        """The public JWK for a JWK set (RFC 7517): `kid` is the thumbprint."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self.base64url,
            "kid": self.key_id,
            "use": "sig",
            "alg": "EdDSA",
        }

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's signature of exactly `data`. Never raises for a bad signature."""
        if len(signature) != _SIGNATURE_LENGTH:
            return False
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.base64url})"


class SigningKey:
    """An Ed25519 private key. Its repr shows only the key id, so that a log line cannot leak it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A fresh key from the operating system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key that the 32-byte RFC 8032 seed determines; raises ValueError for another length."""
        if len(seed) != _KEY_LENGTH:
            raise ValueError(f"an Ed25519 seed has {_KEY_LENGTH} bytes, not {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a PKCS#8 PEM file.

        Raises FileNotFoundError when there is none, KeyFileError when it is not a plain file of this user
        that nobody else can read or write, or holds no Ed25519 key.
        """
        return cls(_parse(_read_private(Path(path)), Path(path)))

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Self:
        """The key in the file `path`, which is created (0600, missing parent directories 0700) when absent.

        Creation is atomic and durable: the file appears whole or not at all, and of several processes that
        create it at once all return the same key. Errors as in `load`.
        """
        path = Path(path)
        try:
            return cls.load(path)
        except FileNotFoundError:
            pass
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = cls.generate()
        # A loser of the race fails on the existing name and then reads the winner's key.
        with contextlib.suppress(FileExistsError):
            key.save(path)
        return cls.load(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key as PKCS#8 PEM to a new file, 0600, atomically.

        Raises FileExistsError rather than replace a file.
        """
        write_private(Path(path), self.pem(), exclusive=True)

    @cached_property
    def public(self) -> VerifyingKey:
        """The key that verifies what this one signs."""
        return VerifyingKey(self._key.public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        """The JWK thumbprint of the public key (RFC 7638)."""
        return self.public.key_id

    @property
    def key(self) -> Ed25519PrivateKey:
        """The key as the `cryptography` package has it, for libraries that take that form (PyJWT)."""
        return self._key

    @property
    def seed(self) -> bytes:
        """The 32-byte RFC 8032 seed: secret; for formats that need it, such as Solana's keypair files."""
        return self._key.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `data`; the same data always gives the same signature."""
        return self._key.sign(data)

    def jwk(self) -> dict[str, str]:
        """The public JWK; the private member is never included."""
        return self.public.jwk()

    def pem(self) -> bytes:
        """The unencrypted PKCS#8 PEM form: secret."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id})"


def _read_private(path: Path) -> bytes:
    try:
        # O_NONBLOCK so that a FIFO in the key's place is refused below instead of hanging the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        hint = " (a symbolic link is refused)" if path.is_symlink() else ""
        raise KeyFileError(f"key file `{path}` cannot be opened: {error.strerror}{hint}") from error
    # The checks are on the open descriptor, so that the file cannot be exchanged between check and read.
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"key file `{path}` is not a regular file")
        if status.st_uid != os.geteuid():
            raise KeyFileError(f"key file `{path}` belongs to user {status.st_uid}, not to this one ({os.geteuid()})")
        if mode := stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyFileError(
                f"key file `{path}` is open to others (mode {stat.S_IMODE(status.st_mode):04o}, extra {mode:04o}); "
                f"run `chmod 600 {path}`, and replace the key if somebody may have read it"
            )
        return os.read(descriptor, _MAX_KEY_FILE + 1)
    finally:
        os.close(descriptor)


def _parse(pem: bytes, path: Path) -> Ed25519PrivateKey:
    if len(pem) > _MAX_KEY_FILE:
        raise KeyFileError(f"key file `{path}` is larger than {_MAX_KEY_FILE} bytes: not a single PEM key")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"key file `{path}` holds no unencrypted PKCS#8 PEM key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"key file `{path}` holds a key of another kind; an Ed25519 key is needed")
    return key
