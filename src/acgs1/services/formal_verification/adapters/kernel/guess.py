"""Requests made to meet a condition, without a solver: the plainest one of the environment, changed atom by atom.

A guess proves nothing. It is worth making because most refutations are plain: the evaluator confirms one in a fraction of the time
that a solver takes to find it. What is not understood here, or contradicts itself, is no guess, and the solver is asked.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any, cast

from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.forms import Json, form_of
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

_NEGATED = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}
_LONG_LIMIT = 2**63 - 1
_DEEPEST = 3
_PLAIN = {
    "Boolean": False,
    "Long": 0,
    "String": "",
}
_EXTENSIONS = {"datetime": "1970-01-01", "duration": "0ms", "decimal": "0.0", "ipaddr": "10.0.0.1"}


class _NoGuess(Exception):
    """The condition, or the schema, is beyond what is understood here."""


def conditions_of(policy: str) -> tuple[tuple[Json, bool], ...]:
    """The conditions of the one policy in the text, in Cedar's JSON form, each with the value at which the policy applies."""
    return tuple((condition["body"], condition["kind"] == "when") for condition in form_of(policy)["conditions"])


def guess(view: SchemaView, environment: Environment, wanted: Sequence[tuple[Json, bool]]) -> Case | None:
    """A request at which the conditions have the wanted values, as far as can be told here; None where none was found."""
    try:
        request = _Request(view, environment)
        for expression, value in wanted:
            request.make(expression, value)
        # A later atom may have undone an earlier one.
        if all(request.value(expression) is value for expression, value in wanted):
            return request.case
    except (_NoGuess, KeyError, TypeError, RecursionError):
        pass
    return None


