"""The typed client of the governance program: the same towards the embedded node, devnet and mainnet.

Every method that writes returns when its transaction has the client's commitment, and raises a `LedgerError` otherwise;
an error of the program is a `ProgramError` with the program's name for it.
"""

from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.core.clock import Clock
from acgs1.ledger.accounts import (
    Attestation,
    Emergency,
    Governance,
    LogAnchor,
    Member,
    Policy,
    Principle,
    Proposal,
    build,
)
from acgs1.ledger.base58 import b58encode
from acgs1.ledger.errors import (
    AccountMissingError,
    LedgerError,
    LedgerUnavailableError,
    ProgramError,
    RpcFailureError,
    UnfundedError,
)
from acgs1.ledger.events import LedgerEvent, ProposalCreated
from acgs1.ledger.feed import MIN_CONTEXT_SLOT_NOT_REACHED, EventFeed, EventPage, slot_of
from acgs1.ledger.idl import Idl
from acgs1.ledger.instructions import (
    Authorities,
    Choice,
    EmergencyKind,
    Instructions,
    Parameters,
    ProposalKind,
    Role,
    reference,
    reference_address,
)
from acgs1.ledger.jsonrpc import JsonRpc
from acgs1.ledger.keys import address_of, parse_address
from acgs1.ledger.model import RATIFICATION_PERIOD
from acgs1.ledger.program import shipped
from acgs1.ledger.transactions import PRIORITY_CAP, Receipt, Sender, UnsignedTransaction

if TYPE_CHECKING:
    import httpx

    from acgs1.kit.settings import PlatformSettings

T = TypeVar("T")

# A proposal's index is taken when its transaction lands: somebody else may have taken it in between.
_INDEX_ATTEMPTS: Final = 8
_INDEX_TAKEN: Final = ("InvalidPda", "AlreadyExists")
# What getGenesisHash says on mainnet-beta, the one cluster without requestAirdrop.
MAINNET_GENESIS: Final = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal that is now on the ledger."""

    index: int
    address: str
    signature: str
    slot: int


@dataclass(frozen=True, slots=True)
class LandedTransaction:
    """A transaction as the ledger keeps it. `raw` is the signed wire form; `error` is None where it succeeded."""

    signature: str
    slot: int
    raw: bytes
    error: object
    fee: int
    units: int


@dataclass(frozen=True, slots=True)
class Registers:
    """The program's accounts as they were at one moment. Each register is in the order of its `list_` method."""

    governance: Governance
    members: tuple[Member, ...]
    proposals: tuple[Proposal, ...]
    emergencies: tuple[Emergency, ...]


