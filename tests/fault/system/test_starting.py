"""What keeps the system from starting says so; what was backed up starts again."""

import os
import socket
from pathlib import Path

import pytest

from acgs1.contracts.topology import PART_BY_NAME
from polling import eventually
from system import System, govern, running

pytestmark = pytest.mark.slow


def test_a_taken_port_is_an_error_that_names_the_port_the_part_and_the_holder(tmp_path: Path):
    system = System(tmp_path / "home")
    port = PART_BY_NAME["integrity"].port + system.offset
    with socket.create_server(("127.0.0.1", port)):
        done = system.command("up", "--quiet")
    assert done.returncode != 0
    for expected in (f"port {port}", "integrity", f"pid {os.getpid()}", "ACGS_PORT_OFFSET"):
        assert expected in done.stderr, done.stderr
    assert not (tmp_path / "home" / "logs" / "auth.log").exists(), "nothing was started"


def test_a_port_that_only_the_ledgers_subscriptions_need_is_one_of_them(tmp_path: Path):
    system = System(tmp_path / "home")
    port = PART_BY_NAME["ledger"].port + system.offset + 1
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", port))
        done = system.command("up", "--quiet")
    assert done.returncode == 1
    assert f"port {port} (ledger) is taken by a process that does not listen on it" in done.stderr


def test_an_address_of_another_machine_is_an_error_and_no_traceback(tmp_path: Path):
    system = System(tmp_path / "home")
    system.environment["ACGS_HOST"] = "192.0.2.1"
    for command in (("up", "--quiet"), ("demo", "--exit")):
        done = system.command(*command)
        assert done.returncode == 1
        assert "set ACGS_HOST to an address of this machine" in done.stderr
        assert "Traceback" not in done.stderr


def test_another_system_on_the_same_ports_is_not_taken_for_ones_own(tmp_path: Path):
    with running(tmp_path / "home") as system:
        second = System(tmp_path / "second", system.offset)
        done = second.command("demo", "--exit")
        assert done.returncode == 1
        assert "is taken by pid" in done.stderr, done.stderr
        assert "healthy" not in done.stdout
        assert "Traceback" not in done.stderr


def test_a_second_supervisor_on_one_home_is_refused_and_the_first_is_not_disturbed(tmp_path: Path):
    with running(tmp_path / "home") as system:
        pids = {part: system.pid(part) for part in system.state()["parts"]}
        second = System(tmp_path / "home")
        done = second.command("up", "--quiet")
        assert done.returncode != 0
        assert "another supervisor runs on" in done.stderr
        assert {part: system.pid(part) for part in pids} == pids
        restored = System(tmp_path / "home").command("restore", str(Path(__file__)))
        assert "stop it first" in restored.stderr


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path):
    system = System(tmp_path / "home")
    for name, value, expected in (
        ("ALLOWED_ORIGINS", "*", "ALLOWED_ORIGINS"),
        ("ACGS_PORT_OFFSET", "many", "PORT_OFFSET"),
        ("ACGS_PROFILE", "production", "ACGS_DATABASE_URL"),
    ):
        system.environment = {**system.environment, "ACGS_PORT_OFFSET": "0", name: value}
        done = system.command("status")
        assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
        del system.environment[name]


def test_a_backup_of_the_running_system_starts_elsewhere_as_what_it_was(tmp_path: Path):
    archive = tmp_path / "backup.tar.gz"
    with running(tmp_path / "home") as system:
        govern(system)
        token = system.person("olu")
        service = system.service("evolutionary_computation")
        decided = [system.decide(service).json()["context"]["evaluation_id"] for _ in range(5)]
        made = system.command("backup", str(archive))
        assert made.returncode == 0, made.stdout + made.stderr
        assert archive.stat().st_mode & 0o777 == 0o600
        again = system.command("backup", str(archive))
        assert again.returncode != 0
        constitution = system.call("GET", "constitutional_ai", "/api/v1/constitutions/in-force", token).json()
        bundle = system.call("GET", "policy_governance", "/api/v1/bundles/active", token).json()
    fresh = System(tmp_path / "fresh", system.offset)
    restored = fresh.command("restore", str(archive))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    try:
        fresh.start()
        token = fresh.person("olu")
        assert fresh.call("GET", "constitutional_ai", "/api/v1/constitutions/in-force", token).json() == constitution
        assert fresh.call("GET", "policy_governance", "/api/v1/bundles/active", token).json() == bundle
        service = fresh.service("evolutionary_computation")
        for decision in decided:
            assert fresh.call("GET", "policy_governance", f"/api/v1/decisions/{decision}", service).status_code == 200
        shown = fresh.command("demo", "--exit")
        assert (shown.returncode, "The main job was done at" in shown.stdout) == (0, True), shown.stdout
        answer = fresh.decide(service)
        assert answer.json()["context"]["reason"] == "allowed"
        wanted = {*decided, answer.json()["context"]["evaluation_id"]}

        def logged() -> bool:
            params = {"subject": "Agent::test-agent", "limit": 200}
            entries = fresh.call("GET", "integrity", "/api/v1/entries", service, params=params).text
            return all(decision in entries for decision in wanted)

        eventually(logged, "old and new decisions are in the restored log", 60)
        health = fresh.call("GET", "integrity", "/health").json()
        assert health["dependencies"]["log"] == "ok", health
    finally:
        if fresh.process is not None:
            assert fresh.stop() == 0
    sound = fresh.command("log", "fsck")
    assert sound.returncode == 0, sound.stdout + sound.stderr
