"""Make a counterexample readable: the simplest request found that still shows the same thing.

Works on values, not on formulas: each simpler variant is replayed by the caller, so what is shown is a real request at
every step. A solver's model is full of arbitrary values; what is left after shrinking matters.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, cast

Json = dict[str, Any]

_ROUND_DURATIONS = ("0ms", "1s", "1m", "1h", "2h", "1d", "7d", "30d", "365d", "-1s", "-1h", "-1d", "-365d")
_ROUND_DECIMALS = (
    "0.0",
    "1.0",
    "2.0",
    "10.0",
    "100.0",
    "1000.0",
    "1000000.0",
    "-1.0",
    "-10.0",
    "-1000.0",
    "-1000000.0",
)
_ROUND_LONGS = (0, 1, 2, 3, 5, 10, 18, 20, 30, 50, 65, 100, 200, 500, 1000, 10_000, 100_000, 1_000_000)


@dataclass
class Case:
    """One request with its entities, as JSON. `principal` and `resource` are `{"type", "id"}`."""

    principal: Json
    action: str
    resource: Json
    context: Json
    entities: list[Json] = field(default_factory=list[Json])


def shrink(case: Case, still_shows: Callable[[Case], bool], budget: int = 600) -> Case:
    """The simplest variant of `case` found with at most `budget` calls of `still_shows`.

    `still_shows(case)` must hold; it must be false, not raise, for a variant that is no well-formed request.
    """
    attempts = _Attempts(case, still_shows, budget)
    attempts.rename_entities()
    attempts.drop_entities()
    while attempts.round():
        pass
    return attempts.best


class _Attempts:
    def __init__(self, case: Case, still_shows: Callable[[Case], bool], budget: int) -> None:
        self.best = case
        self._still_shows = still_shows
        self._left = budget

    def _try(self, variant: Case) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        if not self._still_shows(variant):
            return False
        self.best = variant
        return True

    def rename_entities(self) -> None:
        """`Agent::"!A7"` becomes `Agent::"agent-1"`, all at once where possible; ids that policies name must stay."""
        seen: list[tuple[str, str]] = []
        for reference in _references(self.best):
            uid = (reference["type"], reference["id"])
            if uid not in seen:
                seen.append(uid)
        names: dict[tuple[str, str], str] = {}
        taken = set(seen)
        for kind, entity_id in seen:
            stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.rpartition("::")[2]).lower()
            number = 1
            while (kind, f"{stem}-{number}") in taken:
                number += 1
            names[kind, entity_id] = f"{stem}-{number}"
            taken.add((kind, f"{stem}-{number}"))
        if not self._try(_renamed(self.best, names)):
            for uid, name in names.items():
                self._try(_renamed(self.best, {uid: name}))

    def drop_entities(self) -> None:
        keep = (self.best.principal, self.best.resource)
        for entity in list(self.best.entities):
            if entity["uid"] in keep:
                continue
            variant = replace(self.best, entities=[e for e in self.best.entities if e["uid"] != entity["uid"]])
            # An entity that something still refers to stays: the store that is shown must be complete.
            if entity["uid"] not in list(_references(variant)):
                self._try(variant)

    def round(self) -> bool:
        """One pass over every value; whether anything became simpler."""
        before = self.best
        for index in range(len(self.best.entities)):
            if self.best.entities[index].get("parents"):
                for parent in list(self.best.entities[index]["parents"]):
                    self._edit(("entities", index, "parents"), [p for p in self._at(index, "parents") if p != parent])
            if self.best.entities[index].get("tags"):
                for tag in list(self.best.entities[index]["tags"]):
                    kept = {k: v for k, v in self.best.entities[index]["tags"].items() if k != tag}
                    self._edit(("entities", index, "tags"), kept)
            self._record(("entities", index, "attrs"))
        self._record(("context",))
        self.drop_entities()
        return self.best is not before

    def _at(self, index: int, name: str) -> list[Json]:
        return self.best.entities[index][name]

    def _record(self, path: tuple[str | int, ...]) -> None:
        for name in list(_get(self.best, path)):
            without = {k: v for k, v in _get(self.best, path).items() if k != name}
            if not self._edit(path, without):
                self._value((*path, name))

    def _value(self, path: tuple[str | int, ...]) -> None:
        value = _get(self.best, path)
        match value:
            case True:
                self._edit(path, False)
            case bool():
                pass
            case int():
                self._long(path, value)
            case str() if value:
                if not self._edit(path, ""):
                    self._edit(path, value[:1]) if len(value) > 1 else None
            case list():
                for item in list(cast("list[Any]", value)):
                    self._edit(path, [other for other in _get(self.best, path) if other != item])
            case {"__extn": _}:
                self._extension(path, value)
            case dict() if "__entity" not in value:
                self._record(path)
            case _:
                pass

    def _extension(self, path: tuple[str | int, ...], value: Json) -> None:
        """The plainest value of the type that still shows it; else the same value, written as a person would."""
        for candidate in simpler_extensions(value):
            if candidate == value or self._edit(path, candidate):
                return

    def _long(self, path: tuple[str | int, ...], value: int) -> None:
        """The round number of least magnitude that still shows it; else the threshold nearest to zero, by bisection."""
        for candidate in _ROUND_LONGS:
            if abs(candidate) >= abs(value):
                break
            if self._edit(path, candidate):
                value = candidate
                break
        near, far = 0, value
        while abs(far - near) > 1:
            middle = (near + far) // 2
            if self._edit(path, middle):
                far = middle
            else:
                near = middle

    def _edit(self, path: tuple[str | int, ...], value: object) -> bool:
        if _get(self.best, path) == value and type(_get(self.best, path)) is type(value):
            return False
        return self._try(_changed(self.best, path, value))


def simpler_extensions(value: Json) -> Iterator[Json]:
    """Plainer values of the type of an extension value, plainest first; the last is `value` itself in its plain form."""
    name, arguments = value["__extn"]["fn"], value["__extn"]
    match name:
        case "datetime" | "offset":
            yield from (_literal("datetime", text) for text in _datetimes(arguments))
        case "duration":
            yield from (_literal("duration", text) for text in (*_ROUND_DURATIONS, str(arguments["arg"])))
        case "decimal":
            whole = str(arguments["arg"]).partition(".")[0]
            yield from (_literal("decimal", text) for text in (*_ROUND_DECIMALS, f"{whole}.0"))
        case "ip":
            plain = str(arguments["arg"]).removesuffix("/32").removesuffix("/128")
            yield from (_literal("ip", text) for text in dict.fromkeys(("10.0.0.1", "127.0.0.1", plain)))
        case _:
            pass


def _datetimes(extension: Json) -> Iterator[str]:
    """A solver's model writes a time as an offset in milliseconds from a date."""
    moment = _moment(extension)
    if moment is None:
        return
    yield "1970-01-01"
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    yield midnight.strftime("%Y-%m-%d")
    if moment != midnight:
        if midnight.date() < date.max:
            yield (midnight + timedelta(days=1)).strftime("%Y-%m-%d")
        yield f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _moment(extension: Json) -> datetime | None:
    """The time that is meant, where it is written as a model or a plain date writes it, within the years 1000 to 9999."""
    if extension["fn"] == "offset":
        base, by = (each["__extn"].get("arg", "") for each in extension["args"])
    else:
        base, by = extension["arg"], "0ms"
    try:
        moment = datetime.strptime(base, "%Y-%m-%d") + timedelta(milliseconds=int(by.removesuffix("ms")))  # noqa: DTZ007 - no zone
    except (ValueError, OverflowError):
        return None
    return moment if moment.year >= 1000 else None


