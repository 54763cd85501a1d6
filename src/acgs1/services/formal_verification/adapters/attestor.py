"""The verifier authority on the ledger: attests certificates that this service issued."""

from pathlib import Path

from acgs1.contracts.formal_verification import Attestation, Certificate
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.settings import PlatformSettings

_LEAST_LAMPORTS = 20_000_000
_TOP_UP_LAMPORTS = 1_000_000_000


class LedgerAttestor:
    """Holds the verifier authority's keypair. The ledger's client is heavy, so it is loaded with the first attestation."""

    def __init__(self, settings: PlatformSettings, key_file: Path, breaker: CircuitBreaker) -> None:
        self._settings = settings
        self._key_file = key_file
        self._breaker = breaker

    async def attest(self, certificate: Certificate) -> Attestation:
        """Attest `certificate` for the constitution version in force. Repeating it changes nothing.

        Raises the ledger's own errors: `ledger_...` when the program refuses, DependencyUnavailable when it is not there.
        """
        from acgs1.ledger.client import ledger_client
        from acgs1.ledger.errors import LedgerUnavailableError
        from acgs1.ledger.keys import load_or_create_keypair

        key = load_or_create_keypair(self._key_file)
        policies = certificate.body.policies_hash
        try:
            async with self._breaker, ledger_client(self._settings) as client:
                version = (await client.governance()).constitution_version
                known = await client.get_attestation(certificate.hash)
                if known is not None and known.constitution_version == version:
                    address = str(client.build.at.attestation(certificate.hash))
                    rows = await client.rpc.read("getSignaturesForAddress", address, {"commitment": client.commitment})
                    signature = next(row["signature"] for row in rows if row["err"] is None)
                else:
                    await client.ensure_funded(key.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
                    signature = (await client.attest(key, certificate.hash, policies, version)).signature
        except (LedgerUnavailableError, CircuitOpenError) as error:
            raise DependencyUnavailable(f"`ledger` is not available: {error}") from error
        return Attestation(certificate_hash=certificate.hash, constitution_version=version, signature=signature)
