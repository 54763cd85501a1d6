"""Following events over an endpoint that pages, lags, forgets and fails."""

import base64
import hashlib

import pytest
from solders.signature import Signature

from acgs1.ledger.errors import CursorLostError, LedgerUnavailableError, RpcFailureError
from acgs1.ledger.events import LogTruncated, ProposalCancelled
from acgs1.ledger.feed import EventFeed
from acgs1.ledger.idl import Idl
from acgs1.ledger.program import shipped

SHIPPED = shipped()
PROGRAM = SHIPPED.program_id
IDL = Idl(SHIPPED.idl)
CANCELLED = hashlib.sha256(b"event:ProposalCancelled").digest()[:8]


def signature(number: int) -> str:
    return str(Signature(number.to_bytes(64, "big")))


class Cluster:
    """The history of one address as a cluster tells it: transaction n is in slot n // 4 and cancels proposal n."""

    def __init__(self, count: int, failed: set[int] = frozenset(), page: int = 1000) -> None:
        self.url = "http://cluster"
        self.count = count
        self.failed = failed
        self.page = page
        self.calls: list[str] = []
        self.lag = 0
        self.hidden: set[str] = set()
        self.forgotten_pages = False

    async def read(self, method: str, *params):
        self.calls.append(method)
        if method == "getTransaction":
            return None if params[0] in self.hidden else {"meta": {"logMessages": self.logs(params[0])}}
        _, config = params
        known = self.count - self.lag
        if config.get("minContextSlot", 0) > (known - 1) // 4:
            raise RpcFailureError("behind", -32016)
        numbers = range(known - 1, -1, -1)
        if "before" in config:
            if self.forgotten_pages:
                return []
            at = int.from_bytes(bytes(Signature.from_string(config["before"])), "big")
            numbers = range(at - 1, -1, -1)
        return [
            {"signature": signature(n), "slot": n // 4, "err": {"x": 1} if n in self.failed else None}
            for n in list(numbers)[: min(config["limit"], self.page)]
        ]

    def logs(self, text: str) -> list[str]:
        number = int.from_bytes(bytes(Signature.from_string(text)), "big")
        data = CANCELLED + number.to_bytes(8, "little") + bytes(8)
        return [
            f"Program {PROGRAM} invoke [1]",
            f"Program data: {base64.b64encode(data).decode()}",
            f"Program {PROGRAM} success",
        ]


def feed(cluster: Cluster) -> EventFeed:
    return EventFeed(cluster, IDL, PROGRAM, PROGRAM, "confirmed")


def told(events) -> list[int]:
    assert all(isinstance(e.body, ProposalCancelled) for e in events)
    return [e.body.index for e in events]


@pytest.mark.parametrize("page", [1000, 100, 7])
async def test_every_event_is_told_once_and_in_order_whatever_the_pages(page):
    cluster = Cluster(2_345, page=page)
    follower, cursor, seen = feed(cluster), None, []
    while True:
        events, cursor, caught_up = await follower.since(cursor, limit=321)
        seen += told(events)
        if caught_up:
            break
    assert seen == list(range(2_345))


async def test_a_poll_between_arrivals_tells_what_is_new_and_nothing_else():
    cluster, seen, cursor = Cluster(3), [], None
    for arrived in (0, 1, 0, 50, 1_500, 2):
        cluster.count += arrived
        events, cursor, caught_up = await feed(cluster).since(cursor, limit=10_000)  # a new follower: a restart
        seen += told(events)
        assert caught_up
    assert seen == list(range(cluster.count))


async def test_transactions_without_events_move_the_cursor_and_are_not_fetched():
    cluster = Cluster(40, failed=set(range(10, 40)))
    events, cursor, _ = await feed(cluster).since(None)
    assert told(events) == list(range(10))
    assert cursor == f"{39 // 4}:{signature(39)}"
    assert cluster.calls.count("getTransaction") == 10
    assert await feed(cluster).since(cursor) == ((), cursor, True)


async def test_a_node_behind_the_cursor_is_unavailable_and_repeats_nothing():
    cluster = Cluster(100)
    _, cursor, _ = await feed(cluster).since(None)
    cluster.lag = 50
    with pytest.raises(LedgerUnavailableError, match="slot 24"):
        await feed(cluster).since(cursor)
    cluster.lag, cluster.count = 0, 101
    assert told((await feed(cluster).since(cursor)).events) == [100]


async def test_a_page_that_does_not_connect_is_unavailable_and_not_the_end():
    cluster = Cluster(2_000)
    cluster.forgotten_pages = True
    with pytest.raises(LedgerUnavailableError, match="does not connect"):
        await feed(cluster).since(None)


async def test_a_cursor_of_another_ledger_is_refused():
    with pytest.raises(CursorLostError):
        await feed(Cluster(100)).since(f"3:{signature(10**9)}")
    with pytest.raises(CursorLostError):
        await feed(Cluster(100)).since(signature(10**9))
    with pytest.raises(ValueError, match="not a cursor"):
        await feed(Cluster(100)).since("12:x")


async def test_a_bare_signature_is_a_cursor_too():
    assert told((await feed(Cluster(100)).since(signature(97))).events) == [98, 99]


async def test_a_listed_transaction_that_is_not_shown_yet_is_asked_for_again():
    cluster = Cluster(30)
    cluster.hidden = {signature(20)}
    follower = feed(cluster)
    with pytest.raises(LedgerUnavailableError, match="does not show"):
        await follower.since(None)
    cluster.hidden = set()
    assert told((await follower.since(None)).events) == list(range(30))


async def test_a_log_that_was_cut_says_so():
    cluster = Cluster(1)
    cluster.logs = lambda _: [f"Program {PROGRAM} invoke [1]", "Log truncated"]
    ((event,), _, _) = await feed(cluster).since(None)
    assert event.body == LogTruncated()
