"""What the replays showed, as data and as Markdown: calls, denials by principle, false denials, and what no call can decide."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from acgs1.cli.tau_airline.replay import ReplayedCall
from acgs1.contracts.constitution import Constitution
from acgs1.core.hashing import text_hash

Document = dict[str, Any]

_UPDATES = {
    "book_reservation",
    "update_reservation_flights",
    "update_reservation_baggages",
    "update_reservation_passengers",
    "cancel_reservation",
}


def build(
    constitution: Constitution,
    policies: str,
    correct: Sequence[ReplayedCall],
    recorded: Sequence[ReplayedCall],
    reviewed: Mapping[str, Any],
    seconds: Sequence[float],
    circumstances: Mapping[str, Any],
) -> Document:
    """The report. `reviewed` is the hand-made list of `law.reviewed`; a denial of a correct call that it does not explain is false."""
    listed = {(d["task"], d["call"]): d for d in reviewed["deviations"]}
    denied = {(c.task, c.index): c for c in correct if c.outcome != "allowed"}
    explained = {key for key, call in denied.items() if key in listed and listed[key]["principle"] in call.principles}
    texts = {p.id: p.text for p in constitution.principles}
    broken = Counter(name for call in recorded for name in call.principles)
    violations = [call for call in recorded if call.outcome == "denied"]
    runs = {(c.task, c.trial) for c in recorded}
    breaking = {(c.task, c.trial) for c in violations}
    return {
        "format": "acgs1-tau-airline/1",
        **circumstances,
        "constitution_hash": constitution.hash,
        "policies_hash": text_hash(policies),
        "correct_calls": {
            **_totals(correct),
            "tasks_with_calls": len({c.task for c in correct}),
            "false_denials": [_call(call) for key, call in denied.items() if key not in explained],
            "recorded_calls_that_break_a_rule": [
                {**_call(denied[key]), "reason": listed[key]["reason"]} for key in sorted(explained)
            ],
            "listed_but_not_denied": [dict(entry) for key, entry in listed.items() if key not in explained],
        },
        "recorded_runs": {
            **_totals(recorded),
            "runs_with_calls": len(runs),
            "runs_that_break_a_rule": len(breaking),
            "runs_scored_as_success_that_break_a_rule": len({(c.task, c.trial) for c in violations if c.reward == 1.0}),
            "broken_principles": [
                {"principle": name, "calls": count, "text": texts.get(name, "")} for name, count in broken.most_common()
            ],
            "violations": [{**_call(call), "rules": [texts[name] for name in call.principles]} for call in violations],
            "not_decided": [_call(call) for call in recorded if call.outcome not in {"allowed", "denied"}],
        },
        "undecided_rules": [
            {
                **entry,
                "text": texts[entry["principle"]],
                "allowed_calls": _concerned(entry["concerns"], correct, recorded),
            }
            for entry in reviewed["undecided"]
        ],
        "decision_time_ms": _times(seconds),
    }


def _totals(calls: Sequence[ReplayedCall]) -> Document:
    return {
        "calls": len(calls),
        "allowed": sum(c.outcome == "allowed" for c in calls),
        "denied": sum(c.outcome == "denied" for c in calls),
        "tool_errors": sum(c.tool_error is not None for c in calls),
        "by_tool": [
            {
                "tool": tool,
                "calls": len(of_tool),
                "allowed": sum(c.outcome == "allowed" for c in of_tool),
                "denied": sum(c.outcome == "denied" for c in of_tool),
                "denied_by": dict(Counter(name for c in of_tool for name in c.principles).most_common()),
            }
            for tool in sorted({c.tool for c in calls})
            for of_tool in [[c for c in calls if c.tool == tool]]
        ],
    }


def _call(call: ReplayedCall) -> Document:
    """Ids, names and derived facts only: nothing of the conversations."""
    document: Document = {"task": call.task, "call": call.index, "tool": call.tool, "outcome": call.outcome}
    if call.trial is not None:
        document |= {"trial": call.trial, "reward": call.reward}
    return document | {"principles": list(call.principles), "policies": list(call.policies), "facts": call.facts}


def _concerned(what: str, *groups: Iterable[ReplayedCall]) -> int:
    allowed = [call for group in groups for call in group if call.outcome == "allowed"]
    match what:
        case "updates":
            return sum(call.tool in _UPDATES for call in allowed)
        case "insured_cancellations":
            return sum(call.tool == "cancel_reservation" and _only_insured(call.facts) for call in allowed)
        case "certificates":
            return sum(call.tool == "send_certificate" for call in allowed)
        case "transfers":
            return sum(call.tool == "transfer_to_human_agents" for call in allowed)
        case _:
            return 0


def _only_insured(facts: Mapping[str, Any]) -> bool:
    return (
        facts["insured"]
        and facts["minutes_since_booking"] > 24 * 60
        and facts["cancelled_segments"] == 0
        and facts["cabin"] != "business"
    )


def _times(seconds: Sequence[float]) -> Document:
    ordered = sorted(seconds)
    if not ordered:
        return {"decisions": 0}
    return {
        "decisions": len(ordered),
        "median": round(median(ordered) * 1000, 4),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 4),
        "max": round(ordered[-1] * 1000, 4),
    }


def markdown(report: Document) -> str:
    """The report for people."""
    correct, recorded, times = report["correct_calls"], report["recorded_runs"], report["decision_time_ms"]
    lines = [
        "# tau-airline: the governor in front of tau-bench's airline agent",
        "",
        f"Decider: {report['decider']}. Constitution `{report['constitution_hash'][:16]}`, policies `{report['policies_hash'][:16]}`, "
        f"commit `{report['commit']}`, {report['time']}, {report['machine']}.",
        "",
        f"Decisions: {times['decisions']}, median {times.get('median')} ms, p99 {times.get('p99')} ms (asking and answering, without "
        "establishing the facts).",
        "",
        f"## The correct calls of {report['tasks']} tasks",
        "",
        f"{correct['calls']} calls in {correct['tasks_with_calls']} tasks (the others need none): {correct['allowed']} allowed, "
        f"{correct['denied']} denied. "
        f"**False denials: {len(correct['false_denials'])}.** "
        f"Recorded correct calls that break a rule themselves: {len(correct['recorded_calls_that_break_a_rule'])}.",
        "",
        *_tools_table(correct["by_tool"]),
    ]
    lines += ["### False denials", ""]
    lines += [
        f"- task {c['task']}, call {c['call']}, `{c['tool']}`: {', '.join(c['principles'])}"
        for c in correct["false_denials"]
    ]
    lines += [] if correct["false_denials"] else ["None."]
    lines += ["", "### Recorded correct calls that break a rule", ""]
    lines += ["| task | call | tool | principle | why |", "|---:|---:|---|---|---|"]
    lines += [
        f"| {c['task']} | {c['call']} | `{c['tool']}` | {', '.join(c['principles'])} | {c['reason']} |"
        for c in correct["recorded_calls_that_break_a_rule"]
    ]
    if correct["listed_but_not_denied"]:
        lines += ["", "Listed as breaking a rule, yet not denied for it:", ""]
        lines += [f"- task {d['task']}, call {d['call']}, {d['principle']}" for d in correct["listed_but_not_denied"]]
    lines += [
        "",
        f"## The {report['runs']} recorded runs of GPT-4o",
        "",
        f"{recorded['calls']} calls in {recorded['runs_with_calls']} runs (the others made none): {recorded['allowed']} allowed, "
        f"{recorded['denied']} denied; {len(recorded['not_decided'])} named a record that does not exist, or that an earlier denial kept "
        f"from existing. {recorded['runs_that_break_a_rule']} runs break a rule; "
        f"tau-bench scored {recorded['runs_scored_as_success_that_break_a_rule']} of them as a success.",
        "",
        *_tools_table(recorded["by_tool"]),
        "### Rules that were broken",
        "",
        "| calls | principle | text |",
        "|---:|---|---|",
        *(f"| {p['calls']} | {p['principle']} | {p['text']} |" for p in recorded["broken_principles"]),
        "",
        "### Every call that breaks a rule",
        "",
        "| task | trial | call | tool | principle | text |",
        "|---:|---:|---:|---|---|---|",
        *(
            f"| {c['task']} | {c['trial']} | {c['call']} | `{c['tool']}` | {', '.join(c['principles'])} | {' '.join(c['rules'])} |"
            for c in recorded["violations"]
        ),
        "",
        "A call is listed each time it was made: an agent that repeats a denied call breaks the rule again. After a denial the replay "
        "goes on with what was recorded, on the database without the denied call.",
        "",
        "## Rules that cannot be decided at the call",
        "",
        "| principle | allowed calls that it concerns | why not | how an approval covers it |",
        "|---|---:|---|---|",
        *(
            f"| {u['principle']} | {u['allowed_calls']} | {u['why']} | {u['approval']} |"
            for u in report["undecided_rules"]
        ),
        "",
    ]
    return "\n".join(lines)


def _tools_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "| tool | calls | allowed | denied | by principle |",
        "|---|---:|---:|---:|---|",
        *(
            f"| `{r['tool']}` | {r['calls']} | {r['allowed']} | {r['denied']} | "
            f"{', '.join(f'{name} {count}' for name, count in r['denied_by'].items())} |"
            for r in rows
        ),
        "",
    ]
