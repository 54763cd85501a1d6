"""Canonical JSON: RFC 8785 (JSON Canonicalization Scheme)."""

import math
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import cast

_MAX_SAFE_INTEGER = 2**53 - 1


class CanonicalError(ValueError):
    """The value has no canonical JSON form; the message names the path of the offending part."""


def canonical_json(value: object) -> bytes:
    """The RFC 8785 bytes of `value` (None, bool, int, float, str, sequences, string-keyed mappings).

    Raises CanonicalError for NaN and infinities, for integers that an IEEE 754 double cannot hold exactly
    (RFC 8785, section 3.2.2.3 - write those as strings), for lone surrogates, and for any other type.
    """
    out: list[str] = []
    _write(value, out, "$")
    return "".join(out).encode()


def _write(value: object, out: list[str], path: str) -> None:
    match value:
        case None:
            out.append("null")
        case True:
            out.append("true")
        case False:
            out.append("false")
        case str():
            out.append(_string(value, path))
        case int():
            if abs(value) > _MAX_SAFE_INTEGER:
                raise CanonicalError(f"{path}: integer `{value}` is beyond 2^53-1; write it as a string")
            out.append(str(value))
        case float():
            out.append(_number(value, path))
        case Mapping():
            _write_object(cast("Mapping[object, object]", value), out, path)
        case Sequence() if not isinstance(value, (bytes, bytearray, memoryview)):
            out.append("[")
            for index, item in enumerate(cast("Sequence[object]", value)):
                if index:
                    out.append(",")
                _write(item, out, f"{path}[{index}]")
            out.append("]")
        case _:
            raise CanonicalError(f"{path}: `{type(value).__name__}` has no JSON form")


def _write_object(value: Mapping[object, object], out: list[str], path: str) -> None:
    names: list[str] = []
    for name in value:
        if not isinstance(name, str):
            raise CanonicalError(f"{path}: object names are strings, not `{type(name).__name__}`")
        names.append(name)
    out.append("{")
    # Section 3.2.3: names sort by their UTF-16 code units.
    ascii_only = all(map(str.isascii, names))
    in_order = sorted(names) if ascii_only else sorted(names, key=lambda n: n.encode("utf-16-be", "surrogatepass"))
    for index, name in enumerate(in_order):
        if index:
            out.append(",")
        out.append(_string(name, path))
        out.append(":")
        _write(value[name], out, f"{path}.{name}")
    out.append("}")


def _string(value: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CanonicalError(f"{path}: a lone surrogate has no UTF-8 form") from None
    # json escapes exactly what section 3.2.2.2 asks for, in lower case, and leaves the rest as it is. This is the function
    # behind json.dumps(ensure_ascii=False), which would build an encoder for every string.
    return encode_basestring(value)


def _number(value: float, path: str) -> str:
    """ECMAScript's Number::toString, which RFC 8785 section 3.2.2.3 prescribes."""
    if not math.isfinite(value):
        raise CanonicalError(f"{path}: `{value}` has no JSON form")
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
