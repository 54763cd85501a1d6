"""JSON as `json.loads` gives it, told apart with types.

An `isinstance` alone leaves the type checker with a dict of anything; in JSON the keys are strings, which is what the casts
here say, and they are the only ones that say it.
"""

from typing import cast


def as_object(value: object) -> dict[str, object] | None:
    """`value` where it is a JSON object, else None."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def as_array(value: object) -> list[object] | None:
    """`value` where it is a JSON array, else None."""
    return cast("list[object]", value) if isinstance(value, list) else None


def as_strings(value: object) -> list[str]:
    """The strings in `value` where it is a JSON array, else none."""
    return [item for item in as_array(value) or () if isinstance(item, str)]
