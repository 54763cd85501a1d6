"""Following the program's events from a cursor: none missed, none repeated, over pages, polls and restarts.

A cluster tells only the newest signatures of an address, page by page into the past. What is listed here always connects:
each page begins with the last row of the one before, and the walk ends at the cursor's own transaction. A node that lags behind or
has forgotten its past would otherwise answer with an empty page, which looks like the end.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from acgs1.ledger.errors import CursorLostError, LedgerUnavailableError, RpcFailureError
from acgs1.ledger.events import LedgerEvent, events_in_logs
from acgs1.ledger.idl import Idl
from acgs1.ledger.jsonrpc import JsonRpc

MIN_CONTEXT_SLOT_NOT_REACHED: Final = -32016
# A poll mostly finds little; a follower that is behind asks for whole pages (1000 is Solana's limit).
_FIRST_PAGE, _PAGE = 20, 1000
_AT_ONCE: Final = 8
_CURSOR: Final = re.compile(r"^(?:(\d+):)?([1-9A-HJ-NP-Za-km-z]{64,88})$")


class EventPage(NamedTuple):
    """Events in the order in which they happened, whole transactions only.

    `cursor` stands behind the last transaction that was looked at, with or without events: keep it in the same commit as what
    the events led to, and nothing is missed or handled twice. None while the program has no history. `caught_up`: there was
    nothing more when the ledger was asked.
    """

    events: tuple[LedgerEvent, ...]
    cursor: str | None
    caught_up: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A transaction in the history of the address."""

    signature: str
    slot: int
    failed: bool

    @property
    def cursor(self) -> str:
        return f"{self.slot}:{self.signature}"


class EventFeed:
    """The events of `program` in transactions that name `address`."""

    def __init__(self, rpc: JsonRpc, idl: Idl, program: str, address: str, commitment: str) -> None:
        self._rpc = rpc
        self._idl = idl
        self._program = program
        self._address = address
        self._commitment = commitment
        # What the last listing found and no page has told yet, oldest first, and the cursor that it begins behind.
        self._ahead: deque[_Row] = deque()
        self._ahead_of: str | None = None
        self._one_at_a_time = asyncio.Lock()

    async def since(self, cursor: str | None, limit: int = 1000) -> EventPage:
        """The events of at most `limit` transactions behind `cursor` (None: from the first one on).

        Raises CursorLostError where the ledger does not know the cursor's transaction, LedgerUnavailableError
        where the node cannot tell (yet): try again with the same cursor.
        """
        if limit < 1:
            raise ValueError(f"`limit` is at least 1, got `{limit}`")
        async with self._one_at_a_time:
            return await self._since(cursor, limit)

    async def _since(self, cursor: str | None, limit: int) -> EventPage:
        if not self._ahead or self._ahead_of != cursor:
            self._ahead = deque(reversed(await self._backlog(cursor)))
        rows = [self._ahead[i] for i in range(min(limit, len(self._ahead)))]
        events: list[LedgerEvent] = []
        wanted = [row for row in rows if not row.failed]
        for start in range(0, len(wanted), _AT_ONCE):
            for found in await asyncio.gather(*(self._events(row) for row in wanted[start : start + _AT_ONCE])):
                events += found
        # Only now: a failure above leaves everything as it was.
        for _ in rows:
            self._ahead.popleft()
        after = rows[-1].cursor if rows else cursor
        self._ahead_of = after
        return EventPage(tuple(events), after, not self._ahead)

    async def follow(self, cursor: str | None) -> AsyncIterator[LedgerEvent]:
        """The events behind `cursor` up to now, oldest first. Raises as `since` does."""
        while True:
            page = await self.since(cursor, 100)
            for event in page.events:
                yield event
            if page.caught_up:
                return
            cursor = page.cursor

    async def _backlog(self, cursor: str | None) -> list[_Row]:
        """The transactions behind `cursor`, newest first."""
        at, known = _parse(cursor)
        found: list[_Row] = []
        limit = _PAGE if known is None else _FIRST_PAGE
        while True:
            page = await self._page(found[-2].signature if found else None, limit, at)
            if found:
                if not page or page[0] != found[-1]:
                    raise LedgerUnavailableError(f"`{self._rpc.url}` lists a history that does not connect; try again")
                page = page[1:]
            limit = _PAGE
            for row in page:
                if row.signature == known:
                    return found
                if row.slot < at:
                    break
                found.append(row)
            else:
                # Endpoints differ in how long a page may be; only an empty one is the end (or a single row in all).
                if page and len(found) > 1:
                    continue
            if known is None:
                return found
            raise CursorLostError(
                f"`{self._rpc.url}` does not know transaction `{known}` of the cursor: "
                "this is another ledger, or its history does not reach back so far; begin again without a cursor"
            )

    async def _page(self, before: str | None, limit: int, at: int) -> list[_Row]:
        config: dict[str, object] = {"limit": limit, "commitment": self._commitment}
        if before is not None:
            config["before"] = before
        if at:
            config["minContextSlot"] = at
        try:
            rows = await self._rpc.read("getSignaturesForAddress", self._address, config)
        except RpcFailureError as error:
            if error.rpc_code == MIN_CONTEXT_SLOT_NOT_REACHED:
                raise LedgerUnavailableError(
                    f"`{self._rpc.url}` has not reached slot {at} of the cursor yet"
                ) from error
            raise
        return [_Row(row["signature"], row["slot"], row["err"] is not None) for row in rows]

    async def _events(self, row: _Row) -> Sequence[LedgerEvent]:
        config = {"encoding": "json", "maxSupportedTransactionVersion": 0, "commitment": self._commitment}
        transaction = await self._rpc.read("getTransaction", row.signature, config)
        if transaction is None or transaction.get("meta") is None:
            raise LedgerUnavailableError(f"`{self._rpc.url}` lists `{row.signature}` and does not show it (yet)")
        bodies = events_in_logs(self._idl, self._program, transaction["meta"].get("logMessages") or [])
        return [LedgerEvent(row.signature, row.slot, position, body) for position, body in enumerate(bodies)]


def slot_of(cursor: str | None) -> int:
    """The slot that the cursor stands at; 0 where it does not say. Raises ValueError for what is no cursor."""
    return _parse(cursor)[0]


def _parse(cursor: str | None) -> tuple[int, str | None]:
    """(slot, signature); a bare signature is a cursor too, without the slot."""
    if cursor is None:
        return 0, None
    match = _CURSOR.match(cursor)
    if match is None:
        raise ValueError(f"`{cursor}` is not a cursor: expected `slot:signature`")
    return int(match[1] or 0), match[2]
