"""Anchoring: puts the log's root on the ledger."""

import asyncio
from contextlib import suppress

import structlog

from acgs1.contracts.integrity import AnchorRecord
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.merkle import MerkleError, TreeHead
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.reporting import workflow_runs
from acgs1.services.integrity.errors import LedgerNotReady, LogHalted, NothingToAnchor
from acgs1.services.integrity.ports import LandedAnchor, Ledger, LogStore, Records
from acgs1.services.integrity.sequencer import Sequencer, root_at

_log = structlog.get_logger()

_CHECK_SECONDS = 15.0
_WORKFLOW = "integrity-anchor"


class Anchorer:
    """Keeps the ledger up with the log: the second half of the workflow `audit_transparency`, from the log to the ledger.

    It has one step and needs no results of earlier ones: each try reads what the log and the ledger hold, and does what is missing
    between them. A kill at any point is made good by the next try.

    INVARIANT: nothing is anchored before what stands on the ledger was found to be a prefix of this log. Where it is not,
    the log was set back or forked, and halts.
    """

    def __init__(self, store: LogStore, sequencer: Sequencer, ledger: Ledger, clock: Clock) -> None:
        self._store = store
        self._sequencer = sequencer
        self._ledger = ledger
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._landed = asyncio.Condition()
        self._problem: DomainError | None = None
        self._answered_at = float("-inf")

    async def anchor_now(self) -> AnchorRecord:
        """The anchor of the log's present head, made now unless it exists.

        Raises NothingToAnchor for an empty log, LogHalted, DependencyUnavailable when the ledger fails.
        """
        async with self._one_at_a_time:
            self._wanted.clear()
            try:
                record = await self._anchor()
            except (NothingToAnchor, LedgerNotReady):
                self._problem = None
                raise
            except DomainError as error:
                self._problem = error
                # What waits for an anchor counts as stuck when this goes on for longer than the workflow's target.
                workflow_runs().started("audit_transparency", _WORKFLOW)
                raise
            self._problem = None
        async with self._landed:
            self._landed.notify_all()
        return record

    async def wait_for(self, index: int, seconds: float) -> AnchorRecord | None:
        """The first anchor whose tree holds leaf `index`; None when there is none within `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._landed:
                while True:
                    async with self._store.reading() as records:
                        if anchor := await records.covering_anchor(index):
                            return anchor
                    self._wanted.set()
                    await self._landed.wait()
        except TimeoutError:
            return None

    async def wanted(self) -> None:
        """Returns when somebody waits for an anchor that nobody is making yet."""
        await self._wanted.wait()

    async def check(self) -> None:
        """For `/health`: raises what the last try raised; asks the ledger when there was none lately."""
        if self._problem is not None:
            raise self._problem
        if self._clock.monotonic() - self._answered_at > _CHECK_SECONDS:
            with suppress(LedgerNotReady):
                await self._ledger.anchored()
            self._answered_at = self._clock.monotonic()

    async def _anchor(self) -> AnchorRecord:
        if self._sequencer.halted is not None:
            raise LogHalted(self._sequencer.halted)
        async with self._store.reading() as records:
            signed, last = await records.head(), await records.last_anchor()
        if signed is None or signed.head.size == 0:
            raise NothingToAnchor("log an event first")
        if last is not None and last.tree_size == signed.head.size:
            return last
        on_ledger = await self._ledger.anchored()
        self._answered_at = self._clock.monotonic()
        async with self._store.reading() as records:
            # Read again: what another process has anchored in the meantime was in the log before it was on the ledger.
            signed = await records.head() or signed
            head = signed.head
            if on_ledger is not None:
                await self._verify(records, on_ledger, head)
        if on_ledger == head:
            # It landed, but this process did not live to write that down.
            landed = await self._ledger.find(head)
            if landed is None:
                raise DependencyUnavailable(f"the ledger holds the root of {head.size} leaves but not its transaction")
        else:
            landed = await self._ledger.anchor(head)
        return await self._keep(landed, 0 if last is None else last.tree_size)

    async def _verify(self, records: Records, on_ledger: TreeHead, head: TreeHead) -> None:
        try:
            ours = await root_at(records, on_ledger.size) if on_ledger.size <= head.size else None
        except MerkleError:
            ours = None
        if ours != on_ledger.root:
            reason = f"the ledger anchors {on_ledger.size} leaves with another root than this log of {head.size} leaves"
            self._sequencer.halt(reason)
            raise LogHalted(reason)

    async def _keep(self, landed: LandedAnchor, already: int) -> AnchorRecord:
        """The anchor, which the ledger has given back as an auditor would check it, for everybody to read; `already` leaves were anchored
        before."""
        record = AnchorRecord(**landed.anchor.model_dump(), slot=landed.slot, anchored_at=self._clock.now())
        async with self._store.transaction() as records:
            await records.add_anchor(record)
            # Another process may have found the same transaction first.
            record = await records.covering_anchor(record.tree_size - 1) or record
            oldest = await records.leaf_at(already)
        _log.info("anchored", tree_size=record.tree_size, signature=record.signature, slot=record.slot)
        if oldest is not None:
            waited = (record.anchored_at - oldest.entry().logged_at).total_seconds()
            workflow_runs().finished("audit_transparency", waited, compliance_score=1.0, workflow_id=_WORKFLOW)
        return record
