"""Policy sets cut to one request environment, and requests replayed in the evaluator."""

import json
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import acgs1_kernel as kernel

from acgs1.core.errors import ErrorItem
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView, entity_uid, split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

Json = dict[str, Any]
Environment = tuple[str, str, str]

RESERVED_PREFIXES = ("guard:", "acgs:")
"""Policy ids that begin so belong to the constitution's guards and to this service."""


@dataclass(frozen=True, slots=True)
class CedarPolicy:
    """One static policy: its id, and its text with that id in an annotation. `line` is where it begins."""

    id: str
    effect: Literal["permit", "forbid"]
    text: str
    hash: str
    line: int


class Slice:
    """The policies that can matter in one request environment; the others cannot."""

    def __init__(self, policies: list[CedarPolicy]) -> None:
        self.policies = policies

    @cached_property
    def text(self) -> str:
        return "\n".join(policy.text for policy in self.policies)

    @cached_property
    def hash(self) -> str:
        """Of the policies in their order; equal slices mean the same."""
        return text_hash("\n".join(policy.hash for policy in self.policies))

    def without(self, ids: list[str]) -> "Slice":
        return Slice([policy for policy in self.policies if policy.id not in ids])


class Scopes:
    """Which request environments a policy's scope admits, by entity type and action alone: what depends on the request is
    left to the evaluator, so cutting by scope never changes a decision."""

    def __init__(self, view: SchemaView, environments: list[Environment]) -> None:
        self._environments = environments
        self._ancestors = {action: view.action_ancestors(action) for _, action, _ in environments}
        self._known: dict[tuple[str, str, str], frozenset[Environment]] = {}

    def admitted(self, policy: kernel.PolicyInfo) -> frozenset[Environment]:
        scope = (policy.principal, policy.action, policy.resource)
        known = self._known.get(scope)
        if known is None:
            if len(self._known) > _KEPT_SCOPES:
                self._known.clear()
            known = frozenset(
                (principal, action, resource)
                for principal, action, resource in self._environments
                if _type_admits(scope[0], principal)
                and _action_admits(scope[1], action, self._ancestors[action])
                and _type_admits(scope[2], resource)
            )
            self._known[scope] = known
        return known


@dataclass(frozen=True, slots=True)
class Placed:
    """A policy, where its text ends, and what the kernel says of it (its own lines aside)."""

    policy: CedarPolicy
    end_line: int
    info: kernel.PolicyInfo

    def moved(self, lines: int) -> "Placed":
        if lines == 0:
            return self
        return Placed(replace(self.policy, line=self.policy.line + lines), self.end_line + lines, self.info)


# Larger texts are parsed whole, which says what their limit is.
_SPLICED_CHARACTERS: Final = 500_000