def _literal(function: str, argument: str) -> Json:
    return {"__extn": {"fn": function, "arg": argument}}


def _get(case: Case, path: tuple[str | int, ...]) -> Any:
    value: Any = vars(case)
    for step in path:
        value = value[step]
    return value


def _changed(case: Case, path: tuple[str | int, ...], value: object) -> Case:
    """The case with `value` at `path`. What is not on the path is shared: nobody changes a case in place."""
    name, *rest = path
    return replace(case, **{str(name): _with(getattr(case, str(name)), rest, value)})


def _with(container: Any, path: Sequence[str | int], value: object) -> Any:
    if not path:
        return value
    copied = container.copy()
    copied[path[0]] = _with(copied[path[0]], path[1:], value)
    return copied


def _references(case: Case) -> Iterator[Json]:
    yield case.principal
    yield case.resource
    for entity in case.entities:
        yield from entity.get("parents", ())
        yield from _inner_references(entity.get("attrs", {}))
        yield from _inner_references(entity.get("tags", {}))
    yield from _inner_references(case.context)


def _inner_references(value: Any) -> Iterator[Json]:
    if isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _inner_references(item)
    elif isinstance(value, dict):
        if "__entity" in value:
            yield value["__entity"]
        else:
            for item in value.values():  # pyright: ignore[reportUnknownVariableType]
                yield from _inner_references(item)


def _renamed(case: Case, names: dict[tuple[str, str], str]) -> Case:
    variant = copy.deepcopy(case)
    # The uids of entities are no references of their own, but each carries one name as well.
    for reference in [*_references(variant), *(entity["uid"] for entity in variant.entities)]:
        name = names.get((reference["type"], reference["id"]))
        if name is not None:
            reference["id"] = name
    return variant
