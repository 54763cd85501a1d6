"""The member register and the wallets in it."""

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import new_event
from acgs1.contracts.policy_governance import LedgerReceipt, Member, NewMember
from acgs1.core.clock import Clock
from acgs1.services.policy_governance.errors import MemberExists, NotAMember, NotAPerson, WalletTaken
from acgs1.services.policy_governance.ports import Governance, Ledger, People
from acgs1.services.policy_governance.service.chronicle import Chronicle


class Members:
    """Who votes, with which wallet. The register is the ledger's; here is only whose wallet is whose."""

    def __init__(self, store: Governance, ledger: Ledger, chronicle: Chronicle, people: People, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._chronicle = chronicle
        self._people = people
        self._clock = clock

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        """Put the founding constitution on the ledger; repeating it changes nothing."""
        async with self._store.transaction() as records:
            await records.keep_constitution(constitution)
        receipt = await self._ledger.ratify(constitution)
        await self._chronicle.catch_up()
        return receipt

    async def register(self, request: NewMember, by: Identity) -> Member:
        """Register a person in the bootstrap. After ratification the ledger asks for an accepted proposal."""
        wallet = await self.enrol(request.user_id, request.wallet)
        await self._note("member.registration_asked", by, request.user_id, wallet, request.weight)
        member = await self._ledger.register_member(wallet, request.weight)
        await self._chronicle.catch_up()
        return member.model_copy(update={"user_id": request.user_id, "own_wallet": request.wallet is not None})

    async def enrol(self, user_id: str, wallet: str | None) -> str:
        """The address under which a person would become a member: their own wallet, or the one that is kept here. Raises NotAPerson,
        MemberExists, InvalidWallet, WalletTaken."""
        user = await self._people.user(user_id)
        if user is None or not user.active or Role.MEMBER not in user.roles:
            raise NotAPerson(f"`{user_id}` is not an active account with the role `member`")
        if wallet is not None:
            self._ledger.check_wallet(wallet)
        async with self._store.reading() as records:
            if await records.member(user_id):
                raise MemberExists(f"`{user.username}` is a member already")
            owner = await records.owner(wallet) if wallet else None
        if owner is not None and owner != user_id:
            raise WalletTaken(f"`{wallet}` is another person's; give each their own")
        address = wallet or self._ledger.wallet_of(user_id)
        async with self._store.transaction() as records:
            await records.link_wallet(address, user_id, own=wallet is not None)
        return address

    async def page(self, cursor: str | None, limit: int) -> Page[Member]:
        """The register, those who were removed with weight 0, by wallet address."""
        async with self._store.reading() as records:
            rows, following = await records.members(cursor, limit)
        return Page[Member](items=rows, next_cursor=following)

    async def member(self, by: Identity) -> Member:
        """The caller as a member. Raises NotAMember."""
        return await self.of(by.id, by.name)

    async def of(self, user_id: str, name: str) -> Member:
        async with self._store.reading() as records:
            member = await records.member(user_id)
        if member is None:
            raise NotAMember(f"`{name}` is not in the member register")
        return member

    async def _note(self, kind: str, by: Identity, user_id: str, wallet: str, weight: int) -> None:
        async with self._store.transaction() as records:
            data = {"wallet": wallet, "weight": weight}
            await records.record(
                new_event("policy_governance", kind, self._clock.now(), actor=by.id, subject=user_id, **data)
            )
