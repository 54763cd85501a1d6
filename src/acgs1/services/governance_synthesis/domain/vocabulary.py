"""The words of a schema: which phrases name its actions and attributes.

Source: the Cedar JSON schema format (docs.cedarpolicy.com/schema/json-schema.html) with `@phrase` annotations.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_BASIC = {"Long": "Long", "String": "String", "Bool": "Bool", "Boolean": "Bool"}
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class VocabularyError(ValueError):
    """The phrases of the schema cannot be told apart; the message says which and what would be right."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a request that a sentence can speak about.

    `path` is as Cedar writes it (`context.amount`); `type` is `Bool`, `Long`, `String` or the name of a type that sentences cannot
    compare; `optional` lists the prefixes of the path that may be absent.
    """

    path: str
    type: str
    phrase: str
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One action, what may do it to what, and the attributes that its context brings."""

    uid: str
    name: str
    phrase: str | None
    principals: tuple[str, ...]
    resources: tuple[str, ...]
    context: tuple[Attribute, ...]

    @property
    def takes_approval(self) -> bool:
        """Whether the context says if a person approved the request."""
        return any(a.path == "context.approved" and a.type == "Bool" and not a.optional for a in self.context)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that sentences can name. Phrases are normalised (see `normal`)."""

    actions: tuple[Action, ...]
    principal_phrases: dict[str, str]
    entity_attributes: dict[tuple[str, str], tuple[Attribute, ...]]

    def attributes(self, action: Action, principal: str, resource: str) -> Iterator[Attribute]:
        """What can be said about a request of `action` by a `principal` on a `resource` (names of entity types)."""
        yield from self.entity_attributes.get(("principal", principal), ())
        yield from self.entity_attributes.get(("resource", resource), ())
        yield from action.context

    def action_named(self, phrase: str) -> Action:
        return next(a for a in self.actions if a.phrase == normal(phrase))

    def all_attributes(self) -> Iterator[Attribute]:
        for action in self.actions:
            yield from action.context
        for attributes in self.entity_attributes.values():
            yield from attributes


def normal(phrase: str) -> str:
    """Lower case, single spaces, straight apostrophes: phrases that are equal then are the same phrase."""
    return " ".join(phrase.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower().split())


def vocabulary_of(schema: Json) -> Vocabulary:
    """The vocabulary of a schema in its JSON form. Raises VocabularyError where two actions share a phrase."""
    reader = _SchemaReader(schema)
    actions = tuple(reader.actions())
    taken: dict[str, Action] = {}
    for action in actions:
        if action.phrase is None:
            continue
        if other := taken.get(action.phrase):
            raise VocabularyError(
                f"`{action.phrase}` is the phrase of `{other.uid}` and of `{action.uid}`; each action needs its own"
            )
        taken[action.phrase] = action
    principals = sorted({p for action in actions for p in action.principals})
    resources = sorted({r for action in actions for r in action.resources})
    phrases: dict[str, str] = {}
    for kind in principals:
        phrase = reader.entity_phrase(kind)
        if other := phrases.get(phrase):
            raise VocabularyError(
                f'`{phrase}` names `{other}` and `{kind}`; give one of them its own phrase, such as `@phrase("an operator")`'
            )
        phrases[phrase] = kind
    return Vocabulary(
        actions,
        phrases,
        {("principal", kind): reader.entity_attributes("principal", kind) for kind in principals}
        | {("resource", kind): reader.entity_attributes("resource", kind) for kind in resources},
    )


class _SchemaReader:
    def __init__(self, schema: Json) -> None:
        self._schema = schema
        self._commons = {
            _qualified(namespace, name): (namespace, definition)
            for namespace, body in schema.items()
            for name, definition in body.get("commonTypes", {}).items()
        }
        self._entities: dict[str, tuple[str, Json]] = {
            _qualified(namespace, name): (namespace, definition)
            for namespace, body in schema.items()
            for name, definition in body.get("entityTypes", {}).items()
        }

    def actions(self) -> Iterator[Action]:
        for namespace, body in sorted(self._schema.items()):
            for name, definition in sorted(body.get("actions", {}).items()):
                applies: Json | None = definition.get("appliesTo")
                if not applies:
                    continue  # a group: nothing is ever done through it alone
                phrase = _phrase(definition)
                yield Action(
                    uid=f"{_qualified(namespace, 'Action')}::{cedar_string(name)}",
                    name=name,
                    phrase=None if phrase is None else normal(phrase),
                    principals=tuple(self._entity_name(t, namespace) for t in applies.get("principalTypes", [])),
                    resources=tuple(self._entity_name(t, namespace) for t in applies.get("resourceTypes", [])),
                    context=tuple(self._record(applies.get("context", {}), namespace, "context", ())),
                )

    def entity_phrase(self, kind: str) -> str:
        """`an agent` for `Agent`, unless the type has a phrase of its own."""
        own = _phrase(self._entities[kind][1])
        if own is not None:
            return normal(own)
        words = _CAPITAL.sub(" ", kind.rpartition("::")[2]).replace("_", " ").lower()
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def entity_attributes(self, root: str, kind: str) -> tuple[Attribute, ...]:
        namespace, definition = self._entities[kind]
        return tuple(self._record(definition.get("shape", {}), namespace, root, ()))

    def _record(self, definition: Json, namespace: str, path: str, optional: tuple[str, ...]) -> Iterator[Attribute]:
        definition, namespace = self._resolved(definition, namespace)
        for name, attribute in sorted(definition.get("attributes", {}).items()):
            full = f"{path}.{name}" if name.isidentifier() else f"{path}[{cedar_string(name)}]"
            absent = optional if attribute.get("required", True) else (*optional, full)
            kind, home = self._resolved(attribute, namespace)
            if "attributes" in kind:
                yield from self._record(kind, home, full, absent)
            elif (phrase := _phrase(attribute)) is not None:
                yield Attribute(full, _type_name(kind), normal(phrase), absent)

    def _resolved(self, definition: Json, namespace: str) -> tuple[Json, str]:
        """The definition behind a name of a common type, and the namespace that it stands in."""
        # INVARIANT: Cedar refuses recursive common types, so this ends.
        while (name := _reference(definition)) is not None:
            found = next((c for c in _candidates(name, namespace) if c in self._commons), None)
            if found is None:
                break
            namespace, definition = self._commons[found]
        return definition, namespace

    def _entity_name(self, name: str, namespace: str) -> str:
        return next((c for c in _candidates(name, namespace) if c in self._entities), name)


def cedar_string(text: str) -> str:
    """`text` as a Cedar string literal."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return f"\\{character}" if character in '"\\' else f"\\u{{{ord(character):x}}}"


def _phrase(definition: Json) -> str | None:
    phrase = definition.get("annotations", {}).get("phrase")
    return phrase if isinstance(phrase, str) and phrase.strip() else None


def _reference(definition: Json) -> str | None:
    """The name that a definition refers to, when it is nothing but a name."""
    kind = definition.get("type")
    if kind == "EntityOrCommon":
        return definition["name"]
    if isinstance(kind, str) and kind not in {*_BASIC, "Record", "Set", "Entity", "Extension"}:
        return kind
    return None


def _type_name(definition: Json) -> str:
    name = _reference(definition) or str(definition.get("type", ""))
    return _BASIC.get(name.removeprefix("__cedar::"), name)


def _qualified(namespace: str, name: str) -> str:
    return f"{namespace}::{name}" if namespace else name


def _candidates(name: str, namespace: str) -> tuple[str, ...]:
    return (name,) if "::" in name or not namespace else (_qualified(namespace, name), name)
