"""Self-composition: two runs of one policy set side by side, as one ordinary Cedar question.

A property of two requests that differ in one attribute (fairness, monotonicity) becomes a property of one request: the
schema gets a fresh copy of the attribute, and a copy of the policies reads the copy instead. The two sets are then
compared as usual. (Barthe, D'Argenio, Rezk: Secure Information Flow by Self-Composition, 2004.)

The rewrite follows types, not names. An attribute of an entity may be read through any expression that might denote the
same entity (`resource.owner.age` where the owner is the principal), so such a read becomes a choice on identity. Where a
sound rewrite cannot be written down, `CannotCompose` says why; the obligation is then `unknown`.
"""

import copy
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import acgs1_kernel as kernel

from acgs1.services.formal_verification.adapters.kernel.cedar import CedarPolicy
from acgs1.services.formal_verification.adapters.kernel.forms import TRUE, Json, conjunction, form_of, text_of
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView, split_uid

Root = Literal["principal", "resource", "context"]

LOW_TO_HIGH = "acgs:low-to-high"
_KEPT_TEXTS = 20_000
_OTHER: Json = {"type": "Other"}


class CannotCompose(Exception):
    """No sound rewrite is known for this policy set and attribute; the message is the reason."""


class NoSuchAttribute(Exception):
    """The path names no attribute in this request environment."""


@dataclass(frozen=True, slots=True)
class Target:
    """One attribute that may differ between the two runs.

    It is the field `attribute` of the record at `record_path` inside what `base` denotes: the context (`base_type` None) or
    an entity of type `base_type`, reached by `base_path` from the variable `root`.
    """

    root: Root
    base_path: tuple[str, ...]
    base_type: str | None
    record_path: tuple[str, ...]
    attribute: str
    fresh: str
    type: str
    required: bool

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.record_path, self.attribute)

    @property
    def name(self) -> str:
        """The attribute as invariants name it."""
        return ".".join((self.root, *self.base_path, *self.path))

    @property
    def base_expression(self) -> Json:
        expression: Json = {"Var": self.root}
        for name in self.base_path:
            expression = {".": {"left": expression, "attr": name}}
        return expression

    @property
    def record_expression(self) -> Json:
        """The record that holds the attribute."""
        expression = self.base_expression
        for name in self.record_path:
            expression = {".": {"left": expression, "attr": name}}
        return expression


