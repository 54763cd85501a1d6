"""Policies in Cedar's JSON form, in which they are taken apart and put together."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import acgs1_kernel as kernel

Json = dict[str, Any]

TRUE: Final[Json] = {"Value": True}


@lru_cache(maxsize=20_000)
def form_of(policy: str) -> Json:
    """The one policy in the text. Nobody changes the form: whoever asks for the same text again gets the same."""
    (form,) = json.loads(kernel.policies_to_json(policy))["staticPolicies"].values()
    return form


def text_of(forms: Mapping[str, Json]) -> str:
    """The Cedar text of the policies, by id."""
    return kernel.policies_from_json(json.dumps({"templates": {}, "staticPolicies": dict(forms), "templateLinks": []}))


def is_valid(schema: str, policies: str) -> bool:
    """Whether Cedar's validator accepts every policy in the text."""
    try:
        kernel.validate_policies(schema, policies)
    except (kernel.CedarParseError, kernel.CedarValidationError):
        return False
    return True


def condition(form: Json) -> Json:
    """The clauses of a policy as one expression."""
    return conjunction([c["body"] if c["kind"] == "when" else {"!": {"arg": c["body"]}} for c in form["conditions"]])


def conjunction(parts: list[Json]) -> Json:
    """The conjunction, evaluated in the order given; true where there are no parts."""
    if not parts:
        return TRUE
    whole = parts[0]
    for part in parts[1:]:
        whole = {"&&": {"left": whole, "right": part}}
    return whole
