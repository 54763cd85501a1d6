"""Whole proposals per hour and the time of a vote, against a node of its own over loopback HTTP.

A whole proposal: propose, 20 votes by 20 members, finalize, attest, enact, close. Every transaction is durable (fsync)
before it is answered. A vote is timed from the call until the client has seen it confirmed. The last run is as any client of a cluster
has it: without the header in which this node says, with its answer, that the transaction has landed.

    python benchmarks/ledger_node/throughput.py --proposals 40 --concurrency 8 --out benchmarks/ledger_node/results.json
"""

import argparse
import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from solders.keypair import Keypair

from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import LedgerUnavailableError
from acgs1.ledger.instructions import Authorities, Parameters

sys.path.insert(0, str(Path(__file__).parent.parent))
import record

MEMBERS = 20


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def key(seed: int, name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(f"{seed}/{name}".encode()).digest())


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def measure(url: str, seed: int, proposals: int, concurrency: int, *, landed_header: bool) -> dict[str, Any]:
    async with LedgerClient(url) as client:
        if not landed_header:

            async def send(wire: str, config: Mapping[str, object]) -> None:
                await client.rpc.call("sendTransaction", wire, config)

            client.rpc.send_transaction = send  # pyright: ignore[reportAttributeAccessIssue]
        while True:
            try:
                await client.rpc.call("getHealth")
                break
            except LedgerUnavailableError:
                await asyncio.sleep(0.05)
        council = key(seed, "council")
        members = [key(seed, f"member {i}") for i in range(MEMBERS)]
        for wallet in (council, *members):
            await client.airdrop(wallet.pubkey(), 100 * 10**9)
        who = Authorities(council.pubkey(), council.pubkey(), council.pubkey(), council.pubkey())
        await client.ensure_initialized(council, who, Parameters(voting_period=3600), digest("constitution"))
        await client.add_principle(council, "A principle", digest("principle"), digest("constitution 2"))
        for member in members:
            await client.register_member(council, member.pubkey(), 1)
        await client.ratify(council, digest("constitution 2"))
        votes: list[float] = []
        wholes: list[float] = []

        async def whole(number: int) -> None:
            begun = time.perf_counter()
            proposer = members[number % MEMBERS]
            content, certificate = digest(f"policy {number}"), digest(f"certificate {number}")
            proposed = await client.propose(proposer, "policy", content, certificate)
            for member in members:
                start = time.perf_counter()
                await client.vote(member, proposed.index, "for")
                votes.append((time.perf_counter() - start) * 1000)
            done = await client.finalize(council, proposed.index)
            assert done.status == "accepted", done
            await client.attest(council, certificate, content, 1)
            await client.enact(council, proposed.index)
            await client.close_proposal(proposer, proposed.index)
            wholes.append((time.perf_counter() - begun) * 1000)

        queue = iter(range(proposals))

        async def worker() -> None:
            for number in queue:
                await whole(number)

        begun, processor = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        elapsed, processor = time.perf_counter() - begun, time.process_time() - processor
        assert len(wholes) == proposals
        return {
            "proposals": proposals,
            "votes": len(votes),
            "concurrency": concurrency,
            "landed_header": landed_header,
            "seconds": round(elapsed, 3),
            "whole_proposals_per_hour": round(proposals / elapsed * 3600),
            "transactions_per_second": round(proposals * (MEMBERS + 5) / elapsed, 1),
            "client_cpu_ms_per_transaction": round(processor * 1000 / (proposals * (MEMBERS + 5)), 3),
            "vote_ms": {"p50": round(percentile(votes, 0.5), 2), "p99": round(percentile(votes, 0.99), 2)},
            "whole_proposal_ms": {"p50": round(percentile(wholes, 0.5), 1), "p99": round(percentile(wholes, 0.99), 1)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, default=40)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    context = record.context(options.seed)
    runs: list[dict[str, Any]] = []
    for concurrency, landed_header in [*((n, True) for n in options.concurrency), (options.concurrency[0], False)]:
        with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            command = ["-m", "acgs1.ledger.node", "--port", str(port), "--pubsub-port", "0", "--data-dir", directory]
            node = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
            try:
                url = f"http://127.0.0.1:{port}"
                work = measure(url, options.seed, options.proposals, concurrency, landed_header=landed_header)
                run = uvloop.run(work)
            finally:
                node.terminate()
                node.wait()
            runs.append({**run, "load_after": os.getloadavg()[0]})
    result = {**context, "runs": runs}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    figures: dict[str, record.Figure | None] = {}
    for run in runs:
        rate, vote = run["whole_proposals_per_hour"], run["vote_ms"]
        which = f"{run['concurrency']} at a time" + ("" if run["landed_header"] else ", without the header")
        figures[f"whole proposals, {which}"] = record.higher(rate, "per hour")
        figures[f"P50 of a vote, {which}"] = record.lower(vote["p50"], "ms")
    record.keep("ledger_node", context, figures)


if __name__ == "__main__":
    main()
