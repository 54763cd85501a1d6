# ruff: noqa: E501 - tables and markup are clearer unbroken
"""The report as text for people: the console's summary, Markdown, and one HTML file with its plots drawn in SVG."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from benchmarks.load.report import OURS, PLAN, faults_not_done, passes

Result = dict[str, Any]
NOT_MEASURED = "not measured"


def _mark(met: bool | None) -> str:
    return {True: "✅", False: "❌", None: "—"}[met]


def _ms(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.1f} ms"


def _percent(value: float | None) -> str:
    # Rounded down: 99.996 % is not 100 %.
    return NOT_MEASURED if value is None else f"{math.floor(value * 10_000 + 1e-9) / 100:g} %"


def _least(value: float | None, target: float) -> str:
    return _mark(None if value is None else value >= target)


def _most(value: float | None, target: float) -> str:
    return _mark(None if value is None else value <= target)


def summary(result: Result) -> str:
    """What the plan's command prints."""
    load, verdict, asked, context = result["load"], result["verdict"], result["asked"], result["context"]
    latency = load["latency"] or {}
    ready = verdict["production_ready"]
    out = [
        "",
        f"{_mark(True) if verdict['score'] >= 90 else _mark(False)} Overall Score: {verdict['score']:g}/100",
        f"{_mark(ready)} Production Ready: {'YES' if ready else 'NO'}"
        + ("" if ready else f" ({'; '.join(verdict['unmet'])})"),
    ]
    slow = [name for name, row in load["services"].items() if row["latency"] is None or row["latency"]["p95_ms"] > 50]
    out += [
        f"{_mark(not slow)} All services meet 50ms target (P95)" + (f": not {', '.join(slow)}" if slow else ""),
        *(_uptime(one) for one in passes(result) or [None]),
        f"{_least(result['cache'], PLAN['cache'])} Cache effectiveness: {_percent(result['cache'])}",
        "",
        f"Load: {asked['users']} users, {asked['rate']:g}/s for {asked['seconds']:g} s after {asked['warm_up']:g} s of warm-up, seed {asked['seed']}",
        f"  success rate  {_percent(load['success']):>14}  target {_percent(PLAN['success'])}  {_least(load['success'], PLAN['success'])}"
        f"   ({load['intended']} intended = {load['right']} right + {load['failed']} failed)",
        f"  P50           {_ms(latency.get('p50_ms')):>14}",
        f"  P95           {_ms(latency.get('p95_ms')):>14}  target {PLAN['p95_ms']:g} ms  {_most(latency.get('p95_ms'), PLAN['p95_ms'])}"
        f"   (our own: {OURS['p95_ms']:g} ms {_most(latency.get('p95_ms'), OURS['p95_ms'])})",
        f"  P99           {_ms(latency.get('p99_ms')):>14}  target {PLAN['p99_ms']:g} ms  {_most(latency.get('p99_ms'), PLAN['p99_ms'])}"
        f"   (our own: {OURS['p99_ms']:g} ms {_most(latency.get('p99_ms'), OURS['p99_ms'])})",
        f"  throughput    {load['throughput']:>12g}/s  target {PLAN['rate']:g}/s  {_least(load['throughput'], 0.99 * PLAN['rate'])}"
        f"   ({load['offered']:g}/s offered)",
        "",
        *_service_rows(load),
        "",
        *_kind_rows(load),
    ]
    ledger = result["ledger"]
    out += ["", f"Record: {_kept(result['record'])}"]
    if (result["ramp"] or {}).get("record"):
        out.append(f"Record of the ramp: {_kept(result['ramp']['record'])}")
    out += [line for one in passes(result) for line in _fault_lines(one)]
    out += [f"Fault not done: {name}: {why}" for name, why in faults_not_done(result).items()] + ["", _cost(result)]
    out += [
        f"Ledger: dearest transaction {_sol(ledger['sol_per_transaction'])}"
        + (f" ({ledger['dearest']})" if ledger["dearest"] else "")
        + f"; proposals per hour {ledger['proposals_per_hour'] or NOT_MEASURED}",
        f"Saturation: {_saturation(result['ramp'])}",
        *([f"The whole run took {result['took_s']:.0f} s"] if result.get("took_s") else []),
        f"Machine: {context['cpu']}, {context['cores']} cores, load average {context['load_before']:.1f} before the run;"
        f" commit {context['commit']}",
        "Score: " + ", ".join(f"{line['name']} {line['points']:g}/{line['weight']:g}" for line in verdict["lines"]),
    ]
    failures = load["failures"]
    if failures:
        out += ["Failures:", *(f"  {count:>6}  {what}" for what, count in failures.items())]
    return "\n".join(out)


