"""The key that certificates are signed with, in a file of its own."""

from pathlib import Path

from acgs1.kit.signing import SigningKey, base64url_encode


class CertificateSigner:
    """Ed25519 with the key in `folder`, made on first use (0600)."""

    def __init__(self, folder: Path) -> None:
        self._key = SigningKey.load_or_create(folder / "certificates.pem")

    @property
    def key_id(self) -> str:
        return self._key.key_id

    @property
    def public_key(self) -> str:
        return self._key.public.base64url

    def sign(self, data: bytes) -> str:
        return base64url_encode(self._key.sign(data))
