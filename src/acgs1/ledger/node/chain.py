"""The chain: what was accepted, in its order, durable before it is told to anybody.

INVARIANT: no answer of the node rests on a transaction that is not on the disk. A transaction runs in the machine at once, but
whoever sent it, asks for its effects or subscribed to them hears of it after the commit that holds it (`settled`).
Should that commit fail, the machine is ahead of the disk: the chain is broken, refuses everything, and the process ends.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

import structlog
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from acgs1.core.clock import Clock
from acgs1.core.hashing import sha256_hex
from acgs1.ledger.json_values import as_strings
from acgs1.ledger.node.errors import (
    NODE_UNHEALTHY,
    PREFLIGHT_FAILURE,
    SIGNATURE_VERIFICATION_FAILURE,
    ErrorJson,
    RpcError,
    describe,
)
from acgs1.ledger.node.journal import Genesis, Journal, JournalError, Record, Snapshot
from acgs1.ledger.node.machine import SYSVAR_OWNER, TIME_SYSVARS, Machine, MachinePanicError, Outcome, Simulation
from acgs1.ledger.node.slots import MAX_PROCESSING_AGE, SlotClock, unix_ms

P = ParamSpec("P")
R = TypeVar("R")

_log = structlog.get_logger(__name__)

FAUCET_LAMPORTS: Final = 500_000_000 * 10**9
# How long a signature's status stays in memory, in slots (Agave's recent status cache holds about as many).
_RECENT_SLOTS: Final = 2 * MAX_PROCESSING_AGE


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that took effect, as subscribers see it. `accounts` are those it wrote, after it."""

    signature: bytes
    slot: int
    err: ErrorJson | None
    logs: list[str]
    keys: tuple[Pubkey, ...]
    accounts: tuple[tuple[Pubkey, Account | None], ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found: how many records it replayed, and what it dropped from the end of the log."""

    replayed: int
    dropped_tail: str | None


class Chain:
    """One chain over one journal. Lives on one event loop; everything but `settled` and `submit` is synchronous."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        programs: dict[Pubkey, bytes],
        *,
        snapshot_every: int = 2000,
        on_broken: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Restore the chain from `journal`, or begin it with `programs` (address to ELF) at the genesis.

        A program whose bytes differ from the recorded ones is upgraded from the next transaction on.
        Raises JournalError where replaying a record gives another outcome than the one that was answered.
        """
        self._journal = journal
        self._writer = ThreadPoolExecutor(1, "ledger-writer")
        self._reader = ThreadPoolExecutor(1, "ledger-reader")
        self._snapshot_every = snapshot_every
        self._on_broken = on_broken
        self.on_landed: Callable[[Landed], None] | None = None
        self.broken: BaseException | None = None

        genesis = journal.genesis()
        if genesis is None:
            genesis = Genesis(unix_ms(clock.now()), secrets.token_bytes(32), secrets.token_bytes(32))
            journal.create(genesis)
        self.genesis_hash = Hash(bytes.fromhex(sha256_hex(b"genesis" + genesis.seed)))
        self.faucet = Keypair.from_seed(genesis.faucet)
        self._seq, last_slot = journal.last()
        self.slots = SlotClock(clock, genesis.created_ms, genesis.seed, floor=last_slot)
        self.machine = Machine(self.slots)
        self.machine.put_account(self.faucet.pubkey(), Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM))
        self.recovery = Recovery(self._restore(), journal.dropped_tail)
        self.programs: dict[Pubkey, str] = {}
        self._install(programs)

        self._recent: dict[bytes, tuple[int, ErrorJson | None]] = {}
        for signature, slot, meta in journal.since_slot(self.slots.current() - _RECENT_SLOTS):
            self._recent[signature] = (slot, json.loads(meta)["err"])
        self._batch: list[tuple[Record, Landed]] = []
        self._batch_settled: asyncio.Future[None] | None = None
        self._in_flight: asyncio.Future[None] | None = None
        self._flusher: asyncio.Task[None] | None = None

    # -- start and stop ---------------------------------------------------------------------------------------

    def _restore(self) -> int:
        """Accounts from the snapshot, then the records behind it. Returns how many were replayed."""
        self._dirty: set[Pubkey] = set()
        for address, elf in self._journal.programs():
            self.machine.add_program(Pubkey(address), elf)
        self._snapshot_seq, _ = self._journal.snapshot_position()
        programs: list[tuple[Pubkey, Account]] = []
        for address, packed in self._journal.snapshot_accounts():
            account = Account.from_bytes(packed)
            if account.executable:
                programs.append((Pubkey(address), account))
            else:
                self.machine.put_account(Pubkey(address), account)
        # A program's account is loadable only when the account that holds its bytes is there.
        for address, account in programs:
            self.machine.put_account(address, account)
        replayed = 0
        for record in self._journal.records_after(self._snapshot_seq):
            outcome = self.machine.execute(VersionedTransaction.from_bytes(record.raw), record.slot)
            if _meta_text(outcome) != record.meta:
                raise JournalError(
                    f"transaction {record.seq} gives another outcome than the one recorded; "
                    "start the release that wrote it once and stop it cleanly, which leaves nothing to replay"
                )
            self._dirty.update(outcome.writable)
            replayed += 1
        return replayed

    def _install(self, programs: dict[Pubkey, bytes]) -> None:
        recorded = {Pubkey(address): elf for address, elf in self._journal.programs()}
        changed = {address: elf for address, elf in programs.items() if recorded.get(address) != elf}
        if changed and self._seq > self._snapshot_seq:
            # A replay must meet the program that ran then, so nothing may be left to replay across the change.
            self._journal.append([], self._snapshot(self._seq))
        for address, elf in changed.items():
            self.machine.add_program(address, elf)
            self._journal.put_program(bytes(address), self._seq + 1, elf)
            _log.info("program installed", program=str(address), sha256=sha256_hex(elf), upgrade=address in recorded)
        self.programs = {address: sha256_hex(elf) for address, elf in {**recorded, **programs}.items()}

    async def close(self) -> None:
        """Settle what is pending and leave a snapshot, so that the next start has nothing to replay."""
        if self.broken is None:
            await self.settled()
            if self._seq > self._snapshot_seq:
                snapshot = self._snapshot(self._seq)
                await self._write([], snapshot)
        self._writer.shutdown()
        self._reader.shutdown()
        self._journal.close()

    def _snapshot(self, seq: int) -> Snapshot:
        accounts = [(bytes(k), bytes(a) if (a := self.machine.account(k)) else None) for k in self._dirty]
        self._dirty = set()
        self._snapshot_seq = seq
        return Snapshot(seq, self.machine.slot, accounts)

    # -- reading ----------------------------------------------------------------------------------------------

    def slot(self) -> int:
        return self.slots.current()

    def check(self) -> None:
        """Raises RpcError (node unhealthy) where the chain has lost its disk."""
        if self.broken is not None:
            raise RpcError(NODE_UNHEALTHY, f"Node is unhealthy: {self.broken}", {"numSlotsBehind": None})

    def account(self, address: Pubkey, slot: int) -> Account | None:
        """The account as it is at `slot`, the current one: also the sysvars of time, whether or not anything has run in it."""
        if address in TIME_SYSVARS:
            self.machine.enter_slot(slot)
        return self.machine.account(address)

    def program_accounts(self, owner: Pubkey, slot: int) -> list[tuple[Pubkey, Account]]:
        """The accounts that `owner` owns, as they are at `slot`, the current one."""
        if owner == SYSVAR_OWNER:
            self.machine.enter_slot(slot)
        return self.machine.program_accounts(owner)

    def status(self, signature: bytes) -> tuple[int, ErrorJson | None] | None:
        """(slot, error) of a recent transaction."""
        return self._recent.get(signature)

    async def query(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query of the journal off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, lambda: function(*args, **kwargs))

    @property
    def journal(self) -> Journal:
        return self._journal

    @property
    def transaction_count(self) -> int:
        return self._seq

    async def settled(self) -> None:
        """Wait until everything that has run by now is on the disk. Raises RpcError where it cannot be put there."""
        pending = self._batch_settled or self._in_flight
        if pending is not None:
            await asyncio.shield(pending)
        self.check()

    # -- accepting --------------------------------------------------------------------------------------------

    def simulate(self, tx: VersionedTransaction) -> Simulation:
        slot = self.slot()
        return self._guarded(lambda: self.machine.simulate(tx, slot))

    def precheck(self, tx: VersionedTransaction) -> ErrorJson | None:
        """Why `tx` can never land: seen before, or its blockhash is unknown or too old."""
        if bytes(tx.signatures[0]) in self._recent:
            return "AlreadyProcessed"
        if self.slots.slot_of(bytes(tx.message.recent_blockhash), self.slot()) is None:
            return "BlockhashNotFound"
        return None

    async def submit(self, tx: VersionedTransaction, raw: bytes, *, preflight: bool) -> bytes:
        """Run `tx`, make it durable and return its first signature.

        With `preflight` a transaction that would fail is refused and costs nothing. Without, it lands as failed and pays its
        fee; a duplicate then answers its signature again (nothing runs twice), and one that can never land is refused: other
        than a cluster, which forgets it silently, this node knows.
        Raises RpcError with -32003 (signatures), -32002 (simulation, blockhash, duplicate) or -32005 (disk lost).
        """
        self.check()
        if not all(tx.verify_with_results()):
            raise RpcError(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")
        signature = bytes(tx.signatures[0])
        refused = self.precheck(tx)
        if refused == "AlreadyProcessed" and not preflight:
            await self.settled()
            return signature
        if refused is not None:
            raise preflight_failure(refused)
        slot = self.slot()
        outcome = self._guarded(lambda: (self.machine.attempt if preflight else self.machine.execute)(tx, slot))
        if isinstance(outcome, Simulation):
            await self.settled()
            raise preflight_failure(outcome.err or "SanitizeFailure", outcome)
        if not outcome.landed:
            raise preflight_failure(outcome.err or "SanitizeFailure")
        self._accept(signature, slot, raw, outcome)
        await self.settled()
        return signature

    async def airdrop(self, to: Pubkey, lamports: int) -> bytes:
        """Transfer from the faucet by an ordinary transaction. Returns its signature."""
        # A transaction is known by its signature: the unit limit tells two equal airdrops in one slot apart.
        unlike = set_compute_unit_limit(10_000 + self._seq % 1_000_000)
        send = transfer(TransferParams(from_pubkey=self.faucet.pubkey(), to_pubkey=to, lamports=lamports))
        blockhash = Hash(self.slots.blockhash(self.slot()))
        message = MessageV0.try_compile(self.faucet.pubkey(), [unlike, send], [], blockhash)
        tx = VersionedTransaction(message, [self.faucet])
        return await self.submit(tx, bytes(tx), preflight=True)

    def _guarded(self, run: Callable[[], R]) -> R:
        try:
            return run()
        except MachinePanicError as error:
            self._break(error)
            raise RpcError(NODE_UNHEALTHY, f"Node is unhealthy: {error}", {"numSlotsBehind": None}) from error

    def _accept(self, signature: bytes, slot: int, raw: bytes, outcome: Outcome) -> None:
        self._seq += 1
        record = Record(self._seq, signature, slot, raw, _meta_text(outcome), tuple(bytes(key) for key in outcome.keys))
        self._recent[signature] = (slot, outcome.err)
        while slot - self._recent[oldest := next(iter(self._recent))][0] > _RECENT_SLOTS:
            del self._recent[oldest]
        self._dirty.update(outcome.writable)
        accounts = (
            tuple((key, self.machine.account(key)) for key in outcome.writable) if self.on_landed is not None else ()
        )
        landed = Landed(signature, slot, outcome.err, as_strings(outcome.meta["logMessages"]), outcome.keys, accounts)
        self._batch.append((record, landed))
        if self._batch_settled is None:
            self._batch_settled = asyncio.get_running_loop().create_future()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="ledger-flush")

    async def _flush(self) -> None:
        """Commit batch after batch until nothing is pending: while one is being written, the next one gathers."""
        while self._batch and self._batch_settled is not None:
            batch, settled = self._batch, self._batch_settled
            self._batch, self._batch_settled, self._in_flight = [], None, settled
            snapshot = None
            if self._seq - self._snapshot_seq >= self._snapshot_every:
                snapshot = self._snapshot(self._seq)
            try:
                await self._write([record for record, _ in batch], snapshot)
            except Exception as error:  # noqa: BLE001 - whatever the reason, what the machine did is not on the disk
                self._break(error)
                settled.set_result(None)
                break
            for _, landed in batch:
                if self.on_landed is not None:
                    self.on_landed(landed)
            settled.set_result(None)
        self._in_flight = None
        if self.broken is not None and self._batch_settled is not None:
            self._batch_settled.set_result(None)

    async def _write(self, records: Sequence[Record], snapshot: Snapshot | None) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._journal.append, records, snapshot)

    def _break(self, error: BaseException) -> None:
        if self.broken is None:
            self.broken = error
            _log.error("the ledger cannot go on", error=str(error))
            self._on_broken(error)


def preflight_failure(err: ErrorJson, simulation: Simulation | None = None) -> RpcError:
    """Error -32002 with the data that Solana clients decode."""
    return RpcError(
        PREFLIGHT_FAILURE,
        f"Transaction simulation failed: {describe(err)}",
        {
            "accounts": None,
            "err": err,
            "innerInstructions": None,
            "loadedAccountsDataSize": 0,
            "loadedAddresses": None,
            "logs": simulation.logs if simulation else [],
            "replacementBlockhash": None,
            "returnData": simulation.return_data if simulation else None,
            "unitsConsumed": simulation.units if simulation else 0,
        },
    )


def _meta_text(outcome: Outcome) -> str:
    return json.dumps(outcome.meta, separators=(",", ":"))
