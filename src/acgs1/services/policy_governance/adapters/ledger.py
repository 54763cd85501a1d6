"""`quantumagi_core` through its client: the council's side, and the wallets of members who have none of their own."""

import asyncio
import dataclasses
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.policy_governance import (
    AddPrinciple,
    AmendPrinciple,
    AmendText,
    Change,
    Choice,
    Emergency,
    GovernanceState,
    LedgerReceipt,
    Member,
    Proposal,
    RatifyEmergency,
    RegisterMember,
    RemoveMember,
    RetirePrinciple,
    SetParameters,
    SetWeight,
)
from acgs1.core.hashing import content_hash, text_hash
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger import accounts
from acgs1.ledger.client import LedgerClient, shortest_window
from acgs1.ledger.errors import (
    AccountMissingError,
    CursorLostError,
    LedgerUnavailableError,
    TransactionExpiredError,
    TransactionFailedError,
    UnfundedError,
)
from acgs1.ledger.events import Initialized, Ratified
from acgs1.ledger.instructions import Authorities, Parameters, reference
from acgs1.ledger.instructions import content_hash as instruction_hash
from acgs1.ledger.keys import load_or_create_keypair, parse_address
from acgs1.services.policy_governance.domain import (
    Chapter,
    Emergencies,
    Happened,
    Opened,
    Snapshot,
    Unsigned,
    in_effect,
)
from acgs1.services.policy_governance.errors import (
    CursorLost,
    InvalidWallet,
    LedgerConflict,
    TransactionAltered,
    TransactionExpired,
    WrongSigner,
)

T = TypeVar("T")

