"""The one literal that a tunable threshold is: found in a policy's meaning, replaced in its text.

The text is spliced rather than printed anew from the JSON form, so that comments and layout stay as people wrote them; the JSON form
decides what to splice, so that nothing but that literal can change.
"""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Est = dict[str, Any]
"""Cedar's JSON form of a policy."""

Path = list[str | int]
"""The keys and indices that lead to a place in it."""

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
# Strings and comments are consumed whole, so that a number in them is never taken for a literal.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|(?P<name>[A-Za-z_]\w*)|(?P<number>(?:-\s*)?[0-9]+)')


class CannotTune(ValueError):
    """The message says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal of a policy: its value and where it stands in the policy's own text."""

    value: int
    start: int
    end: int


def find_literal(text: str, est: Est, attribute: str, parse: Callable[[str], Est]) -> Literal:
    """The literal that `attribute` is compared with in the policy of this text. Raises CannotTune unless there is exactly one.

    `parse` gives the JSON form of a policy's text; it raises ValueError for what is no policy.
    """
    found = comparisons(est, attribute)
    if len(found) != 1:
        raise CannotTune(
            f"the policy compares `{attribute}` with {len(found) or 'no'} whole numbers; a threshold to tune is exactly one, "
            f"such as `{attribute} > 100`"
        )
    path, value = found[0]
    # Any other value serves to see which token of the text the literal is.
    probe = value + 1 if value < 0 else value - 1 if value > 0 else 1
    wanted = replaced(est, path, probe)
    for start, end in _numbers(text):
        if int(re.sub(r"\s", "", text[start:end])) != value:
            continue
        try:
            if parse(f"{text[:start]}{probe}{text[end:]}") == wanted:
                return Literal(value, start, end)
        except ValueError:
            continue
    raise CannotTune(f"the threshold of `{attribute}` is not written as one number; write `{value}` where it stands")


def _numbers(text: str) -> Iterator[tuple[int, int]]:
    """The places of numbers, each with a minus before it taken as its sign and as an operator."""
    for match in _TOKENS.finditer(text):
        if (number := match.group("number")) is None:
            continue
        yield match.span()
        if number.startswith("-"):
            yield match.end() - len(number[1:].lstrip()), match.end()


def comparisons(est: Est, attribute: str) -> list[tuple[Path, int]]:
    """The whole numbers that `attribute` is compared with in a policy, and where they stand."""
    return list(_walk(est.get("conditions", []), ["conditions"], attribute))


def _walk(node: Any, path: Path, attribute: str) -> Iterator[tuple[Path, int]]:
    if isinstance(node, list):
        for index, item in enumerate(node):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _walk(item, [*path, index], attribute)
    elif isinstance(node, dict):
        for key, value in node.items():  # pyright: ignore[reportUnknownVariableType]
            name = str(key)  # pyright: ignore[reportUnknownArgumentType]
            if name in _COMPARISONS:
                yield from _compared(value, [*path, name], attribute)
            yield from _walk(value, [*path, name], attribute)


def _compared(sides: Any, path: Path, attribute: str) -> Iterator[tuple[Path, int]]:
    for one, other in (("left", "right"), ("right", "left")):
        literal = sides[other].get("Value")
        if path_of(sides[one]) == attribute and isinstance(literal, int) and not isinstance(literal, bool):
            yield [*path, other, "Value"], literal


def path_of(node: Est) -> str | None:
    """`context.amount` for the JSON form of it; None for anything but attributes of the request."""
    if "Var" in node:
        return node["Var"]
    if "." not in node:
        return None
    owner = path_of(node["."]["left"])
    return None if owner is None else f"{owner}.{node['.']['attr']}"


def replaced(est: Est, path: Path, value: int) -> Est:
    """A copy with `value` at a place that it has."""
    changed = copy.deepcopy(est)
    value_at(changed, path[:-1])[path[-1]] = value
    return changed


def value_at(est: Any, path: Path) -> Any:
    """What stands at a place; None where there is no such place."""
    for step in path:
        try:
            est = est[step]
        except (LookupError, TypeError):
            return None
    return est
