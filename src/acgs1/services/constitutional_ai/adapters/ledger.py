"""The ledger as policy governance offers it."""

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.policy_governance import ConstitutionToRatify, LedgerReceipt
from acgs1.kit.clients import PartClient


class GovernanceLedger:
    """Asks policy governance to put the founding constitution on the ledger. Repeats are harmless there."""

    def __init__(self, client: PartClient) -> None:
        self._client = client

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        return await self._client.post(
            "/api/v1/ledger/constitution", ConstitutionToRatify(constitution=constitution), LedgerReceipt, deadline=30.0
        )
