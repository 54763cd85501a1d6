"""Requests that others reach in one step per tie, as ordinary conditions on one request.

Whether *some* request that a promise is about leads to *each* request of another is no question that a solver is asked well: it
holds an "every" and a "some". But a promise that a tie carries is mostly about constants (`context.m == 3`), so its condition with
such a constant in place of the attribute is a condition on the other request. What such conditions prove is so; what they do
not is left open.
"""

import json
from collections.abc import Iterator
from itertools import islice, product
from typing import Any, cast

from acgs1.services.formal_verification.adapters.kernel.cedar import CedarPolicy
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition, Target
from acgs1.services.formal_verification.adapters.kernel.forms import TRUE, Json, form_of, is_valid, text_of

_COMPARED = {"==", "!=", "<", "<=", ">", ">="}
_SETS = {"contains", "containsAll", "containsAny", "in"}
_MOST_CHOICES = 128
_LAST = 2**63 - 1


def reached(
    schema: str, composition: Composition, policies: list[CedarPolicy], raised: set[str], *, upwards: bool
) -> list[str]:
    """Permits about requests from which a step of each tie leads to a request that one of `policies` matches; those policies as
    they stand are not among them.

    `raised`: attributes of monotone ties alone. A step may raise them (`upwards`), or comes from where they are lower.
    """
    fresh = [target.fresh for target in composition.targets]
    if len(set(fresh)) < len(fresh):
        # Two ties about one attribute of two entities: which of them a constant stands for cannot be told by its name.
        return []
    found: list[str] = []
    for policy in policies:
        try:
            _, second = composition.texts(policy)
        except CannotCompose:
            continue
        form = form_of(second)
        for conditions in islice(_variants(form["conditions"], composition.targets, raised, upwards), _MOST_CHOICES):
            name = f"acgs:reached-{len(found)}"
            text = text_of({name: {**form, "annotations": {"id": name}, "conditions": conditions}})
            if is_valid(schema, text):
                found.append(text)
    return found


def _variants(
    conditions: list[Json], targets: tuple[Target, ...], raised: set[str], upwards: bool
) -> Iterator[list[Json]]:
    constants = [list(_constants(conditions, target)) for target in targets]
    for chosen in product(*([None, *values] for values in constants)):
        values = dict(zip(targets, chosen, strict=True))
        if not any(value is not None for value in values.values()):
            continue
        bounds = [
            {"kind": "when", "body": _ordered(target, value, upwards)}
            for target, value in values.items()
            if value is not None and target.name in raised
        ]
        by_name = {target.fresh: (target.attribute, value) for target, value in values.items()}
        yield [*bounds, *({**each, "body": _put(each["body"], by_name)} for each in conditions)]


def _constants(node: Any, target: Target) -> Iterator[Json]:
    """Values that the attribute is compared with, and for numbers those beside them."""
    found: dict[str, Json] = {}
    if target.type == "Boolean":
        return iter([{"Value": True}, {"Value": False}])
    for literal in _compared(node, target.fresh):
        value = literal["Value"]
        near = (value, value - 1, value + 1) if isinstance(value, int) and not isinstance(value, bool) else (value,)
        for each in near:
            if not isinstance(each, int) or abs(each) <= _LAST:
                found[json.dumps(each)] = {"Value": each}
    return iter(found.values())


def _compared(node: Any, fresh: str) -> Iterator[Json]:
    """The literals on the other side of operators that read `fresh`."""
    if isinstance(node, list):
        for each in cast("list[Any]", node):
            yield from _compared(each, fresh)
    if not isinstance(node, dict):
        return
    for operator, body in cast("Json", node).items():
        if operator in _COMPARED | _SETS:
            sides = (body["left"], body["right"])
            if any(isinstance(side.get("."), dict) and side["."]["attr"] == fresh for side in sides):
                for side in sides:
                    yield from (each for each in side.get("Set", [side]) if "Value" in each)
        yield from _compared(body, fresh)


def _put(node: Any, values: dict[str, tuple[str, Json | None]]) -> Any:
    """The expression with each fresh attribute replaced by its value, or by the attribute itself where there is none."""
    if isinstance(node, list):
        return [_put(each, values) for each in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    for operator in (".", "has"):
        access = cast("Json", node).get(operator)
        if isinstance(access, dict) and cast("Json", access).get("attr") in values:
            attribute, value = values[access["attr"]]
            if value is None:
                return {operator: {"left": _put(access["left"], values), "attr": attribute}}
            return value if operator == "." else TRUE
    return {name: _put(each, values) for name, each in cast("Json", node).items()}


def _ordered(target: Target, value: Json, upwards: bool) -> Json:
    """That a step between the request's own value and `value` rises."""
    record = target.record_expression
    own: Json = {".": {"left": record, "attr": target.attribute}}
    low, high = (own, value) if upwards else (value, own)
    ordered: Json = {"<=": {"left": low, "right": high}}
    if not target.required:
        ordered = {"&&": {"left": {"has": {"left": record, "attr": target.attribute}}, "right": ordered}}
    return ordered
