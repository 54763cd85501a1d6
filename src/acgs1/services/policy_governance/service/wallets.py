"""Members who hold their own wallets: transactions handed out to sign, and taken back signed."""

from acgs1.contracts.auth import Identity
from acgs1.contracts.events import new_event
from acgs1.contracts.policy_governance import Member, NewWalletTransaction, Proposal, WalletTransaction
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.services.policy_governance.errors import (
    NothingToChange,
    NotTheProposer,
    ProposalNotOpen,
    WalletKeptHere,
    WalletTransactionNotFound,
)
from acgs1.services.policy_governance.ports import Governance, Ledger
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.members import Members
from acgs1.services.policy_governance.service.voting import Voting


class Wallets:
    """What is handed out is kept, and only exactly that is countersigned: the council's key, which pays the fee, signs nothing that a
    caller has written. A signed transaction is kept before it is sent, so that after a kill it can be handed in again and lands
    once."""

    def __init__(
        self,
        store: Governance,
        ledger: Ledger,
        chronicle: Chronicle,
        members: Members,
        voting: Voting,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._chronicle = chronicle
        self._members = members
        self._voting = voting
        self._clock = clock

    async def hand_out(self, request: NewWalletTransaction, by: Identity) -> WalletTransaction:
        """The transaction that would do what the member asks for. Raises WalletKeptHere for one whose wallet is here."""
        member = await self._members.member(by)
        if not member.own_wallet:
            raise WalletKeptHere(f"`{by.name}` can do this directly")
        proposal = await self._voting.proposal(request.proposal_id)
        _expect_fitting(request, proposal, member)
        if request.act == "propose" and (await self._ledger.find(proposal)) is not None:
            await self._chronicle.catch_up()
            raise ProposalNotOpen("it has been opened already")
        made = await self._ledger.unsigned(request.act, member.wallet, proposal, request.choice)
        handed = WalletTransaction(
            id=new_id("wtx"),
            act=request.act,
            proposal_id=proposal.id,
            choice=request.choice,
            wallet=member.wallet,
            transaction=made.transaction,
            last_valid_block_height=made.last_valid_block_height,
            status="handed_out",
        )
        async with self._store.transaction() as records:
            await records.keep_wallet_transaction(handed, made.message, None)
        return handed

    async def take_back(self, transaction_id: str, transaction: str, by: Identity) -> WalletTransaction:
        """Land a transaction that came back signed; handing it in again changes nothing. Raises TransactionAltered, WrongSigner,
        TransactionExpired, or what the ledger refuses it with."""
        member = await self._members.member(by)
        async with self._store.reading() as records:
            found = await records.wallet_transaction(transaction_id)
        if found is None or found[0].wallet != member.wallet:
            raise WalletTransactionNotFound(f"`{transaction_id}` was not handed out to `{member.wallet}`")
        handed, message, signed = found
        if handed.status == "landed":
            return handed
        if signed is None:
            signed = self._ledger.countersign(message, member.wallet, transaction)
            handed = await self._keep(handed, "signed", None, message, signed)
        try:
            signature = await self._ledger.land(signed, handed.last_valid_block_height)
        except DomainError as error:
            if error.code != "dependency_unavailable":
                await self._keep(handed, "refused", None, message, signed)
            raise
        landed = await self._keep(handed, "landed", signature, message, signed)
        async with self._store.transaction() as records:
            data = {"act": handed.act, "signature": signature, "wallet": handed.wallet}
            event = new_event(
                "policy_governance", "wallet.signed", self._clock.now(), actor=by.id, subject=handed.proposal_id, **data
            )
            await records.record(event)
        await self._chronicle.catch_up()
        return landed

    async def _keep(
        self, handed: WalletTransaction, status: str, signature: str | None, message: bytes, signed: bytes
    ) -> WalletTransaction:
        changed = handed.model_copy(update={"status": status, "signature": signature})
        async with self._store.transaction() as records:
            await records.keep_wallet_transaction(changed, message, signed)
        return changed


def _expect_fitting(request: NewWalletTransaction, proposal: Proposal, member: Member) -> None:
    if (request.act == "vote") != (request.choice is not None):
        raise NothingToChange("`choice` goes with act `vote`, and with it alone")
    if request.act != "vote" and proposal.wallet != member.wallet:
        raise NotTheProposer(f"`{member.wallet}` did not make the proposal")
    wanted = {"propose": {"unsigned"}, "vote": {"open"}, "cancel": {"open"}}.get(request.act)
    if wanted is not None and proposal.status not in wanted:
        raise ProposalNotOpen(f"it is `{proposal.status}`")
