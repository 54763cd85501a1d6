"""Tokens signed with key files: one Ed25519 key per `kid`."""

from datetime import datetime
from pathlib import Path

import jwt

from acgs1.contracts.auth import Identity
from acgs1.core.ids import new_id
from acgs1.kit.access import AUDIENCE, ISSUER
from acgs1.kit.signing import SigningKey, VerifyingKey


class JwtSigner:
    """Access tokens (JWT, EdDSA). Keys live in `folder` as `<kid>.pem`, 0600."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, SigningKey] = {}

    def create(self) -> str:
        key = SigningKey.generate()
        key.save(self._folder / f"{key.key_id}.pem")
        self._loaded[key.key_id] = key
        return key.key_id

    def sign(self, kid: str, identity: Identity, issued_at: datetime, expires_at: datetime) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": identity.id,
            "name": identity.name,
            "roles": list(identity.roles),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": new_id("tok"),
        }
        return jwt.encode(claims, self._key(kid).key, algorithm="EdDSA", headers={"kid": kid, "typ": "at+jwt"})

    def public(self, kid: str) -> VerifyingKey | None:
        try:
            return self._key(kid).public
        except FileNotFoundError:
            return None

    def _key(self, kid: str) -> SigningKey:
        if kid not in self._loaded:
            self._loaded[kid] = SigningKey.load(self._folder / f"{kid}.pem")
        return self._loaded[kid]