def _service_rows(load: Result) -> list[str]:
    """Each service against the plan's target, which is for all its requests; what it reads and what it writes or works out beside it."""
    rows = [
        f"  {'service':<26}{'requests':>9}{'failed':>8}{'P50':>9}{'P95':>9}{'P99':>9}   {'target of P95':<15}{'P95 of reads':>14}{'of writes':>12}"
    ]
    for name, row in load["services"].items():
        of = row["latency"]
        figures = f"{of['p50_ms']:9.1f}{of['p95_ms']:9.1f}{of['p99_ms']:9.1f}" if of else f"{NOT_MEASURED:>27}"
        met = f"{row['target_ms']} ms {_most(of['p95_ms'] if of else None, row['target_ms'])}"
        apart = [(row.get(which) or {}).get("latency") for which in ("reads", "writes")]
        reads, writes = (f"{one['p95_ms']:.1f}" if one else "—" for one in apart)
        rows.append(f"  {name:<26}{row['intended']:>9}{row['failed']:>8}{figures}   {met:<15}{reads:>14}{writes:>12}")
    return rows


def _kind_rows(load: Result) -> list[str]:
    rows = [f"  {'request':<26}{'requests':>9}{'failed':>8}{'P50':>9}{'P95':>9}{'P99':>9}   service"]
    for kind in load["kinds"]:
        of = kind["latency"]
        figures = f"{of['p50_ms']:9.1f}{of['p95_ms']:9.1f}{of['p99_ms']:9.1f}" if of else f"{NOT_MEASURED:>27}"
        rows.append(f"  {kind['name']:<26}{kind['intended']:>9}{kind['failed']:>8}{figures}   {kind['service']}")
    return rows


def _uptime(faults: Result | None) -> str:
    if faults is None:
        return f"{_mark(None)} Uptime: {NOT_MEASURED} (`--faults`: a load without faults says nothing about it)"
    met = faults["availability"] >= PLAN["success"] and faults["uptime"] >= PLAN["uptime"]
    return (
        f"{_mark(met)} Uptime under faults{_on(faults)} as users saw it: {_percent(faults['availability'])} of requests right with one retry"
        f" ({_percent(faults['availability_without_retry'])} without), worst service up {_percent(faults['uptime'])} of the seconds"
    )


def _on(faults: Result) -> str:
    database = faults.get("database")
    return f" on {_DATABASES[database]}" if database else ""


_DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


def _kept(kept: Result) -> str:
    others = "other events" if "by_type" in kept else "drafts, verifications and runs"
    ballots = (
        f"; {kept['ballots']} ballots, {len(kept['not_on_ledger'])} not on the ledger" if "ballots" in kept else ""
    )
    return (
        f"{kept['acknowledged']} decisions and {kept['made']} {others} acknowledged, {len(kept['missing'])} missing in the log,"
        f" {len(kept['different'])} different; the log had them {kept['seconds']:g} s after the load;"
        f" {len(kept['lost'])} unknown to the service that made them{ballots}"
    )


def _fault_lines(faults: Result) -> list[str]:
    rows = [
        f"  {row['fault']:<32}{row['intended']:>7}{row['failed_without_retry']:>12}{row['failed']:>8}{row['felt_for_s']:>8.1f} s"
        + (f"   healthy after {row['healthy_after_s']:.2f} s" if row["healthy_after_s"] is not None else "")
        for row in faults["schedule"]
    ]
    return [
        "",
        f"Faults{_on(faults)} during {faults['seconds_long']:g} s of load: {faults['intended']} intended = {faults['right']} right + {faults['failed']} failed,"
        f" {faults['retried']} retried once",
        f"  {'fault':<32}{'sent':>7}{'failed 1st':>12}{'failed':>8}  felt for",
        *rows,
        *(f"  breaker {line}" for line in _breaker_lines(faults)),
        f"  record: {_kept(faults['record'])}",
    ]


