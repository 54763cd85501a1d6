"""The other services that this one asks: auth, constitutional AI, formal verification."""

from acgs1.contracts.auth import User
from acgs1.contracts.common import Message
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionDocument
from acgs1.contracts.formal_verification import Attestation, Certificate, VerifierKey
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex
from acgs1.kit.clients import PartClient
from acgs1.kit.errors import DependencyUnavailable, UpstreamRejected
from acgs1.kit.signing import VerifyingKey, base64url_decode
from acgs1.services.policy_governance.errors import CertificateRejected


class AuthPeople:
    """People, as auth knows them."""

    def __init__(self, client: PartClient) -> None:
        self._client = client

    async def user(self, user_id: str) -> User | None:
        try:
            return await self._client.get(f"/api/v1/users/{user_id}", User)
        except UpstreamRejected as error:
            if error.status == 404:
                return None
            raise


class RemoteTexts:
    """Constitutions, as constitutional AI keeps them. What it sends is what was asked for, or it is not taken."""

    def __init__(self, client: PartClient) -> None:
        self._client = client

    async def text(self, constitution_hash: str) -> Constitution | None:
        try:
            found = await self._client.get(f"/api/v1/constitutions/{constitution_hash}", ConstitutionDocument)
        except UpstreamRejected as error:
            if error.status == 404:
                return None
            raise
        if found.constitution.hash != constitution_hash:
            raise DependencyUnavailable(f"`constitutional_ai` sent another text for `{constitution_hash}`")
        return found.constitution


class _Nothing(Message):
    """An empty body."""


class RemoteVerifier:
    """Formal verification: its key, fetched once, checks certificates here."""

    def __init__(self, client: PartClient) -> None:
        self._client = client
        self._key: tuple[str, VerifyingKey] | None = None

    async def check(self, certificate: Certificate) -> None:
        if self._key is None or self._key[0] != certificate.key_id:
            published = await self._client.get("/api/v1/verifier-key", VerifierKey)
            self._key = published.key_id, VerifyingKey.from_base64url(published.public_key)
        key_id, key = self._key
        if certificate.key_id != key_id:
            raise CertificateRejected(f"it is signed with key `{certificate.key_id}`, the verifier's is `{key_id}`")
        body = canonical_json(certificate.body.model_dump(mode="json"))
        if sha256_hex(body) != certificate.hash:
            raise CertificateRejected("its hash is not the hash of its body")
        try:
            signature = base64url_decode(certificate.signature)
        except ValueError:
            signature = b""
        if not key.verify(signature, body):
            raise CertificateRejected("its signature is not the verifier's")

    async def attest(self, certificate_hash: str) -> str:
        path = f"/api/v1/certificates/{certificate_hash}/attestation"
        return (await self._client.post(path, _Nothing(), Attestation, deadline=20.0)).signature