class _Request:
    def __init__(self, view: SchemaView, environment: Environment) -> None:
        self._view = view
        principal, action, resource = environment
        self.case = Case(self._entity(principal), action, self._entity(resource), {}, [])
        self._shapes: dict[str, Json] = {}
        self._stored: dict[tuple[str, str], Json] = {}
        self._store(self.case.principal)
        self._store(self.case.resource)
        self.case.context = self._record(view.action_context(action), 0)

    # --- the plainest request ---

    def _entity(self, type_name: str, number: int = 1) -> Json:
        stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type_name.rpartition("::")[2]).lower()
        return {"type": type_name, "id": f"{stem}-{number}"}

    def _store(self, uid: Json, depth: int = 0) -> Json:
        """The entity in the store, put there where it is not yet."""
        key = uid["type"], uid["id"]
        entity = self._stored.get(key)
        if entity is None:
            shape = self._view.entity_shape(uid["type"])
            entity = self._stored[key] = {"uid": uid, "attrs": {}, "parents": []}
            self.case.entities.append(entity)
            entity["attrs"].update(self._record(shape, depth))
        return entity

    def _record(self, shape: Json, depth: int) -> Json:
        return {
            name: self._plain(kind, depth) for name, kind in shape["attributes"].items() if kind.get("required", True)
        }

    def _plain(self, kind: Json, depth: int) -> Any:
        match kind:
            case {"type": "Set"}:
                return []
            case {"type": "Record"}:
                return self._record(kind, depth)
            case {"type": "Entity", "name": str(name)}:
                if depth > _DEEPEST:
                    raise _NoGuess
                uid = self._entity(name)
                self._store(uid, depth + 1)
                return {"__entity": uid}
            case {"type": "Extension", "name": str(name)}:
                return {"__extn": {"fn": "ip" if name == "ipaddr" else name, "arg": _EXTENSIONS[name]}}
            case _:
                return _PLAIN[kind["type"]]

    # --- values ---

    def value(self, expression: Json) -> Any:  # noqa: PLR0911, PLR0912 - one case per kind of expression
        """The value of an expression at the request as it is; raises _NoGuess for what is not understood."""
        ((operator, arguments),) = expression.items()
        match operator:
            case "Value":
                return arguments
            case "Set":
                return [self.value(item) for item in arguments]
            case "Var":
                return (
                    {"__entity": self._uid(arguments)} if arguments in {"principal", "resource"} else self.case.context
                )
            case "neg":
                return -self.value(arguments["arg"])
            case ".":
                return self._fields(self.value(arguments["left"]))[arguments["attr"]]
            case "has":
                return arguments["attr"] in self._fields(self.value(arguments["left"]))
            case "!":
                return not self.value(arguments["arg"])
            case "&&":
                return self.value(arguments["left"]) and self.value(arguments["right"])
            case "||":
                return self.value(arguments["left"]) or self.value(arguments["right"])
            case "is":
                kind: str = self.value(arguments["left"])["__entity"]["type"]
                return kind == arguments["entity_type"] and "in" not in arguments
            case "isEmpty":
                return not self.value(arguments["arg"])
            case "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "containsAll" | "containsAny":
                return self._compared(operator, self.value(arguments["left"]), self.value(arguments["right"]))
            case _:
                raise _NoGuess

    def _compared(self, operator: str, left: Any, right: Any) -> bool:
        match operator:
            case "==":
                return type(left) is type(right) and left == right
            case "!=":
                return not self._compared("==", left, right)
            case "contains":
                return right in left
            case "containsAll":
                return all(item in left for item in right)
            case "containsAny":
                return any(item in left for item in right)
            case _:
                if type(left) is not int or type(right) is not int:
                    raise _NoGuess
                return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]

    def _uid(self, variable: str) -> Json:
        return self.case.principal if variable == "principal" else self.case.resource

    def _fields(self, value: Any) -> Json:
        if not isinstance(value, dict):
            raise _NoGuess
        known = cast("Json", value)
        return self._store(known["__entity"])["attrs"] if "__entity" in known else known

    # --- making conditions true or false ---

    def make(self, expression: Json, wanted: bool) -> None:
        """Change the request so that the expression gets the wanted value, if it is a plain one."""
        ((operator, arguments),) = expression.items()
        match operator:
            case "!":
                self.make(arguments["arg"], not wanted)
            case "&&" | "||":
                # What must hold of both, or of one alone: then of the one that holds already, else of the first.
                if wanted is (operator == "&&"):
                    self.make(arguments["left"], wanted)
                    self.make(arguments["right"], wanted)
                elif self.value(expression) is not wanted:
                    self.make(arguments["left"], wanted)
            case ".":
                self._set(expression, wanted)
            case "has":
                self._make_present(arguments, wanted)
            case "isEmpty":
                if self.value(expression) is not wanted:
                    raise _NoGuess
            case "contains" | "containsAll" | "containsAny":
                self._make_contain(operator, arguments, wanted)
            case "==" | "!=" | "<" | "<=" | ">" | ">=":
                self._make_compare(operator if wanted else _NEGATED[operator], arguments["left"], arguments["right"])
            case _:
                if self.value(expression) is not wanted:
                    raise _NoGuess

    def _set(self, expression: Json, value: Any) -> None:
        if "." not in expression:
            raise _NoGuess
        target = expression["."]
        fields = self._fields(self.value(target["left"]))
        if target["attr"] not in fields:
            raise _NoGuess
        fields[target["attr"]] = copy.deepcopy(value)

    def _make_present(self, arguments: Json, wanted: bool) -> None:
        owner = self.value(arguments["left"])
        fields, name = self._fields(owner), arguments["attr"]
        if wanted and name not in fields:
            if "__entity" in owner:
                shape = self._view.entity_shape(owner["__entity"]["type"])
            elif arguments["left"] == {"Var": "context"}:
                shape = self._view.action_context(self.case.action)
            else:
                raise _NoGuess
            fields[name] = self._plain(shape["attributes"][name], 0)
        elif not wanted:
            fields.pop(name, None)

    def _make_contain(self, operator: str, arguments: Json, wanted: bool) -> None:
        left, right = self.value(arguments["left"]), self.value(arguments["right"])
        items: list[Any] = [right] if operator == "contains" else right
        if not items or self._compared(operator, left, right) is wanted:
            return
        if not wanted:
            kept = [item for item in left if item not in items]
        else:
            new = items[:1] if operator == "containsAny" else items
            kept = [*left, *(item for item in new if item not in left)]
        self._set(arguments["left"], kept)

    def _make_compare(self, operator: str, left: Json, right: Json) -> None:
        one, two = self.value(left), self.value(right)
        if self._compared(operator, one, two):
            return
        if "." in left:
            self._set(left, _related(operator, two))
        else:
            self._set(right, _related(_MIRRORED[operator], one))


def _related(operator: str, value: Any) -> Any:
    """The plainest value that stands in this relation to `value`."""
    match operator, value:
        case "==", _:
            return value
        case "!=", bool():
            return not value
        case "!=", str():
            return f"{value}x"
        case _, int() if abs(value) < _LONG_LIMIT:
            return value + {"<": -1, ">": 1, "!=": 1}.get(operator, 0)
        case _:
            raise _NoGuess
