"""tau-bench's airline data, read from the folder that holds it. Nothing of it is copied or shipped."""

import ast
import importlib
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from acgs1.core.errors import DomainError
from acgs1.core.hashing import sha256_hex

Record = dict[str, Any]
Invoke = Callable[..., Any]

_AIRLINE = Path("tau_bench") / "envs" / "airline"
_RUNS = "gpt-4o-airline-trajectories.json"


class DatasetInvalid(DomainError):
    """The folder is not tau-bench's airline data, or not in the form that this benchmark reads."""

    code = "dataset_invalid"
    title = "The benchmark's data cannot be read"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    tool: str
    arguments: Record


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The calls of one conversation in their order. `trial` and `reward` are None for a task's correct calls."""

    task: int
    customer: str
    calls: tuple[RecordedCall, ...]
    trial: int | None = None
    reward: float | None = None


class _Copies(dict[str, Any]):
    """A table of which every record reached by its key is this table's own. Iterating shows records that are to be read only."""

    def __init__(self, table: Record) -> None:
        super().__init__(table)
        self._own: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        if key not in self._own and key in self:
            super().__setitem__(key, deepcopy(super().__getitem__(key)))
            self._own.add(key)
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._own.add(key)
        super().__setitem__(key, value)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


class Dataset:
    """The folder `root`. Raises DatasetInvalid, naming the file, when it is not what it should be."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        data = self.root / _AIRLINE / "data"
        self._tables: dict[str, Record] = {
            name: _json(data / f"{name}.json") for name in ("flights", "reservations", "users")
        }
        self._digest = self._content()
        self.tools = _tools(self.root)

    def database(self) -> Record:
        """A fresh copy of the database, as the tools take it: a record is copied when it is first reached for."""
        return {name: _Copies(table) for name, table in self._tables.items()}

    def is_pristine(self) -> bool:
        """Whether what all copies are made from is still as it was read."""
        return self._content() == self._digest

    def _content(self) -> str:
        return sha256_hex(json.dumps(self._tables).encode())

    def correct_calls(self) -> list[RecordedRun]:
        """The correct calls of every task."""
        path = self.root / _AIRLINE / "tasks_test.py"
        tasks = _literal_tasks(path)
        return [
            RecordedRun(number, task["user_id"], tuple(RecordedCall(a["name"], a["kwargs"]) for a in task["actions"]))
            for number, task in enumerate(tasks)
        ]

    def agent_runs(self) -> list[RecordedRun]:
        """The recorded runs of GPT-4o, by task and trial."""
        path = self.root / _RUNS
        runs: list[RecordedRun] = []
        try:
            for run in cast("list[Record]", _json(path)):
                calls = [
                    RecordedCall(call["function"]["name"], json.loads(call["function"]["arguments"]))
                    for message in run["traj"]
                    for call in message.get("tool_calls") or ()
                ]
                customer = run["info"]["task"]["user_id"]
                runs.append(RecordedRun(run["task_id"], customer, tuple(calls), run["trial"], float(run["reward"])))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetInvalid(f"`{path}` is not a list of tau-bench runs: {error!r}") from error
        return sorted(runs, key=lambda run: (run.task, run.trial or 0))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetInvalid(
            f"`{path}` cannot be read ({error.strerror}); give the folder that holds `tau_bench/`"
        ) from error
    except ValueError as error:
        raise DatasetInvalid(f"`{path}` is not JSON: {error}") from error


def _literal_tasks(path: Path) -> list[Record]:
    """The tasks as literals: the file is Python, but reading it runs none of it."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, SyntaxError) as error:
        raise DatasetInvalid(f"`{path}` cannot be read: {error}") from error
    for statement in module.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.List):
            try:
                return [cast("Record", _literal(task)) for task in statement.value.elts]
            except ValueError as error:
                raise DatasetInvalid(f"`{path}`: a task is not a literal: {error}") from error
    raise DatasetInvalid(f"`{path}` holds no list of tasks")


def _literal(node: ast.expr) -> Any:
    """A literal, in which `Name(key=value, ...)` stands for the mapping of its keywords. Raises ValueError for anything else."""
    match node:
        case ast.Call(func=ast.Name(), args=[], keywords=keywords):
            return {str(keyword.arg): _literal(keyword.value) for keyword in keywords}
        case ast.List(elts=elements):
            return [_literal(element) for element in elements]
        case _:
            return ast.literal_eval(node)


def _tools(root: Path) -> dict[str, Invoke]:
    with _importing(root):
        try:
            module = importlib.import_module("tau_bench.envs.airline.tools")
        except ImportError as error:
            raise DatasetInvalid(f"the tools under `{root / _AIRLINE}` cannot be imported: {error}") from error
        if not Path(str(module.__file__)).resolve().is_relative_to(root):
            raise DatasetInvalid(f"`tau_bench` was found at `{module.__file__}`, not under `{root}`")
        return {tool.get_info()["function"]["name"]: tool.invoke for tool in module.ALL_TOOLS}


@contextmanager
def _importing(root: Path) -> Generator[None]:
    """Inside, `tau_bench` is the one under `root` and nothing is written beside it; afterwards the interpreter is as it was."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "tau_bench"]

    others = {name: sys.modules.pop(name) for name in ours()}
    write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        sys.dont_write_bytecode = write_bytecode
        for name in ours():
            del sys.modules[name]
        sys.modules.update(others)