def _breaker_lines(faults: Result) -> list[str]:
    """Each time that a breaker opened, under the fault that was going on, until it closed again."""
    opened: dict[str, Result] = {}
    closed: list[tuple[Result, float | None]] = []
    for change in faults.get("breakers", ()):
        if change["new"] == "closed" and (first := opened.pop(change["breaker"], None)) is not None:
            closed.append((first, change["at"] - first["at"]))
        elif change["new"] == "open":
            opened.setdefault(change["breaker"], change)
    episodes = [*closed, *((first, None) for first in opened.values())]
    lines: list[str] = []
    for first, seconds in sorted(episodes, key=lambda episode: episode[0]["at"]):
        before = [row for row in faults["schedule"] if row["at"] <= first["at"]]
        when = (
            f"{first['at'] - before[-1]['at']:.1f} s into `{before[-1]['fault']}`"
            if before
            else "before the first fault"
        )
        end = "not seen to close again" if seconds is None else f"closed again {seconds:.1f} s later"
        lines.append(f"{first['breaker']}: open {when} ({first['reason']}), {end}")
    return lines


def _cost(result: Result) -> str:
    cost = result["processor_ms_per_request"]
    if cost is None:
        return f"Processor time per request: {NOT_MEASURED}"
    whole = NOT_MEASURED if cost["system"] is None else f"{cost['system']:.2f} ms"
    return f"Processor time per request: system {whole}, load generator {cost['load generator']:.2f} ms"


def _sol(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:g} SOL"


def _saturation(ramp: Result | None) -> str:
    if ramp is None:
        return NOT_MEASURED
    bound = f"P99 under {ramp['p99_bound_ms']:g} ms and {_percent(PLAN['success'])} right"
    if ramp["knee"] is None:
        return f"below the first step, {ramp['too_much']:g}/s ({bound})"
    above = "the ramp's end" if ramp["too_much"] is None else f"{ramp['too_much']:g}/s was too much"
    return f"{ramp['knee']:g}/s with {bound}; {above} (our own: {OURS['saturation']:g}/s {_least(ramp['knee'], OURS['saturation'])})"


def markdown(result: Result) -> str:
    """The report to read."""
    load, context = result["load"], result["context"]
    rows = [
        f"| {k['name']} | {k['service']} | {k['does']} | "
        + (f"{k['share_percent']:g} %" if k["share_percent"] else f"{k['per_second']:g}/s")
        + f" | {k['intended']} | {k['failed']} | "
        + (
            f"{k['latency']['p50_ms']:.1f} | {k['latency']['p95_ms']:.1f} | {k['latency']['p99_ms']:.1f} |"
            if k["latency"]
            else "— | — | — |"
        )
        for k in load["kinds"]
    ]
    score = [
        f"| {x['name']} | {x['weight']:g} | {x['points']:g} | "
        + (NOT_MEASURED if x["measured"] is None else f"{x['measured']:.4g} {x['unit']}")
        + f" | {x['target']:g} {x['unit']} | {_mark(x['met'])} |"
        for x in result["verdict"]["lines"]
    ]
    processor = [f"| {name} | {share:.2f} |" for name, share in result["processor"].items()]
    ramp = result["ramp"]
    steps = (
        [
            f"| {s['rate']:g} | {_percent(s['success'])} | {s['throughput']:g} | {s['p50_ms']:.1f} | {s['p95_ms']:.1f} | {s['p99_ms']:.1f} | "
            f"{_ms(s['send_lag_p99_ms'])} | {sum(s['processor'].values()):.2f} | {'good' if s['good'] else 'too much'} |"
            for s in ramp["steps"]
        ]
        if ramp
        else []
    )
    return "\n".join(
        [
            f"# System performance at {context['commit']}",
            "",
            f"Measured {context['measured_at']} on {context['cpu']}, {context['cores']} cores, Python {context['python']}; load average "
            f"{context['load_before']:.2f} before and {result['load_after']:.2f} after the run; seed {result['asked']['seed']}. The load generator ran on the same "
            "machine. Open loop: latency counts from the intended time of each request, the warm-up is left out, a wrong answer is a failure.",
            "",
            "```",
            summary(result).strip(),
            "```",
            "",
            "## The mix",
            "",
            "| request | service | what it does | share | intended | failed | P50 ms | P95 ms | P99 ms |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "## The score",
            "",
            "A line earns its whole weight when its target is met, else in proportion to how near it came; what was not measured earns nothing.",
            "",
            "| line | weight | points | measured | target | met |",
            "|---|---:|---:|---:|---:|---|",
            *score,
            "",
            "## Processor",
            "",
            f"Cores used on average during the load, by process. {_cost(result)}.",
            "",
            "| part | cores |",
            "|---|---:|",
            *(processor or [f"| {NOT_MEASURED} | |"]),
            "",
            "## Faults during the load",
            "",
            *([line for one in passes(result) for line in _fault_tables(one)] or [f"{NOT_MEASURED.capitalize()} in this run (`--faults`)."]),
            *(f"- Not done: {name}: {why}." for name, why in faults_not_done(result).items() if passes(result)),
            "",
            "## Ramp to saturation",
            "",
            *(
                ["| offered /s | success | throughput /s | P50 ms | P95 ms | P99 ms | send lag P99 | cores | |", "|---:|---:|---:|---:|---:|---:|---:|---:|---|", *steps, "",
                 f"Saturation: {_saturation(ramp)}."]
                if ramp
                else [f"{NOT_MEASURED.capitalize()} in this run (`--ramp`)."]
            ),
            "",
        ]
    )  # fmt: skip