AccountReader = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""One account by its address, as the node tells it."""


class _Row(NamedTuple):
    address: str
    kind: str
    values: Mapping[str, Any]


class LedgerClient:
    """One deployment of the program behind one endpoint. Close it, or use it as an async context manager."""

    def __init__(
        self,
        url: str,
        *,
        program_id: str | None = None,
        commitment: str = "confirmed",
        priority_percentile: int | None = None,
        priority_cap: int = PRIORITY_CAP,
        faucet: Literal["auto", "on", "off"] = "auto",
        timeout: float = 10.0,
        clock: Clock | None = None,
        http: "httpx.AsyncClient | None" = None,
    ) -> None:
        """`program_id`: where the program is deployed; default: where the embedded node has it. `timeout`: seconds for one
        request. `priority_percentile`: offer that percentile of recent fees (public clusters), at most `priority_cap`
        micro-lamports a compute unit. `faucet`: whether `ensure_funded` may ask one; `auto`: not on mainnet.

        Raises LedgerError where the package was built without the program, ValueError for a program id that is no address.
        """
        program = shipped()
        if program is None:
            raise LedgerError("the ledger program is not in this installation; build it with `make program`")
        idl = Idl(program.idl)
        self.program = parse_address(program_id or program.program_id)
        self.idl = idl
        self.build = Instructions(self.program, idl)
        self.commitment = commitment
        self.rpc = JsonRpc(url, timeout=timeout, http=http)
        self._faucet = faucet
        self._reader: AccountReader = self._account
        self._sender = Sender(
            self.rpc,
            program=self.program,
            idl=idl,
            commitment=commitment,
            priority_percentile=priority_percentile,
            priority_cap=priority_cap,
            clock=clock,
        )
        self._feed = self._feed_of(self.program)

    async def __aenter__(self) -> "LedgerClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.rpc.close()

    # -- transactions -----------------------------------------------------------------------------------------

    async def send(
        self, instructions: Sequence[Instruction], signers: Sequence[Keypair], payer: Keypair | None = None
    ) -> Receipt:
        """Land instructions in one transaction, signed by `signers`; `payer` (default: the first signer) pays the fee."""
        return await self._sender.send(self._cheaply(instructions), [payer, *signers] if payer is not None else signers)

    async def prepare(self, instructions: Sequence[Instruction], payer: Pubkey) -> UnsignedTransaction:
        """A transaction for wallets to sign; hand it back to `submit`."""
        return await self._sender.prepare(self._cheaply(instructions), payer)

    def _cheaply(self, instructions: Sequence[Instruction]) -> list[Instruction]:
        return [step for instruction in instructions for step in self.build.cheaply(instruction)]

    async def submit(self, signed: bytes, last_valid_block_height: int) -> Receipt:
        """Land a transaction that wallets have signed."""
        return await self._sender.submit(signed, last_valid_block_height)

    async def transaction(self, signature: str) -> LandedTransaction | None:
        """The transaction of that signature; None where the ledger does not know it."""
        config = {"encoding": "base64", "maxSupportedTransactionVersion": 0, "commitment": self.commitment}
        found = await self.rpc.read("getTransaction", signature, config)
        if found is None:
            return None
        meta = found["meta"]
        return LandedTransaction(
            signature=signature,
            slot=found["slot"],
            raw=b64decode(found["transaction"][0]),
            error=meta["err"],
            fee=meta["fee"],
            units=meta.get("computeUnitsConsumed", 0),
        )

    async def balance(self, address: Pubkey) -> int:
        """Lamports."""
        return int((await self.rpc.read("getBalance", str(address), {"commitment": self.commitment}))["value"])

    async def airdrop(self, to: Pubkey, lamports: int) -> str:
        """Ask the faucet of the embedded node or a test cluster for lamports. Returns the signature once it has landed."""
        signature = str(await self.rpc.call("requestAirdrop", str(to), lamports, {"commitment": self.commitment}))
        await self._sender.await_signature(signature)
        return signature

    async def ensure_funded(self, address: Pubkey, minimum: int, top_up_to: int) -> None:
        """Have at least `minimum` lamports there, asking the faucet for the difference to `top_up_to` if need be.

        Raises UnfundedError where there is less and no faucet.
        """
        have = await self.balance(address)
        if have >= minimum:
            return
        if not await self._has_faucet():
            raise UnfundedError(
                f"`{address}` has {have} lamports and needs {minimum} at least; `{self.rpc.url}` has no faucet: send some there"
            )
        await self.airdrop(address, top_up_to - have)

    async def _has_faucet(self) -> bool:
        if self._faucet == "auto":
            mainnet = await self.rpc.read("getGenesisHash") == MAINNET_GENESIS
            self._faucet = "off" if mainnet else "on"
        return self._faucet == "on"

    # -- reading ----------------------------------------------------------------------------------------------

    def read_accounts_by(self, reader: AccountReader) -> None:
        """Look single accounts up by `reader` from now on: it may fold those of one moment into one call of `accounts`."""
        self._reader = reader

    async def accounts(self, addresses: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Accounts as the node tells them, by address, of at most 100; absent where there is none."""
        config = {"encoding": "base64", "commitment": self.commitment}
        values = (await self.rpc.read("getMultipleAccounts", list(addresses), config))["value"]
        return {address: value for address, value in zip(addresses, values, strict=True) if value is not None}

    async def _account(self, address: str) -> Mapping[str, Any] | None:
        config = {"encoding": "base64", "commitment": self.commitment}
        return (await self.rpc.read("getAccountInfo", address, config))["value"]

    async def account_data(self, address: Pubkey) -> bytes | None:
        """The data of an account of the program; None where there is none or it is another program's."""
        value = await self._reader(str(address))
        if value is None or value["owner"] != str(self.program):
            return None
        return b64decode(value["data"][0])

    async def _one(self, kind: type[T], at: Pubkey, /, **extra: object) -> T | None:
        data = await self.account_data(at)
        decoded = None if data is None else self.idl.decode_account(data)
        if decoded is None or decoded[0] != kind.__name__:
            return None
        return build(kind, decoded[1], **extra)

    async def _all(self, kind: type[T]) -> list[T]:
        discriminator = b58encode(self.idl.account_discriminator(kind.__name__))
        rows = await self._rows({"filters": [{"memcmp": {"offset": 0, "bytes": discriminator}}]})
        return self._of(kind, rows)

    async def _rows(self, config: Mapping[str, object]) -> "list[_Row]":
        """The accounts of the program: address, kind and fields."""
        found: list[_Row] = []
        common = {"encoding": "base64", "commitment": self.commitment}
        for row in await self.rpc.read("getProgramAccounts", str(self.program), {**common, **config}):
            decoded = self.idl.decode_account(b64decode(row["account"]["data"][0]))
            if decoded is not None:
                found.append(_Row(row["pubkey"], *decoded))
        return found

    @staticmethod
    def _of(kind: type[T], rows: "Sequence[_Row]") -> list[T]:
        return [
            build(kind, row.values, **({"address": row.address} if hasattr(kind, "address") else {}))
            for row in rows
            if row.kind == kind.__name__
        ]

    async def registers(self, cursor: str | None = None) -> Registers:
        """Governance, members, proposals and emergency actions in one answer, no older than `cursor` of `events_since`.

        What is not among them has been closed by then. Raises LedgerUnavailableError where the endpoint has not got so far,
        AccountMissingError before `initialize`.
        """
        try:
            rows = await self._rows({"minContextSlot": slot_of(cursor)})
        except RpcFailureError as error:
            if error.rpc_code == MIN_CONTEXT_SLOT_NOT_REACHED:
                raise LedgerUnavailableError(f"`{self.rpc.url}` has not reached the cursor `{cursor}` yet") from error
            raise
        return Registers(
            governance=self._initialised(next(iter(self._of(Governance, rows)), None)),
            members=tuple(sorted(self._of(Member, rows), key=lambda m: m.slot)),
            proposals=tuple(sorted(self._of(Proposal, rows), key=lambda p: p.index)),
            emergencies=tuple(sorted(self._of(Emergency, rows), key=lambda e: e.index)),
        )

    async def get_governance(self) -> Governance | None:
        """The governance account; None before `initialize`."""
        return await self._one(Governance, self.build.at.governance)

    async def governance(self) -> Governance:
        """The governance account. Raises AccountMissingError before `initialize`."""
        return self._initialised(await self.get_governance())

    def _initialised(self, found: Governance | None) -> Governance:
        if found is None:
            raise AccountMissingError(f"program `{self.program}` is not initialised on `{self.rpc.url}`")
        return found

    async def get_principle(self, index: int) -> Principle | None:
        return await self._one(Principle, self.build.at.principle(index))

    async def list_principles(self) -> list[Principle]:
        """By index."""
        return sorted(await self._all(Principle), key=lambda p: p.index)

    async def get_member(self, wallet: Pubkey) -> Member | None:
        return await self._one(Member, self.build.at.member(wallet))

    async def list_members(self) -> list[Member]:
        """By ballot slot; those that were removed are there with weight 0."""
        return sorted(await self._all(Member), key=lambda m: m.slot)

    async def get_proposal(self, index: int) -> Proposal | None:
        """None where it was never made or has been closed."""
        address = self.build.at.proposal(index)
        return await self._one(Proposal, address, address=str(address))

    async def list_proposals(self) -> list[Proposal]:
        """By index; closed ones are gone (their events stay)."""
        return sorted(await self._all(Proposal), key=lambda p: p.index)

    async def get_attestation(self, certificate_hash: str) -> Attestation | None:
        return await self._one(Attestation, self.build.at.attestation(certificate_hash))

    async def list_attestations(self) -> list[Attestation]:
        """In the order in which they were made."""
        return sorted(await self._all(Attestation), key=lambda a: (a.attested_at, a.certificate_hash))

    async def get_policy(self, content_hash: str) -> Policy | None:
        return await self._one(Policy, self.build.at.policy(content_hash))

    async def list_policies(self) -> list[Policy]:
        """By the proposal that put them in force."""
        return sorted(await self._all(Policy), key=lambda p: p.proposal)

    async def get_emergency(self, index: int) -> Emergency | None:
        """None where it was never taken or has been closed."""
        address = self.build.at.emergency(index)
        found = await self._one(Emergency, address, address=str(address))
        if found is not None:
            return found
        # A revocation stands at its agent's address, not at its number's.
        return next((action for action in await self.list_emergencies() if action.index == index), None)

    async def list_emergencies(self) -> list[Emergency]:
        """By index."""
        return sorted(await self._all(Emergency), key=lambda e: e.index)

    async def get_anchor(self) -> LogAnchor | None:
        """The anchored root; None before `initialize`."""
        return await self._one(LogAnchor, self.build.at.anchor)

    async def events_since(self, cursor: str | None, limit: int = 1000) -> EventPage:
        """The program's events in at most `limit` transactions behind `cursor` (None: from the first one on), and the
        cursor to ask with the next time: `events, cursor, caught_up = await client.events_since(cursor)`.

        Raises CursorLostError where the ledger does not know the cursor (it was set up anew, say), LedgerUnavailableError
        where the node cannot tell yet.
        """
        return await self._feed.since(cursor, limit)

    def events(self, after: str | None = None) -> AsyncIterator[LedgerEvent]:
        """The program's events behind the cursor `after`, oldest first, up to now. Raises as `events_since` does."""
        return self._feed_of(self.program).follow(after)

    def _feed_of(self, address: Pubkey) -> EventFeed:
        return EventFeed(self.rpc, self.idl, str(self.program), str(address), self.commitment)

    # -- bootstrap and registers ------------------------------------------------------------------------------

    async def ensure_initialized(
        self, payer: Keypair, who: Authorities, rules: Parameters, constitution_hash: str
    ) -> Governance:
        """Initialise the program unless it is. Whoever comes first decides, so the account that stands is returned:
        compare its authorities before trusting it."""
        found = await self.get_governance()
        if found is None:
            try:
                await self.send([self.build.initialize(address_of(payer), who, rules, constitution_hash)], [payer])
            except ProgramError as error:
                if error.name != "AlreadyExists":
                    raise
            found = await self.governance()
        return found

    async def add_principle(
        self, authority: Keypair, title: str, content_hash: str, constitution_hash: str, proposal: int | None = None
    ) -> Receipt:
        """Add a principle at the next index: by the council before ratification, by `proposal` after it."""
        for attempt in range(_INDEX_ATTEMPTS):
            index = (await self.governance()).principle_count
            instruction = self.build.add_principle(
                address_of(authority), index, title, content_hash, constitution_hash, proposal
            )
            try:
                return await self.send([instruction], [authority])
            except ProgramError as error:
                if error.name not in _INDEX_TAKEN or attempt + 1 == _INDEX_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def amend_principle(
        self,
        authority: Keypair,
        index: int,
        title: str,
        content_hash: str,
        constitution_hash: str,
        proposal: int | None = None,
    ) -> Receipt:
        instruction = self.build.amend_principle(
            address_of(authority), index, title, content_hash, constitution_hash, proposal
        )
        return await self.send([instruction], [authority])

    async def retire_principle(
        self, authority: Keypair, index: int, constitution_hash: str, proposal: int | None = None
    ) -> Receipt:
        return await self.send(
            [self.build.retire_principle(address_of(authority), index, constitution_hash, proposal)], [authority]
        )

    async def ratify(self, council: Keypair, constitution_hash: str) -> Receipt:
        """End the bootstrap: from now on every change of the registers needs an accepted proposal."""
        return await self.send([self.build.ratify(address_of(council), constitution_hash)], [council])

    async def register_member(
        self, authority: Keypair, wallet: Pubkey, weight: int, proposal: int | None = None
    ) -> Receipt:
        return await self.send(
            [self.build.register_member(address_of(authority), wallet, weight, proposal)], [authority]
        )

    async def set_weight(self, authority: Keypair, wallet: Pubkey, weight: int, proposal: int | None = None) -> Receipt:
        return await self.send([self.build.set_weight(address_of(authority), wallet, weight, proposal)], [authority])

    async def remove_member(self, authority: Keypair, wallet: Pubkey, proposal: int | None = None) -> Receipt:
        return await self.send([self.build.remove_member(address_of(authority), wallet, proposal)], [authority])

    async def set_parameters(self, authority: Keypair, rules: Parameters, proposal: int | None = None) -> Receipt:
        return await self.send([self.build.set_parameters(address_of(authority), rules, proposal)], [authority])

    async def offer_authority(self, holder: Keypair, role: Role, offered_to: Pubkey) -> Receipt:
        return await self.send([self.build.offer_authority(address_of(holder), role, offered_to)], [holder])

    async def accept_authority(self, candidate: Keypair, role: Role) -> Receipt:
        return await self.send([self.build.accept_authority(address_of(candidate), role)], [candidate])

    # -- proposals --------------------------------------------------------------------------------------------

    async def propose(
        self,
        proposer: Keypair,
        kind: ProposalKind,
        content_hash: str,
        certificate_hash: str | None = None,
        voting_period: int | None = None,
        payer: Keypair | None = None,
        intent: str | None = None,
    ) -> Proposed:
        """Open a vote. `proposer` is a member and pays the rent; `certificate_hash` for a policy, and for it alone.
        `voting_period` in seconds, default: the shortest allowed.

        `intent`: the caller's own name for what it wants done once. The transaction carries it, and where one by this
        proposer with the same name has landed, that proposal is returned and nothing is sent: so a caller that
        was interrupted can repeat itself, while a second proposal of the same content stays possible.
        """
        if intent is not None and (landed := await self.find_proposed(address_of(proposer), intent)) is not None:
            return landed
        mark = [] if intent is None else [reference(address_of(payer or proposer), intent)]
        for attempt in range(_INDEX_ATTEMPTS):
            state = await self.governance()
            index = state.proposal_count
            instruction = self.build.propose(
                address_of(proposer),
                index,
                kind,
                content_hash,
                certificate_hash,
                shortest_window(kind, state) if voting_period is None else voting_period,
            )
            try:
                receipt = await self._as_member(
                    address_of(proposer), self.send([*mark, instruction], [proposer], payer)
                )
            except ProgramError as error:
                if error.name not in _INDEX_TAKEN or attempt + 1 == _INDEX_ATTEMPTS:
                    raise
                continue
            return Proposed(index, str(self.build.at.proposal(index)), receipt.signature, receipt.slot)
        raise AssertionError("unreachable")

    async def find_proposed(self, proposer: Pubkey, intent: str) -> Proposed | None:
        """The proposal that `proposer` made with that `intent`, the first one; None where none has landed."""
        async for event in self._feed_of(reference_address(intent)).follow(None):
            body = event.body
            # Anybody can name the address in a transaction; only the proposer can have signed this event.
            if isinstance(body, ProposalCreated) and body.proposer == str(proposer):
                return Proposed(body.index, str(self.build.at.proposal(body.index)), event.signature, event.slot)
        return None

    async def vote(self, voter: Keypair, proposal: int, choice: Choice, payer: Keypair | None = None) -> Receipt:
        """Cast (or, where the parameters allow, change) a vote. With a `payer` the voter needs no lamports."""
        instruction = self.build.vote(address_of(voter), proposal, choice)
        return await self._as_member(address_of(voter), self.send([instruction], [voter], payer))

    async def _as_member(self, wallet: Pubkey, sending: Awaitable[T]) -> T:
        """Name the commonest refusal for what it is: without a membership account the program can only say
        that the account at its address is not its own (`WrongOwner`)."""
        try:
            return await sending
        except ProgramError as error:
            if error.name == "WrongOwner" and await self.get_member(wallet) is None:
                raise self._renamed(error, "NotAMember", f"`{wallet}` is not a member") from error
            raise

    def _renamed(self, error: ProgramError, name: str, detail: str) -> ProgramError:
        fault = next(f for f in self.idl.errors.values() if f.name == name)
        return ProgramError(fault.name, fault.number, detail, error.error, error.logs)

    async def finalize(self, payer: Keypair, proposal: int) -> Proposal:
        """End the vote and return the proposal as it then stands. Anybody may, once the window is over or the outcome
        cannot change any more; before that it is a ProgramError `VotingPeriodNotEnded`."""
        found = await self._existing(proposal)
        await self.send([self.build.finalize(proposal, Pubkey.from_string(found.proposer))], [payer])
        return await self._existing(proposal)

    async def enact(self, payer: Keypair, proposal: int) -> Receipt:
        """Carry out an accepted proposal about a policy, the constitution or an emergency action. The other kinds are
        carried out by the instruction that they name."""
        found = await self._existing(proposal)
        policy: Pubkey | None = None
        attestation: Pubkey | None = None
        emergency: Pubkey | None = None
        if found.kind == "policy":
            policy = self.build.at.policy(found.content_hash)
            attestation = self.build.at.attestation(found.certificate_hash)
        elif found.kind == "emergency_ratification":
            emergency = Pubkey(bytes.fromhex(found.content_hash))
            action = await self._one(Emergency, emergency, address=str(emergency))
            if action is not None and action.kind == "suspend_policy":
                policy = self.build.at.policy(action.target)
        instruction = self.build.enact(
            address_of(payer), proposal, policy=policy, attestation=attestation, emergency=emergency
        )
        try:
            return await self.send([instruction], [payer])
        except ProgramError as error:
            # As in `_as_member`: an attestation that does not exist is an account that is not the program's.
            if error.name == "WrongOwner" and attestation and not await self.get_attestation(found.certificate_hash):
                detail = f"certificate {found.certificate_hash} is not attested"
                raise self._renamed(error, "AttestationMissing", detail) from error
            raise

    async def cancel(self, proposer: Keypair, proposal: int) -> Receipt:
        return await self.send([self.build.cancel(address_of(proposer), proposal)], [proposer])

    async def close_proposal(self, proposer: Keypair, proposal: int) -> Receipt:
        """Close a finished proposal's account; its rent goes back to the proposer."""
        return await self.send([self.build.close_proposal(address_of(proposer), proposal)], [proposer])

    async def _existing(self, proposal: int) -> Proposal:
        found = await self.get_proposal(proposal)
        if found is None:
            raise AccountMissingError(f"there is no proposal {proposal} on the ledger")
        return found

    # -- authorities ------------------------------------------------------------------------------------------

    async def attest(
        self, verifier: Keypair, certificate_hash: str, content_hash: str, constitution_version: int
    ) -> Receipt:
        """Attest that the certificate proves the policy set against that constitution version, the one in force."""
        return await self.send(
            [self.build.attest(address_of(verifier), certificate_hash, content_hash, constitution_version)], [verifier]
        )

    async def revoke_attestation(self, verifier: Keypair, certificate_hash: str) -> Receipt:
        return await self.send([self.build.revoke_attestation(address_of(verifier), certificate_hash)], [verifier])

    async def anchor_root(self, log: Keypair, tree_size: int, root: str) -> Receipt:
        """Anchor the root of the transparency log; the tree has to have grown since the last one."""
        return await self.send([self.build.anchor_root(address_of(log), tree_size, root)], [log])

    async def emergency_action(
        self, authority: Keypair, kind: EmergencyKind, target: str | None, reason_hash: str, duration: int
    ) -> int:
        """Suspend a policy (target: its hash), freeze activation (no target) or revoke an agent (target: its hashed
        identifier) for `duration` seconds, at most 72 hours. Returns the action's index."""
        before: list[Instruction] = []
        for attempt in range(_INDEX_ATTEMPTS):
            index = (await self.governance()).emergency_count
            instruction = self.build.emergency_action(address_of(authority), index, kind, target, reason_hash, duration)
            try:
                await self.send([*before, instruction], [authority])
            except ProgramError as error:
                if error.name not in _INDEX_TAKEN or attempt + 1 == _INDEX_ATTEMPTS:
                    raise
                before = await self._closing_last_revocation(target) if kind == "revoke_agent" and target else []
                continue
            return index
        raise AssertionError("unreachable")

    async def _closing_last_revocation(self, agent: str) -> list[Instruction]:
        """An agent has one account for its revocations; that of the last one makes room once its cool-down is over."""
        address = self.build.at.emergency(0, agent)
        last = await self._one(Emergency, address, address=str(address))
        if last is None:
            return []
        return [self.build.close_emergency(Pubkey.from_string(last.issuer), last.index, agent)]

    async def end_emergency(self, authority: Keypair, index: int) -> Receipt:
        """End an action that no vote has confirmed."""
        action = await self._emergency(index)
        policy = self.build.at.policy(action.target) if action.kind == "suspend_policy" else None
        instruction = self.build.end_emergency(address_of(authority), index, policy, _agent(action))
        return await self.send([instruction], [authority])

    async def close_emergency(self, payer: Keypair, index: int) -> Receipt:
        """Close the account of an action whose cool-down is over; its rent goes back to its issuer. Anybody may."""
        action = await self._emergency(index)
        instruction = self.build.close_emergency(Pubkey.from_string(action.issuer), index, _agent(action))
        return await self.send([instruction], [payer])

    async def _emergency(self, index: int) -> Emergency:
        action = await self.get_emergency(index)
        if action is None:
            raise AccountMissingError(f"there is no emergency action {index} on the ledger")
        return action

    def emergency_ratification_hash(self, index: int, agent: str | None = None) -> str:
        """The content hash of a proposal that confirms (or, rejected, ends) emergency action `index`; `agent`: the target of a
        revocation."""
        return bytes(self.build.at.emergency(index, agent)).hex()


