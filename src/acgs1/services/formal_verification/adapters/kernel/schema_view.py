"""A Cedar schema in its JSON form with every type resolved, so that attributes can be looked up and added.

Source: the Cedar JSON schema format (docs.cedarpolicy.com/schema/json-schema.html). A type name that stands for either a
common type or an entity type (`EntityOrCommon`) is resolved as Cedar does: the namespace it stands in before the empty
one; common types before entity types before built-in types.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_PRIMITIVES = {"Long": "Long", "String": "String", "Bool": "Boolean", "Boolean": "Boolean"}
_EXTENSIONS = frozenset({"ipaddr", "decimal", "datetime", "duration"})


class SchemaError(ValueError):
    """The schema names a type that it does not define."""


class SchemaView:
    """Lookup in a resolved schema. Entity types and actions go by their full names (`Shop::Agent`, `Shop::Action`)."""

    def __init__(self, schema_json: str) -> None:
        raw: Json = json.loads(schema_json)
        self._commons: dict[str, tuple[str, Json]] = {}
        self._entity_names: set[str] = set()
        for namespace, body in raw.items():
            for name, definition in body.get("commonTypes", {}).items():
                self._commons[_qualified(namespace, name)] = (namespace, definition)
            self._entity_names.update(_qualified(namespace, name) for name in body.get("entityTypes", {}))
        self._resolved: Json = {}
        for namespace, body in raw.items():
            self._resolved[namespace] = self._resolve_namespace(namespace, body)

    def _resolve_namespace(self, namespace: str, body: Json) -> Json:
        entity_types: Json = {}
        for name, definition in body.get("entityTypes", {}).items():
            entity = copy.deepcopy(definition)
            if "enum" not in entity:
                shape = entity.get("shape", {"type": "Record", "attributes": {}})
                entity["shape"] = self._resolve(shape, namespace, ())
                entity["memberOfTypes"] = [
                    self._entity_name(parent, namespace) for parent in entity.get("memberOfTypes", [])
                ]
                if "tags" in entity:
                    entity["tags"] = self._resolve(entity["tags"], namespace, ())
            entity_types[name] = entity
        actions: Json = {}
        for name, definition in body.get("actions", {}).items():
            action = copy.deepcopy(definition)
            applies_to = action.get("appliesTo")
            if applies_to is not None:
                for side in ("principalTypes", "resourceTypes"):
                    applies_to[side] = [self._entity_name(t, namespace) for t in applies_to.get(side, [])]
                context = applies_to.get("context", {"type": "Record", "attributes": {}})
                applies_to["context"] = self._resolve(context, namespace, ())
            actions[name] = action
        return {**body, "commonTypes": {}, "entityTypes": entity_types, "actions": actions}

    def _entity_name(self, name: str, namespace: str) -> str:
        for candidate in _candidates(name, namespace):
            if candidate in self._entity_names:
                return candidate
        raise SchemaError(f"the schema defines no entity type `{name}`")

    def _resolve(  # noqa: PLR0911 - one return per kind of type
        self, definition: Json, namespace: str, seen: tuple[str, ...]
    ) -> Json:
        """The same type without names of common types. INVARIANT: Cedar forbids recursive common types."""
        kind = definition.get("type", "Record" if "attributes" in definition else None)
        match kind:
            case "Set":
                return {"type": "Set", "element": self._resolve(definition["element"], namespace, seen)}
            case "Record":
                attributes = {
                    name: self._resolve(attribute, namespace, seen) | {"required": attribute.get("required", True)}
                    for name, attribute in definition.get("attributes", {}).items()
                }
                return {"type": "Record", "attributes": attributes}
            case "Entity":
                return {"type": "Entity", "name": self._entity_name(definition["name"], namespace)}
            case "Extension":
                return {"type": "Extension", "name": _base_name(definition["name"])}
            case "EntityOrCommon":
                return self._resolve_name(definition["name"], namespace, seen)
            case str() if kind in _PRIMITIVES.values():
                return {"type": kind}
            case str():
                return self._resolve_name(kind, namespace, seen)
            case _:
                raise SchemaError(f"a type of the schema has no form known here: `{definition}`")

    def _resolve_name(self, name: str, namespace: str, seen: tuple[str, ...]) -> Json:
        if not name.startswith("__cedar::"):
            for candidate in _candidates(name, namespace):
                if candidate in self._commons:
                    if candidate in seen:
                        raise SchemaError(f"the common type `{candidate}` contains itself")
                    home, definition = self._commons[candidate]
                    return self._resolve(definition, home, (*seen, candidate))
                if candidate in self._entity_names:
                    return {"type": "Entity", "name": candidate}
        base = _base_name(name)
        if base in _PRIMITIVES:
            return {"type": _PRIMITIVES[base]}
        if base in _EXTENSIONS:
            return {"type": "Extension", "name": base}
        raise SchemaError(f"the schema defines no type `{name}`")

    def to_json(self) -> Json:
        """A fresh copy of the resolved schema, for editing."""
        return copy.deepcopy(self._resolved)

    def entity_shape(self, type_name: str, of: Json | None = None) -> Json:
        """The record of attributes of an entity type, in this schema or in `of`, an edited copy. Not a copy."""
        namespace, name = _split(type_name)
        entity: Json = (self._resolved if of is None else of)[namespace]["entityTypes"][name]
        return entity.get("shape", {"type": "Record", "attributes": {}})

    def entity_tags(self, type_name: str) -> Json | None:
        """The type of an entity type's tags; None when it has none."""
        namespace, name = _split(type_name)
        return self._resolved[namespace]["entityTypes"][name].get("tags")

    def action_context(self, action_uid: str, of: Json | None = None) -> Json:
        """The context record of an action given as `Shop::Action::"pay"`. Not a copy."""
        namespace, name = split_action(action_uid)
        action: Json = (self._resolved if of is None else of)[namespace]["actions"][name]
        return action["appliesTo"]["context"]

    def action_ancestors(self, action_uid: str) -> frozenset[str]:
        """The action itself and every action group above it, as `Type::"id"`."""
        found: set[str] = set()
        # In the form of `entity_uid`, whoever wrote it.
        pending = [entity_uid(*split_uid(action_uid))]
        while pending:
            uid = pending.pop()
            if uid in found:
                continue
            found.add(uid)
            namespace, name = split_action(uid)
            parents: list[Json] = self._resolved[namespace]["actions"].get(name, {}).get("memberOf") or []
            for parent in parents:
                kind = parent.get("type")
                if kind is None:
                    kind = _qualified(namespace, "Action")
                elif "::" not in kind and namespace:
                    kind = _qualified(namespace, kind)
                pending.append(entity_uid(kind, parent["id"]))
        return frozenset(found)

    def action_names(self) -> Iterator[str]:
        """Every action and action group, as `Type::"id"`."""
        for namespace, body in self._resolved.items():
            for name in body["actions"]:
                yield entity_uid(_qualified(namespace, "Action"), name)

    def entity_types(self) -> frozenset[str]:
        return frozenset(self._entity_names)


