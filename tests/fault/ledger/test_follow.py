"""A follower of the program's events over more than a page of history, with the node killed in between."""

import asyncio

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import LedgerUnavailableError
from acgs1.ledger.events import AuthorityOffered
from acgs1.ledger.instructions import Authorities, Parameters
from program.process import Process

pytestmark = pytest.mark.slow

OFFERS = 1_300


async def test_a_follower_misses_and_repeats_nothing_over_pages_polls_restarts_and_kill_9(tmp_path):
    node = Process(tmp_path)
    await node.start()
    url, council = f"http://127.0.0.1:{node.port}", Keypair()
    offered: list[str] = []
    seen: list[tuple[str, int]] = []
    heard: list[str] = []
    answered_half = asyncio.Event()

    async def offer(client: LedgerClient, count: int) -> None:
        for _ in range(count):
            to = Pubkey.new_unique()
            try:
                await client.offer_authority(council, "log", to)
            except LedgerUnavailableError:
                return
            offered.append(str(to))
            if len(offered) >= OFFERS // 2:
                answered_half.set()

    async def poll(cursor: str | None) -> str | None:
        """Every poll with a new client, as after a restart of the follower, and by a few transactions."""
        while True:
            async with LedgerClient(url) as client:
                events, cursor, caught_up = await client.events_since(cursor, limit=250)
            seen.extend((e.signature, e.position) for e in events)
            heard.extend(e.body.offered_to for e in events if isinstance(e.body, AuthorityOffered))
            if caught_up:
                return cursor

    try:
        async with LedgerClient(url) as client:
            await client.airdrop(council.pubkey(), 10**10)
            who = Authorities(*(council.pubkey() for _ in range(4)))
            await client.ensure_initialized(council, who, Parameters(voting_period=60), "a" * 64)
            load = [asyncio.create_task(offer(client, OFFERS // 8)) for _ in range(8)]
            cursor = await poll(None)
            await answered_half.wait()
            cursor = await poll(cursor)
            await node.kill()
            await asyncio.gather(*load)
            await node.start()
            await asyncio.gather(*(offer(client, (OFFERS - len(offered)) // 8 + 1) for _ in range(8)))
        cursor = await poll(cursor)
        assert await poll(cursor) == cursor
        whole = len(await node.rpc("getSignaturesForAddress", str(client.program)))
        assert whole == 1000 < len(seen) == len(set(seen))
        # What was answered is heard, once. What the kill cut off before its answer may be there as well, once.
        assert len(heard) == len(set(heard))
        assert set(offered) <= set(heard)
        assert len(set(heard) - set(offered)) <= 8
    finally:
        await node.stop()
