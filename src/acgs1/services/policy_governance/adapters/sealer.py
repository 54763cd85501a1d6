"""Bundles signed with this service's key."""

from pathlib import Path

from acgs1.kit.signing import SigningKey, base64url_decode, base64url_encode

# Keeps a bundle's signature from being taken for one over something else.
_DOMAIN = b"acgs1-bundle/1\n"


class KeySealer:
    """Ed25519 over the bundle's hash."""

    def __init__(self, folder: Path) -> None:
        self._key = SigningKey.load_or_create(folder / "bundle.pem")

    def seal(self, digest: str) -> str:
        return base64url_encode(self._key.sign(_DOMAIN + digest.encode()))

    def is_sealed(self, digest: str, signature: str) -> bool:
        try:
            raw = base64url_decode(signature)
        except ValueError:
            return False
        return self._key.public.verify(raw, _DOMAIN + digest.encode())