def entity_uid(type_name: str, entity_id: str) -> str:
    """`Type::"id"` as Cedar reads it; what cannot be seen is escaped."""
    escaped = "".join(
        f"\\{character}"
        if character in '"\\'
        else character
        if character.isprintable()
        else f"\\u{{{ord(character):x}}}"
        for character in entity_id
    )
    return f'{type_name}::"{escaped}"'


def split_uid(uid: str) -> tuple[str, str]:
    """`Type::"id"` -> (type, id); the inverse of `entity_uid`."""
    kind, _, quoted = uid.partition('::"')
    return kind, _ESCAPE.sub(_unescaped, quoted.removesuffix('"'))


_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|(.))")
_SIMPLE_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _SIMPLE_ESCAPES.get(match[3], match[3])


def split_action(uid: str) -> tuple[str, str]:
    """`Shop::Action::"pay"` -> (`Shop`, `pay`)."""
    kind, name = split_uid(uid)
    namespace, _, _ = kind.rpartition("::")
    return namespace, name


def _split(type_name: str) -> tuple[str, str]:
    namespace, _, name = type_name.rpartition("::")
    return namespace, name


def _qualified(namespace: str, name: str) -> str:
    return f"{namespace}::{name}" if namespace else name


def _candidates(name: str, namespace: str) -> tuple[str, ...]:
    if "::" in name or not namespace:
        return (name,)
    return (_qualified(namespace, name), name)


def _base_name(name: str) -> str:
    return name.rpartition("::")[2]