_PAGE: Final = 200
_LEAST_LAMPORTS: Final = 50_000_000
_TOP_UP_LAMPORTS: Final = 2_000_000_000
# What so many votes cost, with the highest priority fee that is offered by default, is a fifth of the least there is.
_VOTES_BETWEEN_LOOKS: Final = 500
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
        self._votes = 0
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

    def wallet_of(self, user_id: str) -> str:
        return str(self._wallet(user_id).pubkey())

    def check_wallet(self, address: str) -> None:
        try:
            wallet = parse_address(address)
        except ValueError as error:
            raise InvalidWallet(str(error)) from None
        if not wallet.is_on_curve():
            raise InvalidWallet(f"`{address}` is the address of a program's account: no key signs for it")

    async def register_member(self, wallet: str, weight: int) -> Member:
        async def register() -> Member:
            address = parse_address(wallet)
            if await self._client.get_member(address) is None:
                await self._fund()
                await self._client.register_member(self._council, address, weight)
            member = await self._client.get_member(address)
            if member is None:
                raise LedgerConflict(f"the ledger confirmed member `{wallet}` and does not show it")
            return Member(user_id=None, wallet=member.wallet, weight=member.weight, index=member.slot)

        return await self._guarded(register)

    async def events(self, cursor: str | None) -> Chapter:
        try:
            page = await self._guarded(lambda: self._client.events_since(cursor, _PAGE))
        except CursorLostError as error:
            raise CursorLost(error.detail) from error
        events: list[Happened] = []
        for event in page.events:
            kind, data = type(event.body).__name__, dataclasses.asdict(event.body)
            if kind == "ProposalCreated":
                data["address"] = str(self._client.build.at.proposal(data["index"]))
            events.append(Happened(event.signature, event.slot, event.position, kind, data))
        return Chapter(tuple(events), page.cursor, page.caught_up)

    async def snapshot(self, cursor: str | None) -> Snapshot:
        return await self._guarded(lambda: self._snapshot(cursor))

    async def principles(self) -> dict[str, int]:
        async def read() -> dict[str, int]:
            return {p.content_hash: p.index for p in await self._client.list_principles() if p.status == "active"}

        return await self._guarded(read)

    def content_of(self, change: Change) -> str:
        if isinstance(change, AmendText):
            return change.constitution_hash
        if isinstance(change, RatifyEmergency):
            return self._client.emergency_ratification_hash(change.emergency, change.agent)
        # Signer, addresses and proposal are accounts of the instruction; its data, which is hashed, has none of them.
        return instruction_hash(self._instruction(change, self._council.pubkey(), 0, 0))

    async def find(self, proposal: Proposal) -> Opened | None:
        if proposal.wallet is None:
            return None
        wallet = parse_address(proposal.wallet)

        async def look() -> Opened | None:
            found = await self._client.find_proposed(wallet, proposal.id)
            return Opened(found.index, found.address, found.signature) if found else None

        return await self._guarded(look)

    async def propose(self, proposal: Proposal) -> Opened:
        async def open_vote() -> Opened:
            wallet = self._wallet(proposal.proposed_by)
            kind, content, certificate, period = await self._terms(proposal)
            await self._client.ensure_funded(wallet.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
            made = await self._client.propose(wallet, kind, content, certificate, period, intent=proposal.id)
            return Opened(made.index, made.address, made.signature)

        return await self._guarded(open_vote)

    async def vote(self, user_id: str, proposal: Proposal, choice: Choice) -> str:
        async def cast() -> str:
            # The council pays the fee, so that a member needs no lamports to vote.
            if self._votes % _VOTES_BETWEEN_LOOKS == 0:
                await self._fund()
            self._votes += 1
            try:
                receipt = await self._client.vote(self._wallet(user_id), _index(proposal), choice, self._council)
            except TransactionFailedError:
                self._votes = 0
                raise
            return receipt.signature

        return await self._guarded(cast)

    async def finalize(self, proposal: Proposal) -> None:
        async def close() -> None:
            await self._fund()
            await self._client.finalize(self._council, _index(proposal))

        await self._guarded(close)

    async def enact(self, proposal: Proposal) -> str:
        async def carry_out() -> str:
            await self._fund()
            index, change = _index(proposal), proposal.change
            if change is None or isinstance(change, AmendText | RatifyEmergency):
                return (await self._client.enact(self._council, index)).signature
            count = (await self._client.governance()).principle_count
            instruction = self._instruction(change, self._council.pubkey(), count, index)
            return (await self._client.send([instruction], [self._council])).signature

        return await self._guarded(carry_out)

    async def cancel(self, user_id: str, proposal: Proposal) -> None:
        async def take_back() -> None:
            await self._fund()
            instruction = self._client.build.cancel(self._wallet(user_id).pubkey(), _index(proposal))
            await self._client.send([instruction], [self._wallet(user_id)], self._council)

        await self._guarded(take_back)

    async def close(self, user_id: str, proposal: Proposal) -> None:
        async def reclaim() -> None:
            await self._fund()
            instruction = self._client.build.close_proposal(self._wallet(user_id).pubkey(), _index(proposal))
            await self._client.send([instruction], [self._wallet(user_id)], self._council)

        await self._guarded(reclaim)

    async def unsigned(self, act: str, wallet: str, proposal: Proposal, choice: Choice | None) -> Unsigned:
        async def prepare() -> Unsigned:
            await self._fund()
            signer, council, build = parse_address(wallet), self._council.pubkey(), self._client.build
            if act == "propose":
                kind, content, certificate, period = await self._terms(proposal)
                index = (await self._client.governance()).proposal_count
                opening = build.propose(signer, index, kind, content, certificate, period)
                # The proposal's rent is its wallet's. Where there is a faucet it has enough.
                await self._client.ensure_funded(signer, _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
                instructions = [reference(council, proposal.id), opening]
            elif act == "vote" and choice is not None:
                instructions = [build.vote(signer, _index(proposal), choice)]
            elif act == "cancel":
                instructions = [build.cancel(signer, _index(proposal))]
            else:
                instructions = [build.close_proposal(signer, _index(proposal))]
            made = await self._client.prepare(instructions, council)
            message = bytes(VersionedTransaction.from_bytes(b64decode(made.transaction)).message)
            return Unsigned(made.transaction, message, made.last_valid_block_height)

        return await self._guarded(prepare)

    def countersign(self, message: bytes, wallet: str, transaction: str) -> bytes:
        try:
            given = VersionedTransaction.from_bytes(b64decode(transaction, validate=True))
        except ValueError as error:
            raise TransactionAltered(f"it cannot be read as a transaction in base64: {error}") from None
        if bytes(given.message) != message:
            raise TransactionAltered("its message differs from the one that was handed out; sign that one as it is")
        signed = to_bytes_versioned(given.message)
        keys = given.message.account_keys[: given.message.header.num_required_signatures]
        theirs = given.signatures[keys.index(parse_address(wallet))]
        if not theirs.verify(parse_address(wallet), signed):
            raise WrongSigner(f"the signature in the place of `{wallet}` is missing or not that wallet's")
        ours = self._council.sign_message(signed)
        signatures = [ours if key == self._council.pubkey() else theirs for key in keys]
        return bytes(VersionedTransaction.populate(given.message, signatures))

    async def land(self, signed: bytes, last_valid_block_height: int) -> str:
        async def send() -> str:
            signature = str(VersionedTransaction.from_bytes(signed).signatures[0])
            known = await self._client.transaction(signature)
            if known is not None and known.error is None:
                return signature
            try:
                return (await self._client.submit(signed, last_valid_block_height)).signature
            except TransactionExpiredError as error:
                raise TransactionExpired(error.detail) from error

        return await self._guarded(send)

    async def is_enacted(self, policies_hash: str) -> bool:
        async def look() -> bool:
            state, policy = await asyncio.gather(self._client.governance(), self._client.get_policy(policies_hash))
            return policy is not None and policy.constitution_version == state.constitution_version

        return await self._guarded(look)

    async def emergencies(self, now: datetime) -> Emergencies:
        async def read() -> Emergencies:
            if await self._client.get_governance() is None:
                return Emergencies()
            return in_effect([_emergency(e) for e in await self._client.list_emergencies()], now)

        return await self._guarded(read)

    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int:
        async def act() -> int:
            await self._client.ensure_funded(self._emergency.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
            named = text_hash(target) if kind == "revoke_agent" and target else target
            action: Any = kind
            return await self._client.emergency_action(self._emergency, action, named, text_hash(reason), seconds)

        return await self._guarded(act)

    async def end_emergency(self, index: int) -> None:
        async def end() -> None:
            await self._client.ensure_funded(self._emergency.pubkey(), _LEAST_LAMPORTS, _TOP_UP_LAMPORTS)
            await self._client.end_emergency(self._emergency, index)

        await self._guarded(end)

    async def _terms(self, proposal: Proposal) -> tuple[Any, str, str | None, int]:
        """Kind, content, certificate and window, as the program wants them."""
        if proposal.content_hash is None:
            raise LedgerConflict(f"proposal `{proposal.id}` does not say what it is about")
        shortest = shortest_window(proposal.kind, await self._client.governance())
        period = max(proposal.voting_seconds, shortest)
        return proposal.kind, proposal.content_hash, proposal.certificate_hash, period

    def _instruction(  # noqa: PLR0911 - one return per kind of change
        self, change: Change, signer: Pubkey, count: int, proposal: int
    ) -> Instruction:
        """The instruction that carries out `change`; `count`: principles in the register, where a new one goes."""
        build = self._client.build
        match change:
            case AddPrinciple():
                return build.add_principle(
                    signer, count, change.title, change.content_hash, change.constitution_hash, proposal
                )
            case AmendPrinciple():
                return build.amend_principle(
                    signer, change.index, change.title, change.content_hash, change.constitution_hash, proposal
                )
            case RetirePrinciple():
                return build.retire_principle(signer, change.index, change.constitution_hash, proposal)
            case RegisterMember():
                return build.register_member(signer, parse_address(change.wallet), change.weight, proposal)
            case SetWeight():
                return build.set_weight(signer, parse_address(change.wallet), change.weight, proposal)
            case RemoveMember():
                return build.remove_member(signer, parse_address(change.wallet), proposal)
            case SetParameters():
                rules = Parameters(
                    change.shortest_voting_seconds, change.threshold_bp, change.quorum_bp, change.vote_change_allowed
                )
                return build.set_parameters(signer, rules, proposal)
            case _:
                raise LedgerConflict(f"`{change.change}` is carried out by `enact`")

    async def _snapshot(self, cursor: str | None) -> Snapshot:
        found = await self._client.registers(cursor)
        state = found.governance
        members = [
            Member(user_id=None, wallet=m.wallet, weight=m.weight if m.active else 0, index=m.slot)
            for m in found.members
        ]
        return Snapshot(
            constitution_hash=state.constitution_hash if state.ratified else None,
            constitution_version=state.constitution_version,
            members=tuple(members),
            proposals=tuple(dataclasses.asdict(p) for p in found.proposals),
            emergencies=tuple(_emergency(e) for e in found.emergencies),
        )

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
                voting_seconds=self._rules.voting_period,
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
            voting_seconds=state.voting_period,
            vote_change_allowed=state.vote_change_allowed,
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
        if ours != theirs and ours != await self._first_authorities():
            raise LedgerConflict(
                f"the program at `{self._client.program}` obeys other authorities: council `{state.council}`"
            )

    async def _first_authorities(self) -> tuple[str, str, str, str] | None:
        """Those that the program was initialised with: an authority that was handed on since is no stranger's program."""
        async for event in self._client.events():
            if isinstance(event.body, Initialized):
                return event.body.council, event.body.emergency, event.body.log, event.body.verifier
        return None

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
            except (
                TransactionFailedError,
                CursorLostError,
                LedgerConflict,
                TransactionExpired,
                UnfundedError,
            ) as error:
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


def _emergency(found: accounts.Emergency) -> Emergency:
    kind: Any = found.kind
    status: Any = found.status
    ends = None if found.status == "confirmed" else datetime.fromtimestamp(found.expires_at, UTC)
    target = None if found.kind == "freeze_activation" else found.target
    return Emergency(index=found.index, kind=kind, target=target, status=status, expires_at=ends)
