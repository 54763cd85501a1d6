"""Counterexamples in words."""

import re
from typing import Any, cast

from acgs1.services.formal_verification.adapters.kernel.schema_view import entity_uid, split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

Json = dict[str, Any]

_PATH = re.compile(r"\b(?:principal|resource|context)(?:\.[A-Za-z_][A-Za-z0-9_]*\b(?!\())+")
_MOST_FACTS = 6


def uid(reference: Json) -> str:
    return entity_uid(reference["type"], reference["id"])


def can(case: Case) -> str:
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` can `{action}` `{uid(case.resource)}`"


def cannot(case: Case) -> str:
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` cannot `{action}` `{uid(case.resource)}`"


def asks(case: Case) -> str:
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` asks for `{action}` on `{uid(case.resource)}`"


def policies_words(ids: list[str], none: str) -> str:
    if not ids:
        return none
    shown = ", ".join(f"`{i}`" for i in ids)
    return f"policy {shown}" if len(ids) == 1 else f"policies {shown}"


def facts(case: Case, *texts: str) -> str:
    """` with context.amount = 501, resource.flown = true`: the values of the attributes that the texts read."""
    found: dict[str, str] = {}
    for text in texts:
        for path in _PATH.findall(text):
            if path not in found and (value := _lookup(case, path.split("."))) is not None:
                found[path] = value
    shown = [f"{path} = {value}" for path, value in list(found.items())[:_MOST_FACTS]]
    return f" with {', '.join(shown)}" if shown else ""


def value_at(case: Case, path: str) -> Any:
    """The value of an attribute such as `context.amount`; None where the request has none."""
    found, value = _find(case, path.split("."))
    return value if found else None


def _lookup(case: Case, path: list[str]) -> str | None:
    found, value = _find(case, path)
    return _shown(value) if found else "(absent)"


def _find(case: Case, path: list[str]) -> tuple[bool, Any]:
    by_uid = {(e["uid"]["type"], e["uid"]["id"]): e.get("attrs", {}) for e in case.entities}
    value: Any = case.context
    if path[0] != "context":
        root = case.principal if path[0] == "principal" else case.resource
        value = by_uid.get((root["type"], root["id"]))
    for name in path[1:]:
        if isinstance(value, dict) and "__entity" in value:
            reference = cast("Json", value["__entity"])
            value = by_uid.get((reference["type"], reference["id"]))
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]  # pyright: ignore[reportUnknownVariableType]
    return True, value  # pyright: ignore[reportUnknownVariableType]


def _shown(value: Any) -> str | None:  # noqa: PLR0911 - one return per kind of value
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return f'"{value}"'
        case {"__entity": reference}:
            return uid(reference)
        case {"__extn": {"fn": name, "arg": argument}}:
            return f'{name}("{argument}")'
        case list():
            return f"[{', '.join(_shown(item) or '…' for item in value)}]"  # pyright: ignore[reportUnknownVariableType]
        case dict():
            members = cast("Json", value)
            return "{" + ", ".join(f"{name}: {_shown(item) or '…'}" for name, item in members.items()) + "}"
        case _:
            return None
