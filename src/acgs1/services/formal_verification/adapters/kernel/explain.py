"""Counterexamples in words."""

import re
from typing import Any

from acgs1.services.formal_verification.adapters.kernel.schema_view import entity_uid, split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

type Json = dict[str, Any]

_PATH = re.compile(r"\b(?:principal|resource|context)(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_MOST_FACTS = 6


def request_words(case: Case) -> str:
    """`Agent::"agent-1"` may `cancel` on `Reservation::"reservation-1"`, without the verb."""
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` … `{action}` on `{uid(case.resource)}`"


def uid(reference: Json) -> str:
    return entity_uid(reference["type"], reference["id"])


def can(case: Case) -> str:
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` can `{action}` `{uid(case.resource)}`"


def cannot(case: Case) -> str:
    _, action = split_uid(case.action)
    return f"`{uid(case.principal)}` cannot `{action}` `{uid(case.resource)}`"


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


def _lookup(case: Case, path: list[str]) -> str | None:
    by_uid = {(e["uid"]["type"], e["uid"]["id"]): e.get("attrs", {}) for e in case.entities}
    value: Any = case.context
    if path[0] != "context":
        root = case.principal if path[0] == "principal" else case.resource
        value = by_uid.get((root["type"], root["id"]))
    for name in path[1:]:
        if isinstance(value, dict) and "__entity" in value:
            reference: Json = value["__entity"]
            value = by_uid.get((reference["type"], reference["id"]))
        if not isinstance(value, dict):
            return None
        if name not in value:
            return "(absent)"
        value = value[name]  # pyright: ignore[reportUnknownVariableType]
    return _shown(value)


def _shown(value: Any) -> str | None:
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
        case _:
            return None
