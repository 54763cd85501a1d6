"""Policy sets cut to one request environment, and requests replayed in the evaluator."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.core.errors import ErrorItem
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView, entity_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

Json = dict[str, Any]
Environment = tuple[str, str, str]

RESERVED_PREFIXES = ("guard:", "acgs:")
"""Policy ids that begin so belong to the constitution's guards and to this service."""


@dataclass(frozen=True, slots=True)
class CedarPolicy:
    """One static policy: its id, its text with that id in an annotation, and its Cedar EST JSON."""

    id: str
    effect: Literal["permit", "forbid"]
    text: str
    est: Json
    line: int


class PolicyTexts:
    """The policies of one text. Ids are those of the whole text, also where only a slice is looked at."""

    def __init__(self, text: str, source: str, view: SchemaView) -> None:
        """Raises acgs1_kernel.CedarParseError."""
        self.text = text
        self._view = view
        self.policies: dict[str, CedarPolicy] = {}
        if not text.strip():
            return
        ests: Json = json.loads(kernel.policies_to_json(text))["staticPolicies"]
        for info in kernel.parse_policies(text, source):
            own = info.text.strip()
            if not own.endswith(";"):
                own += ";"
            if "id" not in info.annotations:
                own = f"@id({json.dumps(info.id)})\n{own}"
            effect = "permit" if info.effect == "permit" else "forbid"
            self.policies[info.id] = CedarPolicy(info.id, effect, own, ests[info.id], info.line)

    def in_environment(self, environment: Environment) -> list[CedarPolicy]:
        """Those whose scope can match in `environment`; the others cannot matter there."""
        principal, action, resource = environment
        actions = self._view.action_ancestors(action)
        return [
            policy
            for policy in self.policies.values()
            if _type_admits(policy.est["principal"], principal)
            and _action_admits(policy.est["action"], action, actions)
            and _type_admits(policy.est["resource"], resource)
        ]


def joined(policies: list[CedarPolicy]) -> str:
    """The policies as one text."""
    return "\n".join(policy.text for policy in policies)


def _type_admits(constraint: Json, type_name: str) -> bool:
    match constraint["op"]:
        case "==":
            return constraint["entity"]["type"] == type_name
        case "is":
            return constraint["entity_type"] == type_name
        case _:
            return True


def _action_admits(constraint: Json, action: str, ancestors: frozenset[str]) -> bool:
    match constraint["op"]:
        case "==":
            return _uid(constraint["entity"]) == action
        case "in":
            named = constraint.get("entities") or [constraint["entity"]]
            return any(_uid(entity) in ancestors for entity in named)
        case _:
            return True


def _uid(entity: Json) -> str:
    return entity_uid(entity["type"], entity["id"])


class Evaluator:
    """The evaluator that the decision point uses, for replays. Engines are kept per policy text, the last few."""

    def __init__(self, schema: str, keep: int = 16) -> None:
        self._schema = schema
        self._keep = keep
        self._engines: OrderedDict[tuple[str, str], kernel.Engine] = OrderedDict()

    def decide(self, policies: str, guards: str, case: Case) -> kernel.Decision | None:
        """The decision on `case`; None where it is no request or no entities of the schema."""
        engine = self._engine(policies, guards)
        principal = (case.principal["type"], case.principal["id"])
        resource = (case.resource["type"], case.resource["id"])
        try:
            return engine.authorize(principal, case.action, resource, case.context, case.entities)
        except (kernel.RequestError, kernel.EntityError):
            return None

    def _engine(self, policies: str, guards: str) -> kernel.Engine:
        key = (policies, guards)
        engine = self._engines.get(key)
        if engine is None:
            engine = kernel.Engine(self._schema, policies, guards)
            self._engines[key] = engine
            if len(self._engines) > self._keep:
                self._engines.popitem(last=False)
        self._engines.move_to_end(key)
        return engine


def items_of(
    error: kernel.CedarParseError | kernel.CedarValidationError, pointer: str, first_line: int = 1
) -> tuple[ErrorItem, ...]:
    """The kernel's diagnostics as error items; `first_line` is the line of the text that the caller's line 1 stands on."""
    return tuple(
        ErrorItem(
            detail=f"{d.message}; {d.help}" if d.help else d.message,
            pointer=pointer,
            line=max(1, d.line - first_line + 1),
            column=d.column,
        )
        for d in error.diagnostics
    )
