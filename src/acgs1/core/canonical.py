"""Canonical JSON: RFC 8785 (JSON Canonicalization Scheme)."""

import math
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, Final, cast

MOST_LEVELS = 200
"""How deep a value may nest: well within what the interpreter can follow, and well beyond any document of ours."""

_MAX_SAFE_INTEGER = 2**53 - 1
_TOO_DEEP = "it is nested deeper than this place allows"


class CanonicalError(ValueError):
    """The value has no canonical JSON form; the message names the path of the offending part."""


class _Unwritable(Exception):
    """Raised where the offending part stands; `path` grows from there outwards."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


def canonical_json(value: object, *, levels: int = MOST_LEVELS) -> bytes:
    """The RFC 8785 bytes of `value` (None, bool, int, float, str, sequences, string-keyed mappings).

    Raises CanonicalError for NaN and infinities, for integers that an IEEE 754 double cannot hold exactly
    (RFC 8785, section 3.2.2.3 - write those as strings), for lone surrogates, for any other type, and for what nests
    deeper than `levels`.
    """
    out: list[str] = []
    try:
        _write(value, out, levels)
    except _Unwritable as error:
        raise CanonicalError(f"${''.join(reversed(error.path))}: {error}") from None
    return "".join(out).encode()


def _write(value: Any, out: list[str], levels: int) -> None:
    # The exact types first: of the checks that a `match` would make, those for abstract classes are slow.
    kind = type(cast("object", value))
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        out.append(leaf(value))
    elif kind is dict:
        _write_object(value, out, levels - 1)
    elif kind is list or kind is tuple:
        _write_array(value, out, levels - 1)
    elif isinstance(value, int):
        out.append(_integer(value))
    elif isinstance(value, float):
        out.append(_number(value))
    elif isinstance(value, str):
        out.append(_string(value))
    elif isinstance(value, Mapping):
        _write_object(cast("Mapping[Any, Any]", value), out, levels - 1)
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        _write_array(cast("Sequence[Any]", value), out, levels - 1)
    else:
        raise _Unwritable(f"`{kind.__name__}` has no JSON form")


def _write_array(value: Sequence[Any], out: list[str], levels: int) -> None:
    if levels < 0:
        raise _Unwritable(_TOO_DEEP)
    out.append("[")
    index = 0
    try:
        for index, item in enumerate(value):
            if index:
                out.append(",")
            _write(item, out, levels)
    except _Unwritable as error:
        error.path.append(f"[{index}]")
        raise
    out.append("]")


def _write_object(value: Mapping[Any, Any], out: list[str], levels: int) -> None:
    if levels < 0:
        raise _Unwritable(_TOO_DEEP)
    names = tuple(value)
    members = _known_members.get(names)
    if members is None:
        members = _members(names)
    name = ""
    try:
        for name, opening in members:
            item = value[name]
            # Most members are leaves: written here, they cost one call less.
            leaf = _LEAVES.get(type(cast("object", item)))
            if leaf is not None:
                out.append(opening + leaf(item))
            else:
                out.append(opening)
                _write(item, out, levels)
    except _Unwritable as error:
        error.path.append(f".{name}")
        raise
    out.append("}" if members else "{}")


_Members = tuple[tuple[str, str], ...]
# Objects come in few shapes, of which each comes often: the order and the writing of their names are worked out once.
_known_members: dict[tuple[str, ...], _Members] = {}
_MOST_KNOWN: Final = 1024
_MOST_NAMES: Final = 64
_LONGEST_NAME: Final = 64


def _members(names: tuple[str, ...]) -> _Members:
    """The names in their order, each with what stands before its value."""
    for name in names:
        if not isinstance(cast("object", name), str):
            raise _Unwritable(f"object names are strings, not `{type(name).__name__}`")
    # Section 3.2.3: names sort by their UTF-16 code units.
    ordered = sorted(names, key=None if all(name.isascii() for name in names) else _utf_16)
    members = tuple((name, f"{',' if at else '{'}{_string(name)}:") for at, name in enumerate(ordered))
    if len(names) <= _MOST_NAMES and all(len(name) <= _LONGEST_NAME for name in names):
        if len(_known_members) >= _MOST_KNOWN:
            _known_members.clear()
        _known_members[names] = members
    return members


def _utf_16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _string(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Unwritable("a lone surrogate has no UTF-8 form") from None
    # json escapes exactly what section 3.2.2.2 asks for, in lower case, and leaves the rest as it is. This is the function
    # behind json.dumps(ensure_ascii=False), which would build an encoder for every string.
    return encode_basestring(value)


def _integer(value: int) -> str:
    if abs(value) > _MAX_SAFE_INTEGER:
        raise _Unwritable(f"integer `{value}` is beyond 2^53-1; write it as a string")
    return int.__repr__(value)


def _number(value: float) -> str:
    """ECMAScript's Number::toString, which RFC 8785 section 3.2.2.3 prescribes."""
    if not math.isfinite(value):
        raise _Unwritable(f"`{value}` has no JSON form")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # `point` is where the decimal point stands relative to the first significant digit.
    point = len(whole.lstrip("0")) if whole.strip("0") else len(digits) - len(fraction)
    point += int(exponent_text or 0)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    exponent = point - 1
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if exponent > 0 else '-'}{abs(exponent)}"


_LEAVES: Final[dict[type, Callable[[Any], str]]] = {
    str: _string,
    int: _integer,
    float: _number,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
}
