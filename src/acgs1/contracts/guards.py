"""A constitution's `never` invariants as Cedar text: the guards that a decision point loads beside any policy set.

Pure text, so that every service builds the same guards from the same constitution, byte for byte. What is built here is
still to be validated against the schema by the kernel.
"""

import json
import re

from acgs1.contracts.constitution import Constitution, Never, Scope

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*")
_QUALIFIED_ACTION = re.compile(r'(([A-Za-z_][A-Za-z0-9_]*::)*Action)::"((?:[^"\\]|\\.)*)"')


class InvariantTextError(ValueError):
    """An invariant's scope or condition is not one Cedar condition; the message says what is wrong and what would be right."""


def guard_id(principle_id: str, index: int) -> str:
    """The policy id of the guard for invariant number `index` of a principle."""
    return f"guard:{principle_id}:{index}"


def guards_of(constitution: Constitution) -> tuple[str, dict[str, str]]:
    """The guards of `constitution`, in its order: Cedar text, and guard policy id -> principle id.

    Raises InvariantTextError where a scope or a condition could not stand inside one `forbid` policy.
    """
    texts: list[str] = []
    principles: dict[str, str] = {}
    for principle in constitution.principles:
        for index, invariant in enumerate(principle.invariants):
            if not isinstance(invariant, Never):
                continue
            name = guard_id(principle.id, index)
            try:
                texts.append(guard_text(name, principle.id, invariant))
            except InvariantTextError as error:
                raise InvariantTextError(f"principle `{principle.id}`, invariant {index}: {error}") from None
            principles[name] = principle.id
    return "\n".join(texts), principles


def guard_text(name: str, principle_id: str, invariant: Never) -> str:
    """One `forbid` policy that denies what `invariant` says must never be allowed."""
    check_condition(invariant.when)
    # The condition stands on its own line: a trailing `//` comment in it must not swallow the brace.
    return (
        f"@id({json.dumps(name)})\n@principle({json.dumps(principle_id)})\n"
        f"forbid ({scope_text(invariant)}) when {{\n{invariant.when}\n}};\n"
    )


def scope_text(scope: Scope) -> str:
    """The scope as it stands between the parentheses of a Cedar policy."""
    principal = f"principal is {_type_name(scope.principal)}" if scope.principal is not None else "principal"
    resource = f"resource is {_type_name(scope.resource)}" if scope.resource is not None else "resource"
    action = "action"
    if scope.actions:
        # `in` rather than `==`, so that naming an action group speaks about its members.
        action = f"action in [{', '.join(action_uid(name) for name in scope.actions)}]"
    return f"{principal}, {action}, {resource}"


def action_uid(name: str) -> str:
    """`cancel` -> `Action::"cancel"`; a name that is already an entity reference is returned as it is.

    Raises InvariantTextError for anything that looks like a reference and is not one to an action.
    """
    if _QUALIFIED_ACTION.fullmatch(name):
        return name
    if '"' in name or "\\" in name or "\n" in name or not name:
        raise InvariantTextError(f'`{name}` is not an action; write `cancel` or `Shop::Action::"cancel"`')
    return f"Action::{json.dumps(name, ensure_ascii=False)}"


def check_condition(text: str) -> None:
    """Raises InvariantTextError unless `text` can only be read as the inside of one `when { }`.

    A condition that closed the brace could smuggle further policies into the guards, so its brackets must balance and it
    must hold no `;` outside of strings and comments.
    """
    closing: list[str] = []
    pairs = {"{": "}", "(": ")", "[": "]"}
    position = 0
    meaningful = False
    while position < len(text):
        character = text[position]
        if text.startswith("//", position):
            end = text.find("\n", position)
            position = len(text) if end < 0 else end + 1
            continue
        if character == '"':
            position = _end_of_string(text, position)
            meaningful = True
            continue
        if character in pairs:
            closing.append(pairs[character])
        elif character in "})]":
            if not closing or closing.pop() != character:
                raise InvariantTextError(
                    f"`{character}` at offset {position} closes nothing; write one Cedar condition"
                )
        elif character == ";":
            raise InvariantTextError(f"`;` at offset {position}: a condition is an expression, not a policy")
        meaningful = meaningful or not character.isspace()
        position += 1
    if closing:
        raise InvariantTextError(f"`{closing[-1]}` is missing at the end of the condition")
    if not meaningful:
        raise InvariantTextError("the condition is empty; write `true` to speak about every request in scope")


def _end_of_string(text: str, start: int) -> int:
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] == '"':
            return position + 1
        else:
            position += 1
    raise InvariantTextError(f"the string that starts at offset {start} does not end")


def _type_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvariantTextError(f"`{name}` is not an entity type; write `Agent` or `Shop::Agent`")
    return name
