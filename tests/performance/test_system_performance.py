"""The performance suite: real load on the real system, and what it measured.

    python tests/performance/test_system_performance.py [--target http://127.0.0.1:PORT] [--target-home HOME]
        [--users 100] [--rate 500] [--seconds 60] [--warm-up 5] [--ramp] [--faults] [--database postgres] [--out FOLDER] [--keep [--force]]

Without `--target` or `--target-home` it starts a system of its own on a fresh data directory and stops it again. Only this machine is ever
driven. `--faults` then does the same with a second system of its own, from which everything that can be taken away is taken away in turn
during the load, and, where that one's databases are SQLite files, with a third one on PostgreSQL, which is taken away too. As a pytest
test it runs a short, light load and asserts that the report is complete and honest, never that a time is small.
"""

import argparse
import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from acgs1.contracts.topology import PARTS
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.supervisor import is_healthy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import record  # noqa: E402
from benchmarks.load import mix, render, report  # noqa: E402
from benchmarks.load.suite import Asked, Measured, Steady, conclude, measure, measure_faults  # noqa: E402
from benchmarks.load.surroundings import Missing, Postgres, surroundings  # noqa: E402
from benchmarks.load.system import NotReady, expect_running, own_system, settings_for  # noqa: E402

# --- as a test --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> Measured:
    with own_system() as settings:
        return conclude(measure(settings, Asked(users=10, rate=50, seconds=5, warm_up=1, seed=7)), None)


@pytest.mark.performance
@pytest.mark.slow
def test_every_planned_request_is_counted_once_as_right_or_failed(measured: Measured) -> None:
    load = measured.result["load"]
    assert load["intended"] == load["right"] + load["failed"]
    assert load["intended"] + load["sent_in_warm_up"] == measured.result["planned"]
    assert sum(row["intended"] for row in load["services"].values()) == load["intended"]
    assert sum(row["intended"] for row in load["kinds"]) == load["intended"]
    assert sum(second["right"] + second["failed"] for second in load["seconds"]) == load["intended"]
    histograms = measured.result["histograms"]
    assert sum(count for _, count in histograms["all"]) == load["intended"]
    for name, row in load["services"].items():
        assert sum(count for _, count in histograms[name]) == row["intended"]


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
def test_every_kind_of_request_was_really_sent_and_every_service_wrote_or_worked_something_out(
    measured: Measured,
) -> None:
    load = measured.result["load"]
    kinds = {kind["name"]: kind for kind in load["kinds"]}
    sent = {measured.kinds[s.kind].name for s in measured.samples if s.failure is None and s.sent is not None}
    # Some have a share of one percent and may miss a few seconds of light load; those that write come by the clock.
    assert {name for name, kind in kinds.items() if kind["writes"]} <= sent
    assert len(sent) >= len(kinds) - 3
    assert {kind["service"] for kind in load["kinds"] if kind["writes"]} == report.TARGETS_MS.keys()
    for name, row in load["services"].items():
        assert row["intended"] == row["reads"]["intended"] + row["writes"]["intended"], name
        assert row["writes"]["right"] > 0, name


@pytest.mark.performance
@pytest.mark.slow
def test_every_acknowledged_event_is_in_the_log_and_every_ballot_on_the_ledger(measured: Measured) -> None:
    record = measured.result["record"]
    right = Counter(measured.kinds[s.kind].name for s in measured.samples if s.failure is None)
    acknowledged = {name: one["acknowledged"] for name, one in record["by_type"].items()}
    assert acknowledged == {
        "decision.made": right["decide-allow"] + right["decide-deny"],
        "ballot.cast": right["ballot"],
        "constitution.drafted": right["new-constitution"],
        "verification.completed": right["verify-new"] + right["verify-known"],
        "certificate.issued": acknowledged["certificate.issued"],
        "draft.created": right["new-draft"],
        "run.started": right["new-run"],
        "run.finished": right["new-run"],
        "benchmark.appended": right["append"],
    }
    assert all(acknowledged.values())
    assert acknowledged["certificate.issued"] <= acknowledged["verification.completed"]
    assert record["ballots"] == right["ballot"]
    for how in ("missing", "different", "lost", "not_on_ledger"):
        assert record[how] == [], how


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
    assert "fault not done: every one (`--faults` was not asked for)" in verdict["unmet"]


@pytest.mark.performance
@pytest.mark.slow
def test_the_reports_say_what_was_not_measured(measured: Measured, tmp_path: Path) -> None:
    write(measured, tmp_path)
    kept = json.loads((tmp_path / "load.json").read_text())
    assert kept == json.loads(json.dumps(measured.result))
    text = (tmp_path / "load.md").read_text()
    assert "Saturation: not measured" in text
    assert "Uptime: not measured" in text
    for kind, count in Counter(measured.kinds[s.kind].name for s in measured.samples if not s.warm_up).items():
        assert f"| {kind} |" in text
        assert f"| {count} |" in text
    page = (tmp_path / "load.html").read_text()
    # Five of the plots are of phases that did not run.
    assert page.count("<svg") + page.count("<p>not measured</p>") == 11 + len(report.TARGETS_MS)
    assert page.count("<p>not measured</p>") >= 5
    assert "src=" not in page


