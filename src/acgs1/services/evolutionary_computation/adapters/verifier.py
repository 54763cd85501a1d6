"""Formal verification over HTTP."""

from pydantic import RootModel

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Certificate, NewVerification, VerificationProgress, VerificationReport
from acgs1.kit.clients import PartClient
from acgs1.kit.errors import UpstreamRejected
from acgs1.services.evolutionary_computation.errors import VerificationFailed

_PROOF_SECONDS = 60.0
_WAIT_SECONDS = 20


class _Answer(RootModel[VerificationReport | VerificationProgress]):
    """A report, or how far it is."""


class HttpVerifier:
    """Asks for a verification and waits until it has ended; the service itself ends each after its deadline."""

    def __init__(self, client: PartClient) -> None:
        self._client = client

    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        body = NewVerification(policies=policies, constitution=constitution, deadline_seconds=_PROOF_SECONDS)
        wait, deadline = f"?wait={_WAIT_SECONDS}", _WAIT_SECONDS + 10.0
        path = "/api/v1/verifications"
        posted = await self._client.post(
            path + wait, body, _Answer, deadline=deadline, idempotency_key=key, repeatable=True
        )
        answer = posted.root
        while isinstance(answer, VerificationProgress):
            if answer.status != "running":
                raise VerificationFailed(
                    f"verification `{answer.id}` is {answer.status}: {answer.detail or 'no reason given'}"
                )
            answer = (await self._client.get(f"{path}/{answer.id}{wait}", _Answer, deadline=deadline)).root
        return answer

    async def certificate(self, certificate_hash: str) -> Certificate | None:
        """None where there is none of this hash."""
        try:
            return await self._client.get(f"/api/v1/certificates/{certificate_hash}", Certificate)
        except UpstreamRejected as error:
            if error.status == 404:
                return None
            raise
