"""The log authority's side of the ledger client."""

import asyncio
import base64
from pathlib import Path
from typing import Final

from acgs1.contracts.integrity import Anchor, EvidenceBundle
from acgs1.core.merkle import TreeHead
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger.anchor_proof import AnchorProofError, verify_anchor_transaction
from acgs1.ledger.client import LandedTransaction, LedgerClient
from acgs1.ledger.errors import LedgerError
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.services.integrity.domain import Check
from acgs1.services.integrity.errors import LedgerNotReady
from acgs1.services.integrity.ports import LandedAnchor

# A thousand anchors cost 5,000,000 lamports in signature fees.
_LEAST_LAMPORTS: Final = 5_000_000
_TOP_UP_LAMPORTS: Final = 1_000_000_000
_SEARCH_DEPTH: Final = 1000


class SolanaLedger:
    """See `ports.Ledger`. The authority's keypair file is made on first use; on a cluster without a faucet somebody has to fund it."""

    def __init__(self, client: LedgerClient, key_file: Path, breaker: CircuitBreaker) -> None:
        self._client = client
        self._key = load_or_create_keypair(key_file)
        self._breaker = breaker

    async def anchored(self) -> TreeHead | None:
        try:
            async with self._breaker:
                governance = await self._client.get_governance()
                found = await self._client.get_anchor()
        except (LedgerError, CircuitOpenError) as error:
            raise _unavailable(error) from error
        if governance is None:
            raise LedgerNotReady("the governance program is not initialised on the ledger yet")
        if governance.log != str(self._key.pubkey()):
            raise DependencyUnavailable(
                f"the ledger's log authority is {governance.log}, this log's is {self._key.pubkey()}"
            )
        if found is None or found.tree_size == 0:
            return None
        return TreeHead(found.tree_size, bytes.fromhex(found.root))

    async def anchor(self, head: TreeHead) -> LandedAnchor:
        try:
            async with self._breaker:
                await self._client.ensure_funded(self._key.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
                receipt = await self._client.anchor_root(self._key, head.size, head.root.hex())
                landed = await self._client.transaction(receipt.signature)
        except (LedgerError, CircuitOpenError) as error:
            raise _unavailable(error) from error
        if landed is None or (found := self._proof(landed, head)) is None:
            raise DependencyUnavailable(
                f"the ledger confirmed `{receipt.signature}` but does not give it out as it was signed"
            )
        return found

    async def find(self, head: TreeHead) -> LandedAnchor | None:
        config = {"limit": _SEARCH_DEPTH, "commitment": self._client.commitment}
        try:
            async with self._breaker:
                rows = await self._client.rpc.read("getSignaturesForAddress", str(self._client.build.at.anchor), config)
                for row in rows:
                    landed = await self._client.transaction(row["signature"]) if row["err"] is None else None
                    if landed is not None and (found := self._proof(landed, head)) is not None:
                        return found
        except (LedgerError, CircuitOpenError) as error:
            raise _unavailable(error) from error
        return None

    def _proof(self, landed: LandedTransaction, head: TreeHead) -> LandedAnchor | None:
        """The anchor that `landed` makes, if it is one of `head`: checked as an auditor would check it."""
        authority, program = str(self._key.pubkey()), str(self._client.program)
        try:
            anchored = verify_anchor_transaction(landed.raw, authority, program)
        except AnchorProofError:
            return None
        if (anchored.tree_size, anchored.root) != (head.size, head.root.hex()):
            return None
        anchor = Anchor(
            tree_size=head.size,
            root_hash=head.root.hex(),
            signature=anchored.signature,
            transaction=base64.b64encode(landed.raw).decode(),
            program_id=program,
            authority=authority,
        )
        return LandedAnchor(anchor, landed.slot)


def _unavailable(error: LedgerError | CircuitOpenError) -> DependencyUnavailable:
    detail = error.detail if isinstance(error, LedgerError) else "its circuit breaker is open"
    return DependencyUnavailable(f"`ledger` is not available: {detail}")


async def verify_on_ledger(bundle: EvidenceBundle, client: LedgerClient) -> list[Check]:
    """What only a ledger node can say: that the transaction landed, and that the anchored tree is still part of what stands there.

    Raises LedgerError when the node does not answer.
    """
    anchor = bundle.anchor
    landed = await client.transaction(anchor.signature)
    if landed is None:
        transaction = Check("ledger transaction", False, f"the ledger does not know {anchor.signature}")
    elif landed.error is not None:
        transaction = Check("ledger transaction", False, f"the ledger refused it: {landed.error}")
    elif base64.b64encode(landed.raw).decode() != anchor.transaction:
        transaction = Check("ledger transaction", False, "the ledger has another transaction under this signature")
    else:
        transaction = Check("ledger transaction", True, f"landed in slot {landed.slot}")
    governance, found = await asyncio.gather(client.get_governance(), client.get_anchor())
    if governance is None or found is None:
        account = Check("ledger account", False, f"no governance program stands at {client.program}")
    elif found.tree_size < anchor.tree_size or (found.tree_size == anchor.tree_size and found.root != anchor.root_hash):
        account = Check(
            "ledger account", False, f"the ledger stands at {found.tree_size} leaves with root {found.root}"
        )
    else:
        account = Check("ledger account", True, f"the ledger stands at {found.tree_size} leaves")
    if governance is None:
        return [transaction, account]
    same = governance.log == anchor.authority
    authority = Check("ledger log authority", same, f"the ledger names {governance.log}")
    return [transaction, account, authority]