@pytest.mark.performance
@pytest.mark.slow
def test_what_a_request_costs_is_measured_on_both_sides(measured: Measured) -> None:
    cost = measured.result["processor_ms_per_request"]
    assert cost["system"] > 0
    assert cost["load generator"] > 0
    assert measured.result["processor"].keys() == {"load generator", *(part.name for part in PARTS)}


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
    parser.add_argument("--target", help="a running system, by the address of any of its services on this machine")
    parser.add_argument("--target-home", type=Path, help="its data directory (default: ACGS_HOME or the usual one)")
    parser.add_argument("--port-offset", type=int, help="of the running system (ACGS_PORT_OFFSET)")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second, all users together")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before, sent and checked but not measured")
    parser.add_argument("--ramp", action="store_true", help="then raise the rate until the system is saturated")
    parser.add_argument("--faults", action="store_true", help="then load other systems while parts of them are killed")
    parser.add_argument(
        "--database", choices=("sqlite", "postgres"), default="sqlite", help="of the systems started here"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for load.json, load.md and load.html")
    parser.add_argument("--keep", action="store_true", help="add the figures to benchmarks/history.jsonl")
    parser.add_argument("--force", action="store_true", help="keep them also where no commit names the source")
    options = parser.parse_args()
    started = time.monotonic()
    asked = Asked(
        options.users, options.rate, options.seconds, options.warm_up, options.ramp, options.faults, options.seed, options.database
    )  # fmt: skip
    try:
        if options.keep and not options.force:
            # Now, not after ten minutes.
            record.expect_committed(record.commit())
        running = _target(options)
        if running is not None:
            expect_running(running)
            steady = measure(running, asked)
        else:
            print("starting a system of its own and governing the airline example", flush=True)
            steady = _own(asked)
        faulted = _faulted(asked) if options.faults else None
        beside = _faulted_on_postgres(asked, faulted) if faulted is not None else None
        measured = conclude(steady, faulted, beside, round(time.monotonic() - started, 1))
    except (NotReady, Missing, ValueError, record.Uncommitted) as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 2
    print(render.summary(measured.result))
    if options.out is not None:
        write(measured, options.out)
        print(f"written to {options.out}/load.json, load.md, load.html")
    if options.keep:
        name = f"load {asked.rate:g}/s, mix {mix.VERSION}" + (
            "" if asked.database == "sqlite" else f", {asked.database}"
        )
        record.keep(name, measured.result["context"], report.figures(measured.result), force=options.force)
    return 0 if measured.result["verdict"]["production_ready"] else 1


def _own(asked: Asked) -> Steady:
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        if asked.database == "postgres":
            server = Postgres()
            stack.callback(server.remove)
            environment["ACGS_DATABASE_URL"] = server.url
        return measure(stack.enter_context(own_system(lambda _: environment)), asked)


def _faulted(asked: Asked) -> dict[str, Any]:
    print("starting a second system, for the faults", flush=True)
    with surroundings(asked.database) as around, own_system(around.environment) as settings:
        return measure_faults(settings, asked, around)


def _faulted_on_postgres(asked: Asked, first: dict[str, Any]) -> dict[str, Any] | None:
    """The same on PostgreSQL where `first` was not; None where that was, or where it cannot be had, which `first` then says."""
    if asked.database == "postgres":
        return None
    print("starting a third system, on PostgreSQL", flush=True)
    with surroundings("postgres") as around:
        if around.postgres is None:
            first["not_done"] |= around.missing
            return None
        with own_system(around.environment) as settings:
            return measure_faults(settings, replace(asked, database="postgres"), around, database_only=True)


def _target(options: argparse.Namespace) -> PlatformSettings | None:
    """The running system to drive, or None to start one."""
    if options.target is None and options.target_home is None:
        return None
    if options.faults or options.database != "sqlite":
        raise NotReady("`--faults` and `--database` are for systems that are started here, never for a running one")
    offset = options.port_offset or 0
    if options.target is not None:
        address = urlsplit(options.target)
        if address.hostname not in {"127.0.0.1", "localhost", "::1"} or address.port is None:
            raise NotReady(
                f"`{options.target}` is not an address on this machine; right would be http://127.0.0.1:8005"
            )
        offsets = {address.port - part.port for part in PARTS if address.port >= part.port}
        found = [o for o in offsets if all(is_healthy("127.0.0.1", part.port + o) for part in PARTS)]
        if not found:
            raise NotReady(f"no system answers around `{options.target}`")
        offset = found[0]
    return settings_for(options.target_home or PlatformSettings().home, offset)


if __name__ == "__main__":
    sys.exit(main())
