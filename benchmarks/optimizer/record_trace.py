"""Record which hot reads a running system is asked, and when their answers really change.

Starts the system with the airline example governed. People open the console in sessions (a look at the whole, then principles, the first
ones far more often than the last), members refresh the vote while it is on, agents ask for the active bundle when they start and
every few seconds from then on. Meanwhile the members put amendments and policies to the vote, in sittings with pauses in between, and the
operator activates bundles. What is written down is what happened: the instant at which each request was sent, and the instant at which
the answer became another one, seen past all caches (in the services' databases and in the ledger's account).

    .venv/bin/python benchmarks/optimizer/record_trace.py --seconds 240
"""

import argparse
import asyncio
import copy
import json
import random
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import record
from benchmarks.load.system import own_system

from acgs1.contracts.constitution import Constitution
from acgs1.core.hashing import content_hash
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.ledger.client import ledger_client
from acgs1.runtime.api import Api

TRACE = Path(__file__).parent / "trace.json"
SEED = 20261130
LOOK_SECONDS = 0.02
"""How often the truth is looked at: the error of the instants of change."""
PEOPLE, MEMBERS, AGENTS = 12, 2, 10


@dataclass
class Trace:
    """Instants in milliseconds since the beginning, by (operation, key)."""

    began: float = field(default_factory=time.monotonic)
    reads: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    changes: dict[tuple[str, str], list[tuple[int, str]]] = field(default_factory=dict)

    def now(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    def read(self, operation: str, key: str) -> None:
        self.reads.setdefault((operation, key), []).append(self.now())

    def is_now(self, operation: str, key: str, version: str) -> None:
        known = self.changes.setdefault((operation, key), [])
        if not known or known[-1][1] != version:
            known.append((self.now(), version))

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "operation": operation,
                "key": key,
                "reads": _differences(self.reads.get((operation, key), [])),
                "changes": _differences([at for at, _ in changes]),
                "versions": [version[:8] for _, version in changes],
            }
            for (operation, key), changes in sorted(self.changes.items())
        ]


def _differences(instants: list[int]) -> list[int]:
    return [b - a for a, b in zip([0, *instants], instants, strict=False)]