def ledger_client(
    settings: "PlatformSettings",
    *,
    url: str | None = None,
    program_id: str | None = None,
    clock: Clock | None = None,
    service: str | None = None,
) -> LedgerClient:
    """The client of this installation's ledger: endpoint, program, fees and faucet as `settings` have them.

    `url` and `program_id` take the place of theirs. A `service` has so many connections as the settings allow it, and measures how
    long callers wait for one. Raises as `LedgerClient` does.
    """
    client = LedgerClient(
        url or settings.url("ledger"),
        program_id=program_id or settings.ledger_program_id,
        priority_percentile=settings.ledger_priority_percentile,
        priority_cap=settings.ledger_priority_cap,
        faucet=settings.ledger_faucet,
        clock=clock,
    )
    if service is not None:
        # Heavy, and needed by a running service only.
        from acgs1.kit.pools import PoolMeter

        connections = settings.ledger_pool_size
        client.rpc.pool(connections, PoolMeter(service, "ledger", connections))
    return client


def _agent(action: Emergency) -> str | None:
    """The agent at whose address a revocation stands."""
    return action.target if action.kind == "revoke_agent" else None


def shortest_window(kind: ProposalKind, state: Governance) -> int:
    """The shortest voting window that the program takes, in seconds."""
    return min(state.voting_period, RATIFICATION_PERIOD) if kind == "emergency_ratification" else state.voting_period
