"""Several workers of one service in real processes: fixed, and added and removed by measured utilisation."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from acgs1.contracts.topology import PARTS
from polling import eventually
from system import System, compensation, govern

pytestmark = pytest.mark.slow

# The command with a rule that looks often and waits briefly, so that the test needs neither a minute nor a fast machine.
EAGER = """
import signal
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.scaling import Bounds, Rule
from acgs1.runtime.supervisor import Supervisor

rule = Rule(target=0.05, up_window=1.0, down_window=4.0, sample_seconds=0.5, settle_seconds=1.0)
supervisor = Supervisor(PlatformSettings(), print, workers={"policy_governance": Bounds(1, 2)}, rule=rule)
supervisor.start()
supervisor.wait_until_healthy(90)
supervisor.run()
"""


@contextmanager
def started(home: Path, *command: str) -> Generator[System]:
    system = System(home)
    with system.output.open("ab") as out:
        system.process = subprocess.Popen(
            [sys.executable, *command], env=system.environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        eventually(lambda: all(system.healthy(part.name) for part in PARTS), "every part is healthy", 120)
        govern(system)
        yield system
    finally:
        system.stop()


def workers(system: System) -> dict[str, int]:
    """The processes of policy_governance, by number."""
    known: dict[str, int | None] = system.state()["parts"]["policy_governance"]["workers"]
    return {number: pid for number, pid in known.items() if pid is not None}


def decisions_counted(system: System, token: str) -> int:
    text = system.call("GET", "policy_governance", "/metrics", token).text
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "acgs_http_requests_total" and sample.labels["route"] == "/access/v1/evaluation"
        )
    )


def test_two_workers_answer_as_one_and_each_comes_back_when_killed(tmp_path: Path):
    with started(tmp_path / "home", "-m", "acgs1", "up", "--quiet", "--workers", "policy_governance=2") as system:
        token = system.service("evolutionary_computation")
        assert sorted(workers(system)) == ["0", "1"]
        before = decisions_counted(system, token)
        # A connection each: it depends on the kernel which of the two accepts it.
        answers = [system.decide(token) for _ in range(60)]
        assert [answer.json()["decision"] for answer in answers] == [True] * 60
        for answer in answers:
            decision = answer.json()["context"]["evaluation_id"]
            found = system.call("GET", "policy_governance", f"/api/v1/decisions/{decision}", token)
            assert found.status_code == 200, "whichever worker is asked, it knows what any of them has decided"
        for _ in range(5):
            assert decisions_counted(system, token) == before + 60, "whichever worker is asked, it counts for all"
        assert (system.home / "spool" / "decisions-1").is_dir()
        for number in ("1", "0"):
            killed = workers(system)[number]
            os.kill(killed, signal.SIGKILL)
            assert system.decide(token).status_code == 200, "the other one answers meanwhile"
            eventually(lambda n=number, k=killed: workers(system).get(n) not in {None, k}, "it is brought back", 30)


def test_workers_come_with_the_load_and_go_after_it(tmp_path: Path):
    with started(tmp_path / "home", "-c", EAGER) as system:
        token = system.service("evolutionary_computation")
        eventually(lambda: len(workers(system)) == 1, "one worker, once starting it is over", 60)
        its_spool = system.home / "spool" / "decisions-1"
        stopping = threading.Event()
        acknowledged: list[str] = []
        broken: list[str] = []

        def ask() -> None:
            url = system.settings.url("policy_governance") + "/access/v1/evaluation"
            with httpx.Client(trust_env=False, timeout=10) as client:
                while not stopping.is_set():
                    answer = client.post(url, json=compensation(), headers={"Authorization": f"Bearer {token}"})
                    if answer.status_code == 200:
                        acknowledged.append(answer.json()["context"]["evaluation_id"])
                    else:
                        broken.append(answer.text)

        streams = [threading.Thread(target=ask) for _ in range(4)]
        for stream in streams:
            stream.start()
        try:
            eventually(lambda: len(workers(system)) == 2, "a second worker comes", 60)
            eventually(lambda: any(its_spool.glob("*.log")), "connections are spread to it: it decides", 30)
        finally:
            stopping.set()
            for stream in streams:
                stream.join(15)
        assert not broken
        eventually(lambda: len(workers(system)) == 1, "it goes when there is nothing to do", 60)
        for decision in (acknowledged[0], acknowledged[-1]):
            found = system.call("GET", "policy_governance", f"/api/v1/decisions/{decision}", token)
            assert found.status_code == 200
        eventually(lambda: not any(its_spool.glob("*.log")), "what it had not delivered is delivered", 60)


def test_a_service_of_which_a_second_process_is_not_safe_is_refused_with_the_reason(tmp_path: Path):
    done = System(tmp_path / "home").command("up", "--workers", "integrity=2")
    assert done.returncode == 2
    assert "the log has one writer" in done.stderr
    assert not (tmp_path / "home" / "logs" / "auth.log").exists(), "nothing was started"