class Recording:
    """One run: those who read, those who change, and the one who looks."""

    def __init__(self, settings: PlatformSettings, http: httpx.AsyncClient, seconds: float) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._api = Api(http, settings)
        self._rng = random.Random(SEED)
        self._until = time.monotonic() + seconds
        self._done = asyncio.Event()
        self._voting = False
        self._reviews = 0
        self.trace = Trace()
        self.acts: dict[str, int] = {}

    @property
    def on(self) -> bool:
        return time.monotonic() < self._until and not self._done.is_set()

    async def run(self) -> None:
        people = json.loads((self._home.run / "demo.json").read_text())
        self._who = {name: await self._api.sign_in(name, people[name]) for name in ("olu", "ines", "jonas")}
        document = (await self._get("constitutional_ai", "/api/v1/constitutions/in-force"))["constitution"]
        self._founding = document
        self._principles = [principle["id"] for principle in document["principles"]]
        self._policies = (await self._get("policy_governance", "/api/v1/bundles/active"))["policies"]
        looking = asyncio.create_task(self._look())
        readers = [self._person(random.Random(f"{SEED} person {n}")) for n in range(PEOPLE)]
        readers += [self._member(random.Random(f"{SEED} member {n}")) for n in range(MEMBERS)]
        readers += [self._agent(random.Random(f"{SEED} agent {n}")) for n in range(AGENTS)]
        try:
            async with asyncio.TaskGroup() as group:
                for reader in readers:
                    group.create_task(reader)
                group.create_task(self._sittings())
        finally:
            self._done.set()
            await looking

    async def _get(self, part: str, path: str) -> Any:
        return (await self._who["olu"].call("GET", part, path)).json()

    async def _pause(self, seconds: float) -> None:
        left = self._until - time.monotonic()
        if left > 0:
            await asyncio.sleep(min(seconds, left))

    # -- those who read --

    async def _read(self, operation: str, key: str, part: str, path: str) -> None:
        if self.on:
            self.trace.read(operation, key)
            await self._get(part, path)

    async def _state(self) -> None:
        await self._read("ledger_state", "", "policy_governance", "/api/v1/ledger/state")

    async def _active(self) -> None:
        await self._read("active_bundle", "", "policy_governance", "/api/v1/bundles/active")

    async def _in_force(self) -> None:
        await self._read("in_force", "", "constitutional_ai", "/api/v1/constitutions/in-force")

    async def _person(self, rng: random.Random) -> None:
        """Sessions: a look at the whole, then principles; thinking takes a second, now and then ten; away for a while in between."""
        ranks = [1 / (n + 1) for n in range(len(self._principles))]
        while self.on:
            await self._pause(rng.lognormvariate(1.0, 1.2))
            for look in (self._in_force, self._state, self._active):
                await look()
            for key in rng.choices(self._principles, ranks, k=1 + int(rng.expovariate(0.3))):
                await self._pause(rng.lognormvariate(-0.3, 1.0))
                await self._read("principle", key, "constitutional_ai", f"/api/v1/principles/{key}")

    async def _member(self, rng: random.Random) -> None:
        """Refreshes the vote while there is one, and looks in now and then otherwise."""
        while self.on:
            await self._pause(rng.uniform(0.5, 2.0) if self._voting else rng.lognormvariate(2.0, 0.8))
            await self._state()

    async def _agent(self, rng: random.Random) -> None:
        """Starts together with the others, asks every five seconds, is started anew after a while."""
        while self.on:
            for _ in range(rng.randint(4, 20)):
                await self._active()
                await self._pause(5 * rng.uniform(0.9, 1.1))
            await self._in_force()
            await self._pause(rng.expovariate(1 / 10))

    # -- those who change --

    async def _sittings(self) -> None:
        """The members meet, decide one thing after another, and part for a while."""
        rng = self._rng
        texts = [self._founding, self._amended()]
        for text in texts:
            await self._who["olu"].call("POST", "constitutional_ai", "/api/v1/constitutions", body=text)
        hashes = [Constitution.model_validate(text).hash for text in texts]
        in_force = 0
        while self.on:
            await self._pause(rng.lognormvariate(2.0, 0.9))
            self._voting = True
            for _ in range(rng.randint(2, 6)):
                if not self.on:
                    break
                act = rng.choice(["amend", "amend", "activate", "withdraw"])
                if act == "activate":
                    await self._activate(texts[in_force])
                elif act == "withdraw":
                    await self._withdrawn()
                else:
                    in_force = 1 - in_force
                    act = "amend"
                    await self._vote("/amendments", constitution_hash=hashes[in_force])
                self.acts[act] = self.acts.get(act, 0) + 1
                await self._pause(rng.lognormvariate(0.3, 0.8))
            self._voting = False

    async def _propose(self, kind: str, **body: Any) -> str:
        body = {**body, "title": "Recorded", "voting_seconds": 3600}
        made = await self._who["ines"].call("POST", "policy_governance", f"/api/v1/proposals{kind}", body=body)
        return f"/api/v1/proposals/{made.json()['id']}"

    async def _vote(self, kind: str, **body: Any) -> None:
        """Proposed, voted on and carried out."""
        path = await self._propose(kind, **body)
        for name in ("ines", "jonas"):
            await self._pause(self._rng.uniform(0.2, 1.5))
            await self._who[name].call("POST", "policy_governance", f"{path}/ballots", body={"choice": "for"})
        await self._who["ines"].call("POST", "policy_governance", f"{path}/finalization", body={})

    async def _activate(self, constitution: dict[str, Any]) -> None:
        """The policies in force once more, proved under the constitution in force, adopted and activated."""
        olu = self._who["olu"]
        self._reviews += 1
        policies = f"{self._policies}\n// Reviewed for the {self._reviews}. time.\n"
        asked = {"policies": policies, "constitution": constitution}
        report = await olu.call("POST", "formal_verification", "/api/v1/verifications", body=asked, params={"wait": 60})
        proved = await self._get("formal_verification", f"/api/v1/certificates/{report.json()['certificate_hash']}")
        made = {"name": "Reviewed", **asked, "certificate": proved}
        bundle = (await olu.call("POST", "policy_governance", "/api/v1/bundles", body=made)).json()
        await self._vote("", bundle_hash=bundle["hash"])
        await olu.call("POST", "policy_governance", f"/api/v1/bundles/{bundle['hash']}/activation", body={})

    async def _withdrawn(self) -> None:
        """Proposed, and taken back before anybody has voted."""
        path = await self._propose("/parameters", quorum_bp=4000 + self._rng.randrange(1000))
        await self._pause(self._rng.uniform(0.5, 2.0))
        await self._who["ines"].call("POST", "policy_governance", f"{path}/cancellation", body={})

    def _amended(self) -> dict[str, Any]:
        text = copy.deepcopy(self._founding)
        text["principles"][0]["rationale"] += " Confirmed by the members."
        return text

    # -- the one who looks --

    async def _look(self) -> None:
        constitutions = f"file:{self._home.database('constitutional_ai')}?mode=ro"
        bundles = f"file:{self._home.database('policy_governance')}?mode=ro"
        with (
            closing(sqlite3.connect(constitutions, uri=True)) as law,
            closing(sqlite3.connect(bundles, uri=True)) as policies,
        ):
            async with ledger_client(self._settings) as ledger:
                address = str(ledger.build.at.governance)
                while not self._done.is_set():
                    self._look_into(law, policies)
                    account = await ledger.rpc.read("getAccountInfo", address, {"encoding": "base64"})
                    self.trace.is_now("ledger_state", "", content_hash(account["value"]["data"]))
                    await asyncio.sleep(LOOK_SECONDS)

    def _look_into(self, law: sqlite3.Connection, policies: sqlite3.Connection) -> None:
        row = law.execute("SELECT hash, document FROM constitutions WHERE status = 'in_force'").fetchone()
        if row is not None and self.trace.changes.get(("in_force", ""), [(0, "")])[-1][1] != row[0]:
            self.trace.is_now("in_force", "", row[0])
            for principle in json.loads(row[1])["principles"]:
                self.trace.is_now("principle", principle["id"], content_hash(principle))
        row = policies.execute("SELECT hash FROM bundles WHERE status = 'active'").fetchone()
        if row is not None:
            self.trace.is_now("active_bundle", "", row[0])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0)
    seconds = parser.parse_args().seconds
    where = record.context(SEED)
    with own_system() as settings:
        # Idle connections are kept for less time than the services keep them.
        limits = httpx.Limits(max_connections=100, keepalive_expiry=3.0)
        async with httpx.AsyncClient(timeout=60.0, trust_env=False, limits=limits) as http:
            recording = Recording(settings, http, seconds)
            await recording.run()
    series = recording.trace.as_json()
    document = {"context": where, "seconds": seconds, "acts": recording.acts, "series": series}
    TRACE.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    for one in series:
        print(f"{one['operation']} {one['key']}: {len(one['reads'])} reads, {len(one['changes']) - 1} changes")
    print(f"{recording.acts}, written to {TRACE}")


if __name__ == "__main__":
    asyncio.run(main())
