"""The ledger as policy governance offers it."""

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.policy_governance import ConstitutionOnLedger, ConstitutionToRatify, LedgerReceipt
from acgs1.kit.clients import PartClient
from acgs1.kit.errors import UpstreamRejected
from acgs1.services.constitutional_ai.errors import AdoptionRefused


class GovernanceLedger:
    """Asks policy governance to put the founding constitution on the ledger. Repeats are harmless there."""

    def __init__(self, client: PartClient) -> None:
        self._client = client

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        body = ConstitutionToRatify(constitution=constitution)
        try:
            return await self._client.post("/api/v1/ledger/constitution", body, LedgerReceipt, deadline=30.0)
        except UpstreamRejected as error:
            raise AdoptionRefused(error.detail, error.upstream_code) from error

    async def in_force(self) -> ConstitutionOnLedger:
        return await self._client.get("/api/v1/ledger/constitution", ConstitutionOnLedger)
