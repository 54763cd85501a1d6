"""kill -9 in the middle of a verification: nothing that was proved is lost, no prover is left behind, the rest is taken up."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.services.formal_verification.app import create_app
from factories import running, settings

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
SCHEMA = """
entity A; entity B { n: Long, kind: String };
action a0, a1, a2, a3, a4, a5 appliesTo { principal: [A], resource: [B], context: { m: Long } };
"""
COUNT = 80

# A service that begins a verification and says how far it is until it is killed.
SERVICE = """
import asyncio, json, sys
from pathlib import Path
from acgs1.contracts.auth import Role
from acgs1.services.formal_verification.app import create_app
from factories import running, settings

async def main():
    body = json.load(sys.stdin)
    async with running(create_app, settings(Path(sys.argv[1]))) as room:
        answer = await room.client.post("/api/v1/verifications?wait=0", json=body, headers=room.headers(Role.MEMBER))
        async for update in room.app.state.service.progress(answer.json()["id"]):
            said = {"id": update.id, "done": getattr(update, "obligations_done", -1), "pids": room.app.state.pool.pids}
            print("SAID " + json.dumps(said), flush=True)

asyncio.run(main())
"""


def body() -> dict[str, Any]:
    policies = "\n".join(
        f'@id("p{n}") permit(principal, action, resource) when {{ context.m < {n} && resource.n < context.m + 0 }};'
        for n in range(COUNT)
    )
    invariants = [{"kind": "never", "when": f'context.m > {1000 + n} && resource.kind like "k*"'} for n in range(3)]
    principle = {"id": "p", "title": "p", "text": "p", "category": "c", "priority": 1, "invariants": invariants}
    law = {"name": "law", "schema_text": SCHEMA, "principles": [principle]}
    return {"policies": policies, "constitution": law}


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(PR_SET_PDEATHSIG)")
async def test_a_killed_service_goes_on_where_it_was(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVICE,
        str(tmp_path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(body()).encode())
    process.stdin.close()
    said: dict[str, Any] = {"done": 0}
    # More than is saved at once (256), so that something has been saved.
    async with asyncio.timeout(120):
        while said["done"] < 300:
            line = (await process.stdout.readline()).decode()
            assert line, "the service ended before it was killed"
            if line.startswith("SAID "):
                said = json.loads(line.removeprefix("SAID "))
                assert said["done"] >= 0, "the verification ended before the service was killed"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    for pid in said["pids"]:
        async with asyncio.timeout(10):
            while _alive(pid):  # noqa: ASYNC110 - the kernel ends it; there is no event to wait for
                await asyncio.sleep(0.01)
    async with running(create_app, settings(tmp_path)) as room:
        service = room.app.state.service
        async with service._archive.reading() as records:
            (interrupted,) = await records.running()
            assert interrupted.id == said["id"]
        await service.resume()
        path = f"/api/v1/verifications/{said['id']}"
        first = (await room.client.get(path, headers=room.headers(Role.MEMBER))).json()
        assert first["status"] == "running"
        async for update in service.progress(said["id"]):
            # What had been saved is not proved again.
            assert getattr(update, "obligations_done", 256) in (0, *range(256, 10_000))
        report = (await room.client.get(path, headers=room.headers(Role.MEMBER))).json()
    assert len(report["obligations"]) == COUNT * 6 + 3 * 6 + 3 * 6
    assert report["verdict"] == "proved"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
