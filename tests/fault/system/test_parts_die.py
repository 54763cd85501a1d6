"""Parts are killed while the system works: they come back, and nothing that was acknowledged is lost."""

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from acgs1.contracts.topology import PARTS, Part
from acgs1.runtime.demo import example_folder
from polling import eventually
from system import System, compensation, govern, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("faults") / "home") as started:
        govern(started)
        yield started


@pytest.mark.parametrize("part", [part.name for part in PARTS])
def test_a_killed_part_is_brought_back_and_the_system_is_healthy_again(system: System, part: str):
    before = system.state()["parts"][part]["restarts"]
    system.back(part, system.kill(part))
    assert system.state()["parts"][part]["restarts"] == before + 1

    def healthy() -> bool:
        answer = httpx.get(system.settings.url(part) + "/health", timeout=5, trust_env=False)
        return part == "ledger" or answer.json()["status"] == "healthy"

    eventually(healthy, f"`{part}` is healthy, with all that it depends on", 60)


@pytest.mark.parametrize("part", [part for part in PARTS if part.name != "ledger"], ids=lambda part: part.name)
def test_who_connects_while_a_part_is_brought_back_waits_rather_than_being_refused(system: System, part: Part):
    killed = system.kill(part.name)
    # At once, before there can be another process: the supervisor holds the socket.
    answer = httpx.get(system.settings.url(part.name) + "/health/live", timeout=60, trust_env=False)
    assert answer.status_code == 200
    assert system.pid(part.name) != killed


def test_every_decision_acknowledged_before_a_kill_is_found_afterwards_and_reaches_the_log(system: System):
    token = system.service("evolutionary_computation")
    acknowledged: list[str] = []
    stopping = threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=5) as client:
            url = system.settings.url("policy_governance") + "/access/v1/evaluation"
            while not stopping.is_set():
                try:
                    answer = client.post(url, json=compensation(), headers={"Authorization": f"Bearer {token}"})
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["context"]["evaluation_id"])

    streams = [threading.Thread(target=ask) for _ in range(3)]
    for stream in streams:
        stream.start()
    try:
        for _ in range(2):
            already = len(acknowledged)
            eventually(lambda enough=already + 25: len(acknowledged) >= enough, "decisions flow", 60)
            system.back("policy_governance", system.kill("policy_governance"))
    finally:
        stopping.set()
        for stream in streams:
            stream.join(10)
    assert len(set(acknowledged)) == len(acknowledged) >= 50
    for decision in acknowledged:
        found = system.call("GET", "policy_governance", f"/api/v1/decisions/{decision}", token)
        assert (found.status_code, found.json()["record"]["decision"]) == (200, "allow"), decision
    remaining = set(acknowledged)

    def all_logged() -> bool:
        cursor: str | None = None
        while remaining:
            params = {"subject": "Agent::test-agent", "limit": 200, **({"cursor": cursor} if cursor else {})}
            page = system.call("GET", "integrity", "/api/v1/entries", token, params=params).json()
            remaining.difference_update({d for d in remaining if any(d in str(item) for item in page["items"])})
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return not remaining

    eventually(all_logged, "every acknowledged decision is in the log", 60)


def test_the_decision_point_decides_while_every_other_part_is_down(system: System):
    token = system.service("evolutionary_computation")
    assert system.decide(token).status_code == 200
    assert system.process is not None
    # The supervisor is held still, so that it brings nothing back.
    system.process.send_signal(signal.SIGSTOP)
    others = [part.name for part in PARTS if part.name != "policy_governance"]
    killed = {name: system.kill(name) for name in others}
    try:
        eventually(lambda: not any(system.ready(name) for name in others), "all others are down")
        for amount, expected in ((50, "allowed"), (300, "approval_required"), (2000, "constitution_forbids")):
            answer = system.decide(token, amount)
            assert answer.status_code == 200, answer.text
            assert answer.json()["context"]["reason"] == expected
        found = system.call(
            "GET", "policy_governance", f"/api/v1/decisions/{answer.json()['context']['evaluation_id']}", token
        )
        assert found.status_code == 200
        health = system.call("GET", "policy_governance", "/health").json()
        assert health["status"] in {"degraded", "healthy"}
    finally:
        system.process.send_signal(signal.SIGCONT)
    for name, pid in killed.items():
        system.back(name, pid)