def _fault_tables(faults: Result) -> list[str]:
    rows = [
        f"| {r['fault']} | {r['does']} | {r['at']:.0f} s | {'' if r['healthy_after_s'] is None else format(r['healthy_after_s'], '.2f') + ' s'} "
        f"| {r['intended']} | {r['failed_without_retry']} | {r['failed']} | {r['felt_for_s']:.1f} s | {r['slowest_ms']:.0f} |"
        for r in faults["schedule"]
    ]
    return [
        f"{_uptime(faults)}. Clients repeat a request once after a broken connection (0.2 s later) or a 502, 503 or 504 (1 s later), except ballots and "
        f"new runs; {faults['retried']} requests were. Latencies then count until the second answer. Record: {_kept(faults['record'])}.",
        "",
        "| fault | what was done | at | healthy again after | requests until the next fault | failed at first | failed after the retry | felt for | slowest ms |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        *(f"- Breaker {line}" for line in _breaker_lines(faults)),
        *(f"- {count} first attempts: {what}" for what, count in faults["first_failures"].items()),
        "",
    ]


# --- HTML ---

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 240, 60, 30


def html(result: Result) -> str:
    """One self-contained file: the summary and the plots."""
    load, ramp, faults, on_postgres = result["load"], result["ramp"], result["faults"], result.get("faults_postgres")
    seconds = load["seconds"]
    services = load["services"]
    plots = [
        (
            "Latency distribution, all services (requests per class; logarithmic classes, ms)",
            _bars(_classes(result["histograms"]["all"])),
        ),
        *(
            (
                f"Latency distribution, {name} (requests per class, ms)",
                _bars(_classes(result["histograms"][name]), height=120),
            )
            for name in services
        ),
        ("Throughput: right answers per second", _line([(s["second"], s["right"]) for s in seconds])),
        ("P95 per second, ms", _line([(s["second"], s["p95_ms"]) for s in seconds])),
        (
            "P95 per service, ms (the mark is the target)",
            _bars([(n, s["latency"]["p95_ms"] if s["latency"] else 0, s["target_ms"]) for n, s in services.items()]),
        ),
        (
            "Cache: share of look-ups answered, % (the mark is the target)",
            _bars([(n, share * 100, PLAN["cache"] * 100) for n, share in result["cache_by_service"].items()]),
        ),
        ("Errors: failures per second", _line([(s["second"], s["failed"]) for s in seconds])),
        (
            "Ramp: P99 over the offered rate, ms",
            _line([(s["rate"], s["p99_ms"]) for s in ramp["steps"]] if ramp else [], unit="/s", dots=True),
        ),
        (
            "Ramp: right answers per second over the offered rate",
            _line([(s["rate"], s["throughput"]) for s in ramp["steps"]] if ramp else [], unit="/s", dots=True),
        ),
        (
            "Faults: right answers per second (one retry); each mark is a fault",
            _line([(s["second"], s["right"]) for s in faults["seconds"]] if faults else [], marks=_fault_marks(faults)),
        ),
        (
            "Faults: P95 per second, ms",
            _line(
                [(s["second"], s["p95_ms"]) for s in faults["seconds"]] if faults else [], marks=_fault_marks(faults)
            ),
        ),
        (
            "Faults on PostgreSQL: right answers per second (one retry)",
            _line(
                [(s["second"], s["right"]) for s in on_postgres["seconds"]] if on_postgres else [],
                marks=_fault_marks(on_postgres),
            ),
        ),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>ACGS-1 system performance</title>"
        "<style>body{font:15px system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;color:#1b2733}"
        "pre{background:#f4f6f8;padding:1em;overflow:auto}svg{width:100%;height:auto}text{font:11px system-ui,sans-serif;fill:#445}"
        "h2{font-size:1.05em;margin-top:2em}</style>"
        f"<h1>System performance at {escape(str(result['context']['commit']))}</h1><pre>{escape(summary(result).strip())}</pre>"
        + "".join(f"<h2>{escape(title)}</h2>{plot}" for title, plot in plots)
        + "</html>\n"
    )


