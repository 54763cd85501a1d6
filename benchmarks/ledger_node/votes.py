"""The time of a vote from the HTTP call to policy_governance until it is confirmed on the ledger and told back.

A real system on an empty data directory, as `acgs1 up` starts it: twenty members whose wallets are kept there, proposal after proposal
in which all of them vote. A vote is one POST: token, member, signed transaction, its effect read back from the ledger's events
and kept in the database. Timed at the client, over loopback.

    python benchmarks/ledger_node/votes.py --proposals 50 --concurrency 1 8 --out benchmarks/ledger_node/votes.json
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))
import record

from acgs1.contracts.auth import Role, User
from acgs1.contracts.constitutional_ai import ConstitutionVersion
from acgs1.contracts.policy_governance import Ballot, Member, Proposal
from acgs1.contracts.topology import PARTS
from acgs1.kit.constitution_file import load_constitution
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api
from acgs1.runtime.demo import example_folder
from acgs1.runtime.supervisor import is_healthy

MEMBERS = 20
START_SECONDS = 120
# Longer than any run: each vote ends when its last member has voted.
VOTING_SECONDS = 86_400


def free_offset() -> int:
    """A port offset at which every part finds its port free."""
    for offset in range(20_000, 50_000, 100):
        try:
            for part in PARTS:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", part.port + offset))
        except OSError:
            continue
        return offset
    raise SystemExit("no free ports")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Assembly:
    """A founded system and the people who vote in it."""

    def __init__(self, http: httpx.AsyncClient, settings: PlatformSettings) -> None:
        self._public = Api(http, settings)
        self._settings = settings
        self.members: list[Api] = []

    async def found(self) -> None:
        """Register the members and adopt the airline's constitution."""
        admin = await self._public.sign_in("admin", Home(self._settings.home).admin_password.read_text().strip())
        operator = await self._person(admin, "operator", Role.OPERATOR, Role.LEGISLATOR)
        for number in range(MEMBERS):
            self.members.append(await self._person(admin, f"member-{number}", Role.MEMBER, member=True))
        text = load_constitution(example_folder() / "constitution.yaml")
        kept = await operator.post("constitutional_ai", "/api/v1/constitutions", text, ConstitutionVersion)
        path = f"/api/v1/constitutions/{kept.hash}/adoption"
        adopted = await operator.post("constitutional_ai", path, {}, ConstitutionVersion, wait=30)
        if adopted.status != "in_force":
            raise SystemExit(f"the constitution is `{adopted.status}`: {adopted.refusal}")

    async def _person(self, admin: Api, name: str, *roles: Role, member: bool = False) -> Api:
        password = f"{name} has a long password"
        body = {"username": name, "password": password, "roles": list(roles)}
        user = await admin.post("auth", "/api/v1/users", body, User)
        if member:
            await admin.post("policy_governance", "/api/v1/members", {"user_id": user.id, "weight": 1}, Member)
        return await self._public.sign_in(name, password)

    async def whole(self, number: int, times: list[float]) -> None:
        """One proposal: everybody votes against it, one after the other, and it is closed."""
        body = {"title": f"Proposal {number}", "threshold_bp": 7000, "voting_seconds": VOTING_SECONDS}
        path = "/api/v1/proposals/parameters"
        proposal = await self.members[number % MEMBERS].post("policy_governance", path, body, Proposal)
        path = f"/api/v1/proposals/{proposal.id}"
        for member in self.members:
            begun = time.perf_counter()
            ballot = await member.post("policy_governance", f"{path}/ballots", {"choice": "against"}, Ballot)
            times.append((time.perf_counter() - begun) * 1000)
            assert ballot.signature, ballot
        done = await self.members[0].post("policy_governance", f"{path}/finalization", {}, Proposal)
        assert (done.status, done.against_weight) == ("rejected", MEMBERS), done


async def measure(settings: PlatformSettings, proposals: int, concurrencies: list[int]) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        assembly = Assembly(http, settings)
        await assembly.found()
        for concurrency in concurrencies:
            times: list[float] = []
            queue = iter(range(proposals))

            async def worker(queue: Any = queue, times: list[float] = times) -> None:
                for number in queue:
                    await assembly.whole(number, times)

            begun = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(concurrency)))
            elapsed = time.perf_counter() - begun
            runs.append(
                {
                    "proposals": proposals,
                    "votes": len(times),
                    "concurrency": concurrency,
                    "seconds": round(elapsed, 3),
                    "votes_per_second": round(len(times) / elapsed, 1),
                    "vote_ms": {
                        "p50": round(percentile(times, 0.5), 2),
                        "p95": round(percentile(times, 0.95), 2),
                        "p99": round(percentile(times, 0.99), 2),
                        "max": round(max(times), 2),
                    },
                    "load_after": round(os.getloadavg()[0], 2),
                }
            )
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, default=50, help=f"in each run; {MEMBERS} votes each")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8], help="proposals that are open at a time")
    parser.add_argument("--seconds", type=float, default=900, help="stop, without a result, after this time")
    parser.add_argument("--out", type=Path, help="write the result there and keep its figures in the history")
    options = parser.parse_args()
    context = record.context()
    offset = free_offset()
    with tempfile.TemporaryDirectory() as home:
        settings = PlatformSettings(home=Path(home), port_offset=offset)
        env = {**os.environ, "ACGS_HOME": home, "ACGS_PORT_OFFSET": str(offset)}
        system = subprocess.Popen([sys.executable, "-m", "acgs1", "up", "--quiet"], env=env)
        try:
            until = time.monotonic() + START_SECONDS
            while not all(is_healthy("127.0.0.1", settings.port(part.name)) for part in PARTS):
                if system.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the system did not start")
                time.sleep(0.1)
            work = asyncio.wait_for(measure(settings, options.proposals, options.concurrency), options.seconds)
            runs = uvloop.run(work)
        finally:
            system.send_signal(signal.SIGTERM)
            system.wait(30)
    result = {**context, "members": MEMBERS, "runs": runs}
    for run in runs:
        print(f"{run['votes']} votes, {run['concurrency']} at a time: {run['vote_ms']} ms")
    if options.out:
        record.write(options.out, result)
        figures: dict[str, record.Figure | None] = {}
        for run in runs:
            which = f"{run['concurrency']} at a time"
            figures[f"P50 of a vote over HTTP, {which}"] = record.lower(run["vote_ms"]["p50"], "ms")
            figures[f"P99 of a vote over HTTP, {which}"] = record.lower(run["vote_ms"]["p99"], "ms")
        record.keep("votes", context, figures)


if __name__ == "__main__":
    main()