def test_the_decision_point_restarts_alone_and_still_decides(system: System):
    token = system.service("evolutionary_computation")
    assert system.process is not None
    system.call(
        "GET", "policy_governance", "/api/v1/bundles", token
    )  # it has fetched auth's keys, and keeps them in a file
    for part in ("auth", "ledger"):
        os.kill(system.pid(part), signal.SIGSTOP)
    try:
        system.back("policy_governance", system.kill("policy_governance"))
        assert system.decide(token).json()["context"]["reason"] == "allowed"
    finally:
        for part in ("auth", "ledger"):
            os.kill(system.pid(part), signal.SIGCONT)
    eventually(lambda: system.ready("auth") and system.ready("ledger"), "they go on")


def test_an_adoption_cut_off_by_a_kill_goes_on_by_itself(tmp_path: Path):
    from acgs1.kit.constitution_file import load_constitution

    constitution = load_constitution(example_folder() / "constitution.yaml")
    with running(tmp_path / "home") as system:
        admin = system.admin()
        person = {"username": "ines", "password": "a long enough password", "roles": ["member"]}
        ines = system.call("POST", "auth", "/api/v1/users", admin, json=person).json()["id"]
        registered = system.call(
            "POST", "policy_governance", "/api/v1/members", admin, json={"user_id": ines, "weight": 1}
        )
        assert registered.status_code == 201, "the ledger ratifies nothing before there is a member"
        body = constitution.model_dump(mode="json")
        kept = system.call("POST", "constitutional_ai", "/api/v1/constitutions", admin, json=body)
        assert kept.status_code == 201, kept.text
        ledger = system.pid("ledger")
        os.kill(ledger, signal.SIGSTOP)
        path = f"/api/v1/constitutions/{constitution.hash}/adoption"
        begun = system.call("POST", "constitutional_ai", path, admin, params={"wait": 0})
        assert (begun.status_code, begun.json()["status"]) == (202, "adopting")
        system.back("constitutional_ai", system.kill("constitutional_ai"))
        os.kill(ledger, signal.SIGCONT)

        def in_force() -> bool:
            answer = system.call("GET", "constitutional_ai", "/api/v1/constitutions/in-force", admin)
            return answer.status_code == 200 and answer.json()["meta"]["version"] == 1

        eventually(in_force, "the adoption is carried through", 90)
        state = system.call("GET", "policy_governance", "/api/v1/ledger/state", admin).json()
        assert (state["constitution_hash"], state["constitution_version"]) == (constitution.hash, 1)

        def adopted_once() -> bool:
            params = {"subject": constitution.hash, "limit": 200}
            items = system.call("GET", "integrity", "/api/v1/entries", admin, params=params).json()["items"]
            return [str(item).count("constitution.adopted") > 0 for item in items].count(True) == 1

        eventually(adopted_once, "the log holds the adoption once", 60)


def test_sigterm_stops_every_process_within_five_seconds(tmp_path: Path):
    with running(tmp_path / "home") as system:
        pids = [system.pid(part.name) for part in PARTS]
        assert system.process is not None
        started = time.monotonic()
        system.process.send_signal(signal.SIGTERM)
        assert system.process.wait(30) == 0
        seconds = time.monotonic() - started
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert seconds < 5.5, f"{seconds:.1f} s"  # the promise: SIGKILL follows after 4.5 s
        assert not (system.home / "run" / "supervisor.json").exists()


def test_parts_do_not_outlive_a_killed_supervisor(tmp_path: Path):
    with running(tmp_path / "home") as system:
        pids = [system.pid(part.name) for part in PARTS]
        assert system.process is not None
        system.process.kill()
        system.process.wait(10)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "no orphan holds a port", 15)