class Parser:
    """Parses texts of which each is mostly the one before: what both begin and end with is not parsed again.

    A text of policies means what its policies mean one after the other, and a policy with an `@id` means the same wherever it stands.
    So whole policies may be taken over as long as all have an `@id`, no two the same, and no line holds parts of two.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._parsed: list[Placed] = []

    def parse(self, text: str, source: str) -> list[Placed]:
        """Every policy. Raises acgs1_kernel.CedarParseError."""
        lines = text.split("\n")
        parsed = self._spliced(lines, source) if len(text) <= _SPLICED_CHARACTERS else None
        if parsed is None:
            parsed = _parsed(text, source)
        self._lines, self._parsed = lines, parsed
        return parsed

    def _spliced(self, lines: list[str], source: str) -> list[Placed] | None:
        """None where the text must be parsed whole; so must one with a fault, for the place of the fault."""
        old = self._lines
        most = min(len(old), len(lines))
        same = next((at for at in range(most) if old[at] != lines[at]), most)
        same_at_end = next((at for at in range(most - same) if old[-1 - at] != lines[-1 - at]), most - same)
        grown = len(lines) - len(old)
        before = [each for each in self._parsed if each.end_line <= same]
        after = [each for each in self._parsed if each.policy.line > len(old) - same_at_end]
        begin = before[-1].end_line if before else 0
        end = after[0].policy.line - 1 if after else len(old)
        # No policy may share a line with one that is taken over.
        if any(
            each.policy.line <= begin or each.end_line > end
            for each in self._parsed[len(before) : len(self._parsed) - len(after)]
        ):
            return None
        try:
            between = _parsed("\n".join(lines[begin : end + grown]), source)
        except kernel.CedarParseError:
            return None
        parsed = [*before, *(each.moved(begin) for each in between), *(each.moved(grown) for each in after)]
        if len({each.policy.id for each in parsed}) < len(parsed) or any(
            "id" not in each.info.annotations for each in parsed
        ):
            return None
        return parsed


def _parsed(text: str, source: str) -> list[Placed]:
    infos = kernel.parse_policies(text, source) if text.strip() else []
    return [Placed(_policy(info), info.end_line, info) for info in infos]


class PolicyTexts:
    """The policies of one text. Ids are those of the whole text, also where only a slice is looked at."""

    def __init__(self, text: str, source: str, scopes: Scopes, parser: Parser | None = None) -> None:
        """Raises acgs1_kernel.CedarParseError."""
        self.text = text
        self.policies: dict[str, CedarPolicy] = {}
        slices: dict[Environment, list[CedarPolicy]] = {}
        for placed in (parser or Parser()).parse(text, source):
            policy = placed.policy
            self.policies[policy.id] = policy
            for environment in scopes.admitted(placed.info):
                slices.setdefault(environment, []).append(policy)
        self._slices = {environment: Slice(policies) for environment, policies in slices.items()}

    def in_environment(self, environment: Environment) -> Slice:
        return self._slices.get(environment) or Slice([])


def _policy(info: kernel.PolicyInfo) -> CedarPolicy:
    text = info.text.strip()
    if not text.endswith(";"):
        text += ";"
    if "id" not in info.annotations:
        text = f"@id({json.dumps(info.id)})\n{text}"
    return CedarPolicy(info.id, "permit" if info.effect == "permit" else "forbid", text, text_hash(text), info.line)


_TYPE_SCOPE = re.compile(r'(?:principal|resource) (?:is (?P<is>[\w:]+)|== (?P<eq>\w+(?:::\w+)*)::")')
_ACTION = re.compile(r'(?:\w+::)*Action::"(?:[^"\\]|\\.)*"')
_KEPT_SCOPES = 50_000


def _type_admits(scope: str, type_name: str) -> bool:
    match = _TYPE_SCOPE.match(scope)
    return match is None or (match["is"] or match["eq"]) == type_name


def _action_admits(scope: str, action: str, ancestors: frozenset[str]) -> bool:
    _, _, constraint = scope.partition(" ")
    if not constraint:
        return True
    named = {entity_uid(*split_uid(uid)) for uid in _ACTION.findall(constraint)}
    if constraint.startswith("=="):
        return entity_uid(*split_uid(action)) in named
    return bool(named & ancestors)


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


_INSTEAD = {
    "empty set literals are forbidden": "ask for `isEmpty()` of the set, or name the elements it may have",
    "is not a valid function": "the functions are `ip`, `decimal`, `datetime`, `duration`, and methods such as `isInRange`",
}
"""What to write instead, where Cedar does not say so itself."""


def _instead(message: str) -> str | None:
    return next((words for part, words in _INSTEAD.items() if part in message), None)


def items_of(
    error: kernel.CedarParseError | kernel.CedarValidationError, pointer: str, first_line: int = 1
) -> tuple[ErrorItem, ...]:
    """The kernel's diagnostics as error items; `first_line` is the line of the text that the caller's line 1 stands on."""
    return tuple(
        ErrorItem(
            detail="; ".join(part for part in (d.message, d.help or _instead(d.message)) if part),
            pointer=pointer,
            line=max(1, d.line - first_line + 1),
            column=d.column,
        )
        for d in error.diagnostics
    )
