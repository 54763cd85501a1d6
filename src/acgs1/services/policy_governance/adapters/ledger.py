"""`quantumagi_core` through its client: the council's side, and the wallets of members who have none of their own."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.policy_governance import GovernanceState, LedgerReceipt, Member, Proposal, ProposalStatus
from acgs1.core.hashing import content_hash, text_hash
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger import accounts
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import AccountMissingError, LedgerUnavailableError, ProgramError, TransactionExpiredError
from acgs1.ledger.events import Ratified
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.services.policy_governance.domain import Emergencies
from acgs1.services.policy_governance.errors import LedgerConflict
from acgs1.services.policy_governance.ports import Choice

T = TypeVar("T")

_STATUS: Final[dict[str, ProposalStatus]] = {
    "active": "open",
    "accepted": "accepted",
    "rejected": "rejected",
    "enacted": "enacted",
    "cancelled": "cancelled",
}
_LEAST_LAMPORTS: Final = 50_000_000
_TOP_UP_LAMPORTS: Final = 2_000_000_000
# The program wants a hash from the start; this one stands for "none yet" until the bootstrap sets the first.
_NO_CONSTITUTION: Final = text_hash("no constitution yet")


class SolanaGovernance:
    """See `ports.Ledger`. `keys` holds the authorities' keypairs and, under `members/`, one wallet per member."""

    def __init__(self, client: LedgerClient, keys: Path, rules: Parameters, breaker: CircuitBreaker) -> None:
        self._client = client
        self._keys = keys
        self._rules = rules
        self._breaker = breaker
        self._ratifying = asyncio.Lock()
        self._council = load_or_create_keypair(keys / "council.json")
        self._emergency = load_or_create_keypair(keys / "emergency.json")

    async def state(self) -> GovernanceState:
        return await self._guarded(self._state)

    async def initialize(self) -> None:
        """Initialise the program unless it is; raises LedgerConflict when it obeys other authorities."""
        await self._guarded(self._initialize)

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        # Whoever asked may have died since and asks again: the second request then finds what the first has done.
        async with self._ratifying:
            return await self._guarded(lambda: self._ratify(constitution))

    async def register_member(self, user_id: str, weight: int) -> Member:
        async def register() -> Member:
            wallet = self._wallet(user_id).pubkey()
            if await self._client.get_member(wallet) is None:
                await self._fund()
                await self._client.register_member(self._council, wallet, weight)
            member = await self._client.get_member(wallet)
            if member is None:
                raise LedgerConflict(f"the ledger confirmed member `{wallet}` and does not show it")
            return Member(user_id=user_id, wallet=member.wallet, weight=member.weight, index=member.slot)

        return await self._guarded(register)

    async def propose(self, proposal: Proposal, content_hash: str, proposer: str, seconds: int) -> Proposal:
        async def open_vote() -> Proposal:
            wallet = self._wallet(proposer)
            await self._client.ensure_funded(wallet.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
            period = max(seconds, (await self._client.governance()).voting_period)
            # A crash may have come after the proposal landed. Our id in the transaction tells it from another proposal of
            # the same bundle.
            made = await self._client.propose(
                wallet, "policy", content_hash, proposal.certificate_hash, period, intent=proposal.id
            )
            found = await self._found(made.index)
            return _followed(_signed(proposal, "propose", made.signature), found)

        return await self._guarded(open_vote)

    async def follow(self, proposal: Proposal) -> Proposal:
        async def read() -> Proposal:
            if proposal.index is None:
                return proposal
            found = await self._client.get_proposal(proposal.index)
            return _followed(proposal, found) if found else proposal

        return await self._guarded(read)

    async def vote(self, user_id: str, proposal: Proposal, choice: Choice) -> str:
        async def cast() -> str:
            # The council pays the fee, so that a member needs no lamports to vote.
            await self._fund()
            receipt = await self._client.vote(self._wallet(user_id), _index(proposal), choice, self._council)
            return receipt.signature

        return await self._guarded(cast)

    async def finalize(self, proposal: Proposal) -> Proposal:
        async def close() -> Proposal:
            await self._fund()
            return _followed(proposal, await self._client.finalize(self._council, _index(proposal)))

        return await self._guarded(close)

    async def enact(self, proposal: Proposal) -> Proposal:
        async def carry_out() -> Proposal:
            await self._fund()
            receipt = await self._client.enact(self._council, _index(proposal))
            return _followed(_signed(proposal, "enact", receipt.signature), await self._found(_index(proposal)))

        return await self._guarded(carry_out)

    async def is_enacted(self, policies_hash: str) -> bool:
        async def look() -> bool:
            state = await self._client.governance()
            policy = await self._client.get_policy(policies_hash)
            return policy is not None and policy.constitution_version == state.constitution_version

        return await self._guarded(look)

    async def emergencies(self, now: datetime) -> Emergencies:
        async def read() -> Emergencies:
            if await self._client.get_governance() is None:
                return Emergencies()
            at = int(now.astimezone(UTC).timestamp())
            active = [e for e in await self._client.list_emergencies() if e.in_effect(at)]
            return Emergencies(
                suspended=frozenset(e.target for e in active if e.kind == "suspend_policy"),
                revoked=frozenset(e.target for e in active if e.kind == "revoke_agent"),
                frozen=any(e.kind == "freeze_activation" for e in active),
            )

        return await self._guarded(read)

    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int:
        async def act() -> int:
            await self._client.ensure_funded(self._emergency.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
            named = text_hash(target) if kind == "revoke_agent" and target else target
            action: Any = kind
            return await self._client.emergency_action(self._emergency, action, named, text_hash(reason), seconds)

        return await self._guarded(act)

    async def _state(self) -> GovernanceState:
        state = await self._client.get_governance()
        if state is None:
            return GovernanceState(
                program_id=str(self._client.program),
                constitution_hash=None,
                constitution_version=0,
                ratified=False,
                threshold_bp=self._rules.threshold_bp,
                quorum_bp=self._rules.quorum_bp,
                members=0,
                total_weight=0,
                proposals=0,
            )
        return GovernanceState(
            program_id=str(self._client.program),
            constitution_hash=None if state.constitution_hash == _NO_CONSTITUTION else state.constitution_hash,
            constitution_version=state.constitution_version,
            ratified=state.ratified,
            threshold_bp=state.threshold_bp,
            quorum_bp=state.quorum_bp,
            members=state.active_members,
            total_weight=state.total_weight,
            proposals=state.proposal_count,
        )

    async def _initialize(self) -> None:
        who = Authorities(
            council=self._council.pubkey(),
            emergency=self._emergency.pubkey(),
            log=self._public("log"),
            verifier=self._public("verifier"),
        )
        await self._fund()
        state = await self._client.ensure_initialized(self._council, who, self._rules, _NO_CONSTITUTION)
        ours = (str(who.council), str(who.emergency), str(who.log), str(who.verifier))
        theirs = (state.council, state.emergency, state.log, state.verifier)
        if ours != theirs:
            raise LedgerConflict(
                f"the program at `{self._client.program}` obeys other authorities: council `{state.council}`"
            )

    async def _ratify(self, constitution: Constitution) -> LedgerReceipt:
        state = await self._client.governance()
        if state.ratified:
            if state.constitution_hash != constitution.hash:
                raise LedgerConflict(f"constitution `{state.constitution_hash}` is ratified there")
            return LedgerReceipt(
                signature=await self._ratification(),
                constitution_hash=constitution.hash,
                constitution_version=state.constitution_version,
            )
        await self._fund()
        registered = await self._client.list_principles()
        for index, principle in enumerate(constitution.principles):
            digest = content_hash(principle.model_dump(mode="json"))
            if index >= len(registered):
                await self._client.add_principle(self._council, principle.title, digest, constitution.hash)
            elif registered[index].content_hash != digest:
                await self._client.amend_principle(self._council, index, principle.title, digest, constitution.hash)
        for surplus in registered[len(constitution.principles) :]:
            await self._client.retire_principle(self._council, surplus.index, constitution.hash)
        receipt = await self._client.ratify(self._council, constitution.hash)
        state = await self._client.governance()
        return LedgerReceipt(
            signature=receipt.signature,
            constitution_hash=state.constitution_hash,
            constitution_version=state.constitution_version,
        )

    async def _ratification(self) -> str:
        """The signature of the transaction that ratified, for a repeat after a crash that lost it."""
        async for event in self._client.events():
            if isinstance(event.body, Ratified):
                return event.signature
        raise LedgerConflict("the ledger is ratified, but its history does not hold the ratification")

    async def _found(self, index: int) -> accounts.Proposal:
        found = await self._client.get_proposal(index)
        if found is None:
            raise LedgerConflict(f"the ledger confirmed proposal {index} and does not show it")
        return found

    async def _fund(self) -> None:
        await self._client.ensure_funded(self._council.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)

    def _wallet(self, user_id: str) -> Keypair:
        return load_or_create_keypair(self._keys / "members" / f"{user_id}.json")

    def _public(self, role: str) -> Pubkey:
        """The public key of an authority that another service holds; made here when that service has not started yet."""
        return load_or_create_keypair(self._keys / f"{role}.json").pubkey()

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        async with _translated(), self._watched():
            return await call()

    @asynccontextmanager
    async def _watched(self) -> AsyncGenerator[None]:
        """The breaker counts an unreachable ledger, not a ledger that answers no."""
        refusal: Exception | None = None
        async with self._breaker:
            try:
                yield
            except (ProgramError, LedgerConflict) as error:
                refusal = error
        if refusal is not None:
            raise refusal


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    try:
        yield
    except (LedgerUnavailableError, TransactionExpiredError, AccountMissingError, CircuitOpenError) as error:
        # Also what did not land in time, or comes before the program is initialised: trying again can help.
        raise DependencyUnavailable(f"`ledger` is not available: {error}") from error


def _index(proposal: Proposal) -> int:
    if proposal.index is None:
        raise LedgerConflict(f"proposal `{proposal.id}` is not on the ledger yet; try again in a moment")
    return proposal.index


def _followed(proposal: Proposal, found: accounts.Proposal) -> Proposal:
    return proposal.model_copy(
        update={
            "status": _STATUS[found.status],
            "index": found.index,
            "address": found.address,
            "for_weight": found.votes_for,
            "against_weight": found.votes_against,
            "abstain_weight": found.votes_abstain,
            "closes_at": datetime.fromtimestamp(found.ends_at, UTC),
        }
    )


def _signed(proposal: Proposal, step: str, signature: str) -> Proposal:
    return proposal.model_copy(update={"signatures": {**proposal.signatures, step: signature}})