class Composition:
    """The two-run form of one request environment for a set of attributes."""

    def __init__(self, view: SchemaView, environment: tuple[str, str, str], attributes: tuple[str, ...]) -> None:
        """Raises NoSuchAttribute where a path does not exist in `environment`, CannotCompose where it cannot be varied."""
        self._view = view
        self._principal, self._action, self._resource = environment
        self._context = view.action_context(self._action)
        self.targets = tuple(self._target(path) for path in attributes)
        self._check_bases()
        self._texts: dict[str, tuple[str, str]] = {}
        self._reads: dict[str, bool] = {}

    def _target(self, path: str) -> Target:
        # INVARIANT: `AttributePath` admits these three roots alone.
        root = cast("Root", path.partition(".")[0])
        names = path.split(".")[1:]
        base_path: list[str] = []
        record_path: list[str] = []
        base_type = None if root == "context" else self._principal if root == "principal" else self._resource
        record = self._context if base_type is None else self._view.entity_shape(base_type)
        for name in names[:-1]:
            field = _field(record, name, path)
            if not field["required"]:
                raise CannotCompose(f"`{path}` passes through the optional attribute `{name}`; name a required one")
            record_path.append(name)
            if field["type"] == "Entity":
                base_path += record_path
                record_path = []
                base_type = cast("str", field["name"])
                record = self._view.entity_shape(base_type)
            elif field["type"] == "Record":
                record = field
            else:
                raise NoSuchAttribute(f"`{path}`: `{name}` is a {field['type']}, which has no attributes")
        field = _field(record, names[-1], path)
        fresh = f"{names[-1]}__other"
        while fresh in record["attributes"]:
            fresh += "_"
        return Target(
            root=root,
            base_path=tuple(base_path),
            base_type=base_type,
            record_path=tuple(record_path),
            attribute=names[-1],
            fresh=fresh,
            type=field["type"],
            required=field["required"],
        )

    def _check_bases(self) -> None:
        """INVARIANT: what a base denotes is the same in both runs, so no base may be reached through a target."""
        for target in self.targets:
            walked: list[str] = []
            for name in target.base_path:
                walked.append(name)
                for other in self.targets:
                    if other.root == target.root and (*other.base_path, *other.path) == tuple(walked):
                        shown = ".".join((other.root, *walked))
                        raise CannotCompose(
                            f"`{shown}` may itself differ, so what hangs on it cannot be varied as well"
                        )
        for one in self.targets:
            for two in self.targets:
                if one is two or one.base_type != two.base_type or one.path != two.path[: len(one.path)]:
                    continue
                same_base = (one.root, one.base_path) == (two.root, two.base_path)
                if same_base or len(one.path) < len(two.path):
                    raise CannotCompose(f"`{'.'.join(two.path)}` is inside or the same as another that varies")

    @cached_property
    def schema(self) -> str:
        """The schema with the fresh attributes, as Cedar text."""
        schema = self._view.to_json()
        for target in self.targets:
            if target.base_type is None:
                record = self._view.action_context(self._action, schema)
            else:
                record = self._view.entity_shape(target.base_type, schema)
            for name in target.record_path:
                record = record["attributes"][name]
            record["attributes"][target.fresh] = copy.deepcopy(record["attributes"][target.attribute])
        return kernel.schema_from_json(json.dumps(schema))

    # --- policies ------------------------------------------------------------------------------------------------

    def texts(self, policy: CedarPolicy) -> tuple[str, str]:
        """The policy as Cedar text in the first and in the second run, both with the scope narrowed to this environment.

        Equal texts: the policy does not read the attributes. Raises CannotCompose.
        """
        known = self._texts.get(policy.hash)
        if known is None:
            first, second = self._rewritten(policy)
            text = text_of({policy.id: first})
            if len(self._texts) > _KEPT_TEXTS:
                self._texts.clear()
            known = self._texts[policy.hash] = (text, text if second == first else text_of({policy.id: second}))
        return known

    def reads(self, policy: CedarPolicy) -> bool:
        """Whether the policy reads the attributes. Raises CannotCompose."""
        known = self._reads.get(policy.hash)
        if known is None:
            first, second = self._rewritten(policy)
            if len(self._reads) > _KEPT_TEXTS:
                self._reads.clear()
            known = self._reads[policy.hash] = first != second
        return known

    def _rewritten(self, policy: CedarPolicy) -> tuple[Json, Json]:
        """The policy in the first and in the second run, in Cedar's JSON form."""
        first = self._pin(form_of(policy.text))
        try:
            conditions = [{**c, "body": self._rewrite(c["body"])} for c in first["conditions"]]
        except CannotCompose as error:
            raise CannotCompose(f"policy `{policy.id}`: {error}") from None
        return first, {**first, "conditions": conditions}

    @cached_property
    def low_to_high(self) -> str:
        """A `forbid` of all but requests whose (only) attribute is no greater in the first run than in the second.

        Put beside the first run, it bounds the question to such pairs.
        """
        (target,) = self.targets
        record = target.record_expression
        low, high = ({".": {"left": record, "attr": name}} for name in (target.attribute, target.fresh))
        ordered: Json = {"<=": {"left": low, "right": high}}
        if not target.required:
            for name in (target.fresh, target.attribute):
                ordered = {"&&": {"left": {"has": {"left": record, "attr": name}}, "right": ordered}}
        return self._forbid_unless(ordered)

    def unless_raised(self, paths: Collection[str]) -> str:
        """A `forbid` of all but requests in which each of the attributes `paths` is raised or unchanged in the second run.

        Put beside the first run, it bounds the question to such pairs; the other attributes may differ as they like.
        """
        bounds: list[Json] = []
        for target in self.targets:
            if target.name not in paths:
                continue
            record = target.record_expression
            low, high = ({".": {"left": record, "attr": name}} for name in (target.attribute, target.fresh))
            bounds.append({"<=": {"left": low, "right": high}})
            if not target.required:
                has, has_other = ({"has": {"left": record, "attr": name}} for name in (target.attribute, target.fresh))
                both: Json = {"&&": {"left": has, "right": {"&&": {"left": has_other, "right": bounds.pop()}}}}
                none: Json = {"!": {"arg": {"||": {"left": has, "right": has_other}}}}
                bounds.append({"||": {"left": none, "right": both}})
        return self._forbid_unless(conjunction([TRUE, *bounds]))

    def _forbid_unless(self, body: Json) -> str:
        policy: Json = {
            "effect": "forbid",
            "principal": {"op": "All"},
            "action": {"op": "All"},
            "resource": {"op": "All"},
            "conditions": [{"kind": "unless", "body": body}],
        }
        return text_of({LOW_TO_HIGH: self._pin(policy)})

    def _pin(self, policy: Json) -> Json:
        """The policy's scope narrowed to this environment, which it already admits.

        Policies are then checked against the one context whose type was extended.
        """
        kind, name = split_uid(self._action)
        return {
            **policy,
            "action": {"op": "==", "entity": {"type": kind, "id": name}},
            "principal": _pin_entity(policy["principal"], self._principal),
            "resource": _pin_entity(policy["resource"], self._resource),
        }

    def _rewrite(self, node: Json) -> Json:  # noqa: PLR0911 - one return per kind of expression
        ((operator, body),) = node.items()
        match operator:
            case "Value" | "Slot":
                return node
            case "Var":
                if body == "context" and any(t.base_type is None for t in self.targets):
                    raise CannotCompose("the context is used as a whole; compare its attributes one by one")
                return node
            case "." | "has":
                return self._rewrite_access(node)
            case "Record":
                return {operator: {name: self._rewrite(value) for name, value in body.items()}}
            case "is":
                # The optional `in` part of `is ... in` is an expression as well.
                rewritten = {**body, "left": self._rewrite(body["left"])}
                if "in" in body:
                    rewritten["in"] = self._rewrite(body["in"])
                return {operator: rewritten}
            case "like":
                return {operator: {**body, "left": self._rewrite(body["left"])}}
            case _ if isinstance(body, list):
                return {operator: [self._rewrite(item) for item in cast("list[Json]", body)]}
            case "!" | "neg" | "isEmpty" | "if-then-else" | "getTag" | "hasTag":
                return {operator: {name: self._rewrite(value) for name, value in body.items()}}
            case _ if isinstance(body, dict) and set(cast("Json", body)) == {"left", "right"}:
                return {operator: {side: self._rewrite(cast("Json", body[side])) for side in ("left", "right")}}
            case _:
                raise CannotCompose(f"the operator `{operator}` is not known here")

    def _rewrite_access(self, node: Json) -> Json:
        """One maximal chain of attribute reads `root.a.b` (or `root.a has b`) whose root is an entity or the context."""
        ((operator, _),) = node.items()
        root, names = self._chain(node)
        root_type = self._type(root)
        is_context = root == {"Var": "context"}
        new_root = root if is_context else self._rewrite(root)
        matching: list[tuple[Target, int]] = []
        for target in self.targets:
            if target.base_type is None:
                if not is_context:
                    continue
            elif root_type is None or root_type.get("name") != target.base_type or root_type["type"] != "Entity":
                continue
            length = len(target.path)
            if tuple(names[:length]) == target.path:
                matching.append((target, length - 1))
            elif operator == "." and tuple(names) == target.path[: len(names)]:
                shown = ".".join(names)
                raise CannotCompose(f"the record `{shown}` is used as a whole; compare its attributes one by one")
        unchanged = _access(new_root, names, operator)
        if not matching:
            return unchanged
        # Targets of one type and path share one fresh attribute; they differ in which entity they are about.
        target, position = matching[0]
        varied = _access(new_root, [*names[:position], target.fresh, *names[position + 1 :]], operator)
        if is_context or any(root == t.base_expression for t, _ in matching):
            return varied
        if not target.required:
            raise CannotCompose(
                f"the optional attribute `{target.attribute}` of `{target.base_type}` is also read through another "
                "expression than the one that varies"
            )
        for other, _ in matching:
            same = {"==": {"left": new_root, "right": other.base_expression}}
            unchanged = {"if-then-else": {"if": same, "then": varied, "else": unchanged}}
        return unchanged

    def _chain(self, node: Json) -> tuple[Json, list[str]]:
        ((_, body),) = node.items()
        names: list[str] = [body["attr"]]
        root: Json = body["left"]
        while "." in root:
            root_type = self._type(root)
            if root_type is not None and root_type["type"] == "Entity":
                break
            names.insert(0, root["."]["attr"])
            root = root["."]["left"]
        return root, names

    def _type(self, node: Json) -> Json | None:  # noqa: PLR0911 - one return per kind of expression
        """The type of an expression in this environment; None inside code that the environment's types make unreachable."""
        ((operator, body),) = node.items()
        match operator:
            case "Var":
                if body == "context":
                    return self._context
                if body == "action":
                    return _OTHER
                return {"type": "Entity", "name": self._principal if body == "principal" else self._resource}
            case "Value":
                if isinstance(body, dict) and "__entity" in body:
                    return {"type": "Entity", "name": cast("Json", body)["__entity"]["type"]}
                return _OTHER
            case ".":
                left = self._type(body["left"])
                if left is None:
                    return None
                record = self._view.entity_shape(left["name"]) if left["type"] == "Entity" else left
                return record.get("attributes", {}).get(body["attr"])
            case "getTag":
                left = self._type(body["left"])
                return self._view.entity_tags(left["name"]) if left is not None and left["type"] == "Entity" else None
            case "if-then-else":
                return self._type(body["then"]) or self._type(body["else"])
            case "Record":
                return {
                    "type": "Record",
                    "attributes": {name: self._type(value) for name, value in body.items()},
                }
            case _:
                return _OTHER

    # --- models --------------------------------------------------------------------------------------------------

    def split(
        self, principal: Json, resource: Json, context: Json, entities: list[Json]
    ) -> tuple[tuple[Json, list[Json]], tuple[Json, list[Json]]]:
        """A model of the two-run form as two ordinary requests' (context, entities).

        `principal` and `resource` are `{"type", "id"}`. Raises KeyError where the model lacks an entity that it needs.
        """
        first_context, first_entities = copy.deepcopy(context), copy.deepcopy(entities)
        second_context, second_entities = copy.deepcopy(context), copy.deepcopy(entities)
        roots = {"principal": principal, "resource": resource}
        for target in self.targets:
            record = self._locate(target, roots, second_context, second_entities)
            if target.fresh in record:
                record[target.attribute] = record[target.fresh]
            else:
                record.pop(target.attribute, None)
        for target in self.targets:
            for each_context, each_entities in (
                (first_context, first_entities),
                (second_context, second_entities),
            ):
                records = (
                    [each_context]
                    if target.base_type is None
                    else [e["attrs"] for e in each_entities if e["uid"]["type"] == target.base_type]
                )
                for record in records:
                    _descend(record, target.record_path).pop(target.fresh, None)
        return (first_context, first_entities), (second_context, second_entities)

    def _locate(self, target: Target, roots: dict[str, Json], context: Json, entities: list[Json]) -> Json:
        by_uid = {(e["uid"]["type"], e["uid"]["id"]): e["attrs"] for e in entities}

        def attributes_of(reference: Json) -> Json:
            reference = reference.get("__entity", reference)
            return by_uid[reference["type"], reference["id"]]

        value: Json = context if target.root == "context" else attributes_of(roots[target.root])
        for name in target.base_path:
            value = value[name]
            if "__entity" in value:
                value = attributes_of(value)
        return _descend(value, target.record_path)


def _descend(record: Json, path: tuple[str, ...]) -> Json:
    for name in path:
        record = record[name]
    return record


def _field(record: Json, name: str, path: str) -> Json:
    field = record.get("attributes", {}).get(name)
    if field is None:
        raise NoSuchAttribute(f"`{path}`: there is no attribute `{name}`")
    return field


def _access(root: Json, names: list[str], last: str) -> Json:
    for name in names[:-1]:
        root = {".": {"left": root, "attr": name}}
    return {last: {"left": root, "attr": names[-1]}}


def _pin_entity(constraint: Json, type_name: str) -> Json:
    match constraint["op"]:
        case "All":
            return {"op": "is", "entity_type": type_name}
        case "in":
            return {"op": "is", "entity_type": type_name, "in": {"entity": constraint["entity"]}}
        case _:
            return constraint