def _classes(histogram: Sequence[tuple[float, int]]) -> list[tuple[str, float, float | None]]:
    return [(f"{bound:.3g}", count, None) for bound, count in histogram]


def _fault_marks(faults: Result | None) -> list[tuple[float, str]]:
    return [(row["at"], row["fault"]) for row in faults["schedule"]] if faults else []


def _frame(top: float, inside: str, height: float = _HEIGHT) -> str:
    lines = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(top * i / 4, top, height):.1f}" y2="{_y(top * i / 4, top, height):.1f}" stroke="#dde3e8"/>'
        f'<text x="{_LEFT - 6}" y="{_y(top * i / 4, top, height) + 4:.1f}" text-anchor="end">{top * i / 4:.4g}</text>'
        for i in range(5)
    )
    return f'<svg viewBox="0 0 {_WIDTH} {height + _BOTTOM}" role="img">{lines}{inside}</svg>'


def _y(value: float, top: float, height: float = _HEIGHT) -> float:
    return height - (height - 10) * value / top


def _line(
    points: Sequence[tuple[float, float]],
    *,
    unit: str = " s",
    dots: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    if not points:
        return f"<p>{NOT_MEASURED}</p>"
    top = max(y for _, y in points) or 1.0
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0

    def x(at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * (at - first) / span

    path = " ".join(f"{x(at):.1f},{_y(value, top):.1f}" for at, value in points)
    ends = "".join(
        f'<text x="{x(at):.1f}" y="{_HEIGHT + 16}" text-anchor="{a}">{at:g}{unit}</text>'
        for at, a in ((first, "start"), (last, "end"))
    )
    circles = "".join(
        f'<circle cx="{x(at):.1f}" cy="{_y(value, top):.1f}" r="3" fill="#2166ac"><title>{at:g}{unit}: {value:g}</title></circle>'
        for at, value in points
        if dots
    )
    lines = "".join(
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="10" y2="{_HEIGHT}" stroke="#b2182b" stroke-dasharray="3 3"><title>{escape(name)}</title></line>'
        f'<text transform="translate({x(at) + 10:.1f},14) rotate(90)">{escape(name)}</text>'
        for at, name in marks
        if first <= at <= last
    )
    return _frame(
        top, f'{lines}<polyline points="{path}" fill="none" stroke="#2166ac" stroke-width="1.5"/>{circles}{ends}'
    )


def _bars(bars: Sequence[tuple[str, float, float | None]], height: float = _HEIGHT) -> str:
    if not bars:
        return f"<p>{NOT_MEASURED}</p>"
    top = max(max(value, target or 0) for _, value, target in bars) or 1.0
    step = (_WIDTH - _LEFT) / len(bars)
    parts: list[str] = []
    for index, (name, value, target) in enumerate(bars):
        x, y = _LEFT + index * step, _y(value, top, height)
        parts.append(
            f'<rect x="{x + step * 0.1:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height - y:.1f}" fill="#67a9cf">'
            f"<title>{escape(name)}: {value:g}</title></rect>"
        )
        if target is not None:
            parts.append(
                f'<line x1="{x:.1f}" x2="{x + step:.1f}" y1="{_y(target, top, height):.1f}" y2="{_y(target, top, height):.1f}" stroke="#b2182b" stroke-width="2"/>'
            )
        if len(bars) <= 10 or index % 4 == 0:
            parts.append(
                f'<text x="{x + step / 2:.1f}" y="{height + 16}" text-anchor="middle">{escape(name[:18])}</text>'
            )
    return _frame(top, "".join(parts), height)
