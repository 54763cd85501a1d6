"""What changed between two commits, from the history of results.

    make bench-compare
    python benchmarks/compare.py [OLD NEW] [--benchmark NAME] [--history FILE]

Without commits: for every benchmark, the newest measured commit against the one measured before it on a machine of the same processor
and number of cores; results of sources that no commit names (`+changes`) are passed over. Several results of one commit are taken
together: their median is compared. A change counts only beyond the noise, which is half the widest spread that the figure showed among
results of one commit on this kind of machine, and at least 5 %; it is taken for 15 % where no commit was measured twice. Exit status 1
when a figure became worse beyond the noise, 2 when there is nothing to compare.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from record import CHANGED, HISTORY

LEAST_NOISE = 0.05
UNKNOWN_NOISE = 0.15

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure at two commits; `relative` is None where the old value is 0."""

    benchmark: str
    figure: str
    unit: str
    old: float
    new: float
    noise: float
    better: str

    @property
    def relative(self) -> float | None:
        return (self.new - self.old) / self.old if self.old else None

    @property
    def verdict(self) -> str:
        if self.new == self.old or (self.relative is not None and abs(self.relative) <= self.noise):
            return "same"
        return "better" if (self.new < self.old) is (self.better == "lower") else "worse"


class NothingToCompare(Exception):
    """The history does not hold what was asked for; the message says what is missing."""


def read(history: Path) -> list[Line]:
    """The history, oldest first."""
    return [json.loads(line) for line in history.read_text().splitlines() if line] if history.exists() else []


def pair(lines: Sequence[Line], old: str | None = None, new: str | None = None) -> tuple[list[Line], Line, Line]:
    """What to compare of one benchmark: all results of that kind of machine, the newest of the old commit, the newest of the new one.

    Without names these are the two newest commits. Raises NothingToCompare.
    """
    name = lines[0]["benchmark"]
    if new is None:
        lines = [line for line in lines if not line["commit"].endswith(CHANGED)]
    newest = _last(lines, new)
    if newest is None:
        raise NothingToCompare(
            f"{name}: no result of " + (f"`{new}`" if new is not None else "a commit without changes")
        )
    peers = [line for line in lines if _machine(line) == _machine(newest)]
    before = [line for line in peers[: peers.index(newest)] if line["commit"] != newest["commit"]]
    earlier = _last(peers if old is not None else before, old)
    if earlier is None:
        wanted = f"`{old}`" if old is not None else f"a commit before `{newest['commit']}`"
        raise NothingToCompare(f"{name}: no result of {wanted} on {newest['cpu']} with {newest['cores']} cores")
    return peers, earlier, newest


def compare(lines: Sequence[Line], old: str | None = None, new: str | None = None) -> list[Change]:
    """The changes of one benchmark between two commits, or between its two newest. Raises NothingToCompare."""
    peers, earlier, newest = pair(lines, old, new)
    was, now = _values(peers, earlier["commit"]), _values(peers, newest["commit"])
    shown = _last_figures(peers, newest["commit"])
    return [
        Change(
            newest["benchmark"], figure, row["unit"], statistics.median(was[figure]), statistics.median(now[figure]),
            _noise(peers, figure), row["better"],
        )
        for figure, row in shown.items()
        if figure in was
    ]  # fmt: skip


def _last(lines: Sequence[Line], commit: str | None) -> Line | None:
    return next((x for x in reversed(lines) if commit is None or x["commit"].startswith(commit)), None)


def _machine(line: Line) -> tuple[str, int]:
    return line["cpu"], line["cores"]


def _values(lines: Sequence[Line], commit: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if line["commit"] == commit:
            for figure, row in line["figures"].items():
                values[figure].append(row["value"])
    return values


def _last_figures(lines: Sequence[Line], commit: str) -> dict[str, dict[str, Any]]:
    return next(line["figures"] for line in reversed(lines) if line["commit"] == commit)


def _noise(lines: Sequence[Line], figure: str) -> float:
    """Half the widest relative spread of this figure among repeated results of one commit."""
    spreads: list[float] = []
    for commit in {line["commit"] for line in lines}:
        values = _values(lines, commit).get(figure, [])
        middle = statistics.median(values) if values else 0.0
        if len(values) > 1 and middle:
            spreads.append((max(values) - min(values)) / abs(middle) / 2)
    return max(LEAST_NOISE, *spreads) if spreads else UNKNOWN_NOISE


def table(changes: Sequence[Change]) -> str:
    """One line per figure."""
    width = max(len(change.figure) for change in changes)
    rows = [f"  {'figure':<{width}}  {'old':>12}  {'new':>12}  {'change':>8}  {'noise':>6}"]
    for c in changes:
        relative = "" if c.relative is None else f"{c.relative:+.1%}"
        mark = {"better": "better", "worse": "WORSE", "same": ""}[c.verdict]
        rows.append(
            f"  {c.figure:<{width}}  {c.old:>12.4g}  {c.new:>12.4g}  {relative:>8}  {c.noise:>5.0%}  {c.unit:<14} {mark}".rstrip()
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Show what changed between two measured commits.")
    parser.add_argument(
        "commits", nargs="*", metavar="COMMIT", help="old and new; without them the two newest measured"
    )
    parser.add_argument("--benchmark", help="only this one")
    parser.add_argument("--history", type=Path, default=HISTORY)
    options = parser.parse_args(arguments)
    if len(options.commits) not in {0, 2}:
        parser.error("name two commits, the old one first, or none")
    old, new = options.commits or (None, None)
    by_name: dict[str, list[Line]] = defaultdict(list)
    for line in read(options.history):
        if options.benchmark in {None, line["benchmark"]}:
            by_name[line["benchmark"]].append(line)
    changes: list[Change] = []
    for name, lines in sorted(by_name.items()):
        try:
            found = compare(lines, old, new)
        except NothingToCompare as reason:
            print(f"{reason}\n")
            continue
        changes += found
        _, first, last = pair(lines, old, new)
        seeds = ", ".join(dict.fromkeys(str(line["seed"]) for line in (first, last)))
        what = f"{name}: {first['commit']} -> {last['commit']} (seed {seeds})"
        print(f"{what}\n{table(found)}\n" if found else f"{what}: no figure in common\n")
    if not changes:
        print("nothing to compare: the history holds no two commits of a benchmark on one kind of machine")
        return 2
    return 1 if any(change.verdict == "worse" for change in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
