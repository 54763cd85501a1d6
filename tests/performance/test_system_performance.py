"""The performance suite: real load on the real system, and what it measured.

    python tests/performance/test_system_performance.py [--target-home HOME --port-offset N]
        [--users 100] [--rate 500] [--seconds 60] [--warm-up 5] [--ramp] [--out FOLDER]

Without `--target-home` it starts a system of its own on a fresh data directory and stops it again. Only this machine is ever driven. As a
pytest test it runs a short, light load and asserts that the report is complete and honest, never that a time is small.
"""

import argparse
import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.load import render, report  # noqa: E402
from benchmarks.load.suite import Asked, Measured, measure  # noqa: E402
from benchmarks.load.system import NotReady, expect_running, own_system, settings_for  # noqa: E402

# --- as a test --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> Measured:
    with own_system() as settings:
        return measure(settings, Asked(users=10, rate=50, seconds=5, warm_up=1, seed=7))


@pytest.mark.performance
@pytest.mark.slow
def test_every_planned_request_is_counted_once_as_right_or_failed(measured: Measured) -> None:
    load = measured.result["load"]
    assert load["intended"] == load["right"] + load["failed"]
    assert load["intended"] + load["sent_in_warm_up"] == measured.result["planned"]
    assert sum(row["intended"] for row in load["services"].values()) == load["intended"]
    assert sum(row["intended"] for row in load["kinds"]) == load["intended"]
    assert sum(second["right"] + second["failed"] for second in load["seconds"]) == load["intended"]
    assert sum(count for _, count in measured.result["histogram"]) == load["intended"]


@pytest.mark.performance
@pytest.mark.slow
def test_latencies_come_from_requests_that_were_sent_and_count_from_their_intended_time(measured: Measured) -> None:
    right = [sample for sample in measured.samples if sample.failure is None]
    assert right
    for sample in right:
        assert sample.sent is not None
        assert sample.answered is not None
        # A request is never sent before its time, and answered after it was sent.
        assert sample.intended <= sample.sent < sample.answered
        assert sample.latency == sample.answered - sample.intended


@pytest.mark.performance
@pytest.mark.slow
def test_every_service_is_in_the_load_and_answers_right(measured: Measured) -> None:
    services = measured.result["load"]["services"]
    assert services.keys() == report.TARGETS_MS.keys()
    for name, row in services.items():
        assert row["intended"] > 0, name
        assert row["failed"] == 0, (name, row["failures"])
        assert row["latency"] is not None, name


@pytest.mark.performance
@pytest.mark.slow
def test_every_acknowledged_decision_is_in_the_log_as_it_was_answered(measured: Measured) -> None:
    record = measured.result["record"]
    decided = sum(
        1
        for s in measured.samples
        if s.failure is None and measured.kinds[s.kind].name in {"decide-allow", "decide-deny"}
    )
    assert record["acknowledged"] == decided > 0
    assert record["missing"] == []
    assert record["different"] == []
    assert record["logged"] == record["acknowledged"] + record["unacknowledged"]
    assert record["unacknowledged"] == 0


@pytest.mark.performance
@pytest.mark.slow
def test_the_score_is_made_of_what_was_measured_and_a_light_load_is_never_production_ready(measured: Measured) -> None:
    verdict = measured.result["verdict"]
    assert sum(line["weight"] for line in verdict["lines"]) == 100
    assert all(line["points"] == 0 for line in verdict["lines"] if line["measured"] is None)
    assert verdict["score"] == pytest.approx(sum(line["points"] for line in verdict["lines"]), abs=0.1)
    assert not verdict["production_ready"]
    assert "100 users or more" in verdict["unmet"]


@pytest.mark.performance
@pytest.mark.slow
def test_the_reports_say_what_was_not_measured(measured: Measured, tmp_path: Path) -> None:
    write(measured, tmp_path)
    kept = json.loads((tmp_path / "load.json").read_text())
    assert kept == json.loads(json.dumps(measured.result))
    text = (tmp_path / "load.md").read_text()
    assert "Saturation: not measured" in text
    for kind, count in Counter(measured.kinds[s.kind].name for s in measured.samples if not s.warm_up).items():
        assert f"| {kind} |" in text
        assert f"| {count} |" in text
    page = (tmp_path / "load.html").read_text()
    assert page.count("<svg") == 5
    assert "src=" not in page


# --- as a command -----------------------------------------------------------------------------------------------------


def write(measured: Measured, folder: Path) -> None:
    """JSON, Markdown and HTML of a measurement, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load.json").write_text(json.dumps(measured.result, indent=1) + "\n")
    (folder / "load.md").write_text(render.markdown(measured.result))
    (folder / "load.html").write_text(render.html(measured.result))


def main() -> int:
    """Exit status: 0 when production ready, 1 when not, 2 when there was nothing to measure."""
    parser = argparse.ArgumentParser(description="Drive real load at the real system and print what was measured.")
    parser.add_argument(
        "--target-home", type=Path, help="data directory of a running system; without it, one is started"
    )
    parser.add_argument("--port-offset", type=int, default=0, help="of the running system (ACGS_PORT_OFFSET)")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second, all users together")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before, sent and checked but not measured")
    parser.add_argument("--ramp", action="store_true", help="then raise the rate until the system is saturated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for load.json, load.md and load.html")
    options = parser.parse_args()
    asked = Asked(options.users, options.rate, options.seconds, options.warm_up, options.ramp, options.seed)
    running = None
    try:
        if options.target_home is not None:
            running = settings_for(options.target_home, options.port_offset)
            expect_running(running)
        else:
            print("starting a system of its own and governing the airline example", flush=True)
        with own_system() if running is None else nullcontext(running) as settings:
            measured = measure(settings, asked)
    except (NotReady, ValueError) as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 2
    print(render.summary(measured.result))
    if options.out is not None:
        write(measured, options.out)
        print(f"written to {options.out}/load.json, load.md, load.html")
    return 0 if measured.result["verdict"]["production_ready"] else 1


if __name__ == "__main__":
    sys.exit(main())
