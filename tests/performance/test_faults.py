"""What the report says of faults: every request is counted under one fault, and a retry never makes a first failure disappear."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.load import faults, render, report  # noqa: E402
from benchmarks.load.faults import Fault, Happened, faults_for, seconds_for  # noqa: E402
from benchmarks.load.mix import Kind  # noqa: E402
from benchmarks.load.run import Sample  # noqa: E402
from benchmarks.load.surroundings import Missing, SetClock, SlowLedger  # noqa: E402

from acgs1.contracts.topology import PARTS  # noqa: E402
from acgs1.kit.breaker import DEFAULT_CONFIG  # noqa: E402
from acgs1.kit.settings import PlatformSettings  # noqa: E402
from polling import eventually  # noqa: E402

KINDS = [Kind("who-am-i", "auth", "", cast("Any", None), share=100)]
NOTHING = SimpleNamespace(redis=None, postgres=None, disk=None, clock=None, ledger=None)


def sample(at: float, *, first: str | None = None, last: str | None = None, warm_up: bool = False) -> Sample:
    attempts = 1 if first == last else 2
    return Sample(0, at, warm_up, sent=at, answered=at + 0.01, failure=last, first_failure=first, attempts=attempts)


def fault(name: str) -> Fault:
    return Fault(name, "", lambda: None)


def around(**there: Any) -> Any:
    return SimpleNamespace(**{**vars(NOTHING), **there})


def test_every_part_is_killed_whatever_else_this_machine_lacks(tmp_path: Path):
    schedule = faults_for(PlatformSettings(home=tmp_path), around())
    assert [f.kills for f in schedule if f.kills] == [part.name for part in PARTS]
    assert seconds_for(schedule) >= faults.SPACING * len(schedule)


def test_a_slow_dependency_answers_slower_than_breakers_bear_for_longer_than_they_look_back(tmp_path: Path):
    (slow,) = [f for f in faults_for(PlatformSettings(home=tmp_path), around(ledger=object())) if not f.kills]
    assert DEFAULT_CONFIG.slow_call_duration_threshold < faults.SLOW_ANSWERS
    assert slow.lasting > DEFAULT_CONFIG.window_size
    assert slow.turn > slow.lasting + DEFAULT_CONFIG.wait_duration_in_open


def test_on_the_second_database_only_what_it_bears_on_is_done_again(tmp_path: Path):
    there = around(postgres=SimpleNamespace(kill=None, start=None), redis=object(), disk=object(), ledger=object())
    names = [f.name for f in faults_for(PlatformSettings(home=tmp_path), there, database_only=True)]
    assert names == [*(f"kill -9 {part.name}" for part in PARTS), "postgresql gone"]


def test_a_fault_that_no_load_has_done_is_an_unmet_criterion():
    first = {
        "schedule": [{"fault": "kill -9 auth"}],
        "not_done": {"postgresql gone": "SQLite", "disk slow": "no cgroup"},
    }
    beside = {"schedule": [{"fault": "postgresql gone"}], "not_done": {}}
    assert report.faults_not_done({"faults": first, "faults_postgres": beside}) == {"disk slow": "no cgroup"}
    assert report.faults_not_done({"faults": first}) == first["not_done"]
    assert report.faults_not_done({"faults": None})


def test_the_worst_of_several_loads_with_faults_counts():
    kept = {"acknowledged": 1, "made": 0, "missing": [], "different": [], "lost": []}
    one = {"record": kept, "availability": 1.0, "uptime": 1.0}
    result = {**_result(one), "faults_postgres": {**one, "availability": 0.9}}
    lines = {line.name: line for line in report.score(result)}
    assert lines["availability under faults"].measured == 0.9


def test_a_breaker_is_shown_from_its_opening_until_it_closes_again_under_the_fault_of_that_time():
    def change(breaker: str, at: float, new: str) -> dict[str, Any]:
        return {"breaker": breaker, "at": at, "old": "", "new": new, "reason": "why"}

    lines = render._breaker_lines(
        {
            "schedule": [{"fault": "redis gone", "at": 5.0}, {"fault": "ledger slow", "at": 11.0}],
            "breakers": [
                change("a->redis", 6.0, "open"),
                change("a->redis", 6.5, "half_open"),
                change("a->redis", 6.6, "open"),
                change("a->redis", 10.0, "closed"),
                change("a->ledger", 35.0, "open"),
            ],
        }
    )
    assert lines == [
        "a->redis: open 1.0 s into `redis gone` (why), closed again 4.0 s later",
        "a->ledger: open 24.0 s into `ledger slow` (why), not seen to close again",
    ]


def test_a_relay_holds_answers_back_and_lets_go_again():
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - as the base class has it

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    slow = SlowLedger(server.server_port)
    url = json.loads(slow.environment["ACGS_URLS"])["ledger"]
    try:
        slow.hold_back(30)
        eventually(lambda: _times_out(url), "an answer held back")
        slow.hold_back(0)
        eventually(lambda: not _times_out(url), "an answer")
    finally:
        slow.remove()
        server.shutdown()


def _times_out(url: str) -> bool:
    try:
        return httpx.get(url, timeout=0.5).status_code != 204
    except httpx.TimeoutException:
        return True


def test_every_request_between_two_faults_is_counted_under_the_first_of_them():
    happened = [Happened(fault("a"), 10.0), Happened(fault("b"), 16.0)]
    samples = [sample(float(second)) for second in range(5, 30)]
    rows = faults.seen(happened, samples)
    assert [(row["fault"], row["intended"]) for row in rows] == [("a", 6), ("b", 6)]


def test_a_request_that_was_right_at_the_second_attempt_counts_as_available_only_with_the_retry():
    samples = [
        sample(1.0, warm_up=True, first="down", last="down"),
        *(sample(10.0 + n / 10) for n in range(7)),
        sample(11.0, first="broken"),
        sample(11.1, first="broken"),
        sample(12.5, first="broken", last="wrong"),
    ]
    rows = faults.seen([Happened(fault("a"), 9.0)], samples)
    result = report.summarise_faults(
        samples, KINDS, database="sqlite", rows=rows, breakers=[], not_done={}, kept={}, seconds=10
    )
    assert (result["intended"], result["right"], result["failed"]) == (10, 9, 1)
    assert result["availability"] == pytest.approx(0.9)
    assert result["availability_without_retry"] == pytest.approx(0.7)
    assert (result["retried"], result["first_failures"]) == (3, {"broken": 3})
    (row,) = rows
    assert (row["intended"], row["failed_without_retry"], row["failed"]) == (10, 3, 1)
    assert row["felt_for_s"] == pytest.approx(3.5)


def test_without_faults_uptime_earns_nothing_and_nobody_is_production_ready():
    lines = {line.name: line for line in report.score(_result(None))}
    for name in ("availability under faults", "uptime under faults, worst service"):
        assert (lines[name].measured, lines[name].points, lines[name].met) == (None, 0.0, None)


def test_what_was_lost_under_faults_counts_like_what_was_lost_without():
    kept = {"acknowledged": 80, "made": 20, "missing": ["dec_1"], "different": [], "lost": ["/api/v1/drafts/1"]}
    lines = {line.name: line for line in report.score(_result({"record": kept, "availability": 1.0, "uptime": 1.0}))}
    assert lines["nothing acknowledged lost"].measured == pytest.approx(198 / 200)


def test_the_set_clock_moves_wall_time_alone_and_at_once(tmp_path: Path):
    import os
    import subprocess

    try:
        clock = SetClock(tmp_path)
    except Missing as reason:
        pytest.skip(str(reason))
    code = "import time\nfor _ in range(3): input(); print(time.time(), time.monotonic(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **clock.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    readings: list[tuple[float, ...]] = []
    for ahead in (0, 3600, -3600):
        clock.jump(ahead)
        process.stdin.write("\n")
        process.stdin.flush()
        readings.append(tuple(map(float, process.stdout.readline().split())))
    process.communicate()
    for (wall, monotonic), ahead in zip(readings[1:], (3600, -3600), strict=True):
        passed = monotonic - readings[0][1]
        assert 0 <= passed < 600
        assert wall - readings[0][0] == pytest.approx(ahead + passed, abs=1.0)


def _result(faulted: dict[str, Any] | None) -> dict[str, Any]:
    kept = {"acknowledged": 80, "made": 20, "missing": [], "different": [], "lost": []}
    services = {name: {"latency": None} for name in report.TARGETS_MS}
    load = {"latency": None, "services": services, "success": 1.0, "throughput": 500.0}
    ledger = {"sol_per_transaction": None}
    return {"load": load, "record": kept, "faults": faulted, "cache": None, "ledger": ledger}
