"""`make bench-compare`: a change is called one only beyond the noise that the history itself shows."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import compare, record  # noqa: E402

MACHINE = {"cpu": "a processor", "cores": 2, "seed": 1}


def history(tmp_path: Path, *measured: tuple[str, float], cores: int = 2) -> Path:
    file = tmp_path / "history.jsonl"
    for commit, value in measured:
        where = {**MACHINE, "cores": cores, "commit": commit}
        record.keep("load", where, {"P95": record.lower(value, "ms"), "rate": None}, file)
    return file


def changes(file: Path, *commits: str) -> list[compare.Change]:
    return compare.compare(compare.read(file), *commits)


def test_the_newest_commit_is_compared_with_the_one_measured_before_it(tmp_path: Path):
    (change,) = changes(history(tmp_path, ("aaa", 90), ("bbb", 100), ("ccc", 150)))
    assert (change.figure, change.old, change.new, change.verdict) == ("P95", 100, 150, "worse")


def test_two_named_commits_are_compared_whatever_lies_between(tmp_path: Path):
    (change,) = changes(history(tmp_path, ("aaa111", 90), ("bbb", 100), ("ccc", 60)), "aaa", "ccc")
    assert (change.old, change.new, change.verdict) == (90, 60, "better")


def test_the_noise_is_what_repeated_results_of_one_commit_showed(tmp_path: Path):
    file = history(tmp_path, ("aaa", 80), ("aaa", 120), ("bbb", 118))
    (change,) = changes(file)
    assert change.old == pytest.approx(100)
    assert change.noise == pytest.approx(0.2)
    assert change.verdict == "same"


def test_a_single_result_of_each_commit_is_taken_for_noisy(tmp_path: Path):
    (change,) = changes(history(tmp_path, ("aaa", 100), ("bbb", 112)))
    assert (change.noise, change.verdict) == (compare.UNKNOWN_NOISE, "same")


def test_results_of_different_machines_are_never_compared(tmp_path: Path):
    history(tmp_path, ("aaa", 100), cores=64)
    file = history(tmp_path, ("bbb", 50))
    with pytest.raises(compare.NothingToCompare, match="no result of a commit before `bbb`"):
        changes(file)


def test_a_figure_that_was_not_measured_is_left_out(tmp_path: Path):
    line: dict[str, Any] = json.loads(history(tmp_path, ("aaa", 1)).read_text())
    assert list(line["figures"]) == ["P95"]


def test_a_source_that_no_commit_names_is_kept_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = history(tmp_path, ("aaa", 100))
    where = {**MACHINE, "commit": "aaa+changes"}
    assert not record.keep("load", where, {"P95": record.lower(1, "ms")}, file)
    assert "commit first" in capsys.readouterr().out
    assert len(compare.read(file)) == 1
    assert record.keep("load", where, {"P95": record.lower(1, "ms")}, file, force=True)
    assert len(compare.read(file)) == 2


def test_without_names_only_results_that_a_commit_names_are_compared(tmp_path: Path):
    file = history(tmp_path, ("aaa", 100), ("bbb", 200))
    for commit, value in (("bbb+changes", 1), ("ccc+changes", 2)):
        record.keep("load", {**MACHINE, "commit": commit}, {"P95": record.lower(value, "ms")}, file, force=True)
    (change,) = changes(file)
    assert (change.old, change.new) == (100, 200)
    (named,) = changes(file, "aaa", "ccc+changes")
    assert (named.old, named.new) == (100, 2)


def test_what_is_compared_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    compare.main(["--history", str(history(tmp_path, ("aaa", 100), ("bbb", 200)))])
    assert "load: aaa -> bbb (seed 1)" in capsys.readouterr().out


def test_the_exit_status_says_whether_a_figure_became_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = history(tmp_path, ("aaa", 100))
    assert compare.main(["--history", str(file)]) == 2
    history(tmp_path, ("bbb", 200))
    assert compare.main(["--history", str(file)]) == 1
    assert "WORSE" in capsys.readouterr().out
    history(tmp_path, ("ccc", 100))
    assert compare.main(["--history", str(file)]) == 0


def test_the_repositorys_own_history_can_be_read():
    for line in compare.read(record.HISTORY):
        assert {"benchmark", "commit", "seed", "cpu", "cores", "measured_at", "figures"} <= line.keys()
        assert all(figure["better"] in {"lower", "higher"} for figure in line["figures"].values())
