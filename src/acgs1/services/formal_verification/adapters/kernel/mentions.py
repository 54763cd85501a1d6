"""Which requests an invariant mentions: those of its subject, whatever its limits make of them.

The subject of `never` `context.kind == "refund" && context.amount > 100 && !context.approved` is refunds: the names, groups and
relations in a condition say what it is about; numbers, times, yes-or-no facts and presence are its limits. Every request that meets
a condition is mentioned by it, and a condition of limits alone mentions every request in its scope. `indifferent_to` and
`monotone_in` say which requests are to be decided alike, not which may be allowed, so they mention none.
"""

from acgs1.contracts.constitution import Always, Never
from acgs1.services.formal_verification.adapters.kernel.examples import bound
from acgs1.services.formal_verification.adapters.kernel.forms import TRUE, Json, condition, form_of, is_valid, text_of
from acgs1.services.formal_verification.adapters.kernel.law import Claim

_LIMITS = {"<", "<=", ">", ">=", ".", "lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"}
_PRESENCE = {"has", "hasTag"}
_NUMBERS = {"+", "-", "*", "neg"}


def mentioned(schema: str, claim: Claim) -> str | None:
    """A permit of what the claim mentions in its environment; None where it mentions nothing."""
    if not isinstance(claim.invariant, Never | Always):
        return None
    name = f"acgs:mentioned-{claim.principle_id}-{claim.index}"
    own = bound(claim.environment, f"when {{\n{claim.invariant.when}\n}}", name)
    form = form_of(own)
    for guarded in (False, True):
        body = _subject(condition(form), holds=True, guarded=guarded)
        text = text_of({name: {**form, "conditions": [{"kind": "when", "body": body}]}})
        # Not valid where a name is read from an attribute that may be absent: then the test of its presence must stay.
        if is_valid(schema, text):
            return text
    return bound(claim.environment, "when { true }", name)


def _subject(node: Json, *, holds: bool, guarded: bool) -> Json:
    """`node` (or, not `holds`, its negation) with true in place of each limit: what it says is implied by `node`.

    `guarded`: with the tests of presence.
    """
    ((operator, body),) = node.items()

    def of(part: Json, *, holds: bool) -> Json:
        return _subject(part, holds=holds, guarded=guarded)

    match operator:
        case "!":
            return of(body["arg"], holds=not holds)
        case "&&" | "||":
            join = operator if holds else {"&&": "||", "||": "&&"}[operator]
            return _joined(join, of(body["left"], holds=holds), of(body["right"], holds=holds))
        case "if-then-else":
            taken = _joined("&&", of(body["if"], holds=True), of(body["then"], holds=holds))
            left = _joined("&&", of(body["if"], holds=False), of(body["else"], holds=holds))
            return _joined("||", taken, left)
        case _ if operator in _LIMITS or (operator in {"==", "!="} and _is_limit(body)):
            return TRUE
        case _ if operator in _PRESENCE and not guarded:
            return TRUE
        case _:
            return node if holds else {"!": {"arg": node}}


def _is_limit(sides: Json) -> bool:
    """Whether numbers or yes-or-no facts are compared."""
    for side in (sides["left"], sides["right"]):
        ((operator, body),) = side.items()
        if operator in _NUMBERS or (operator == "Value" and isinstance(body, int)):
            return True
    return False


def _joined(operator: str, left: Json, right: Json) -> Json:
    """The conjunction or disjunction, without what does not matter in it."""
    if TRUE in (left, right):
        if operator == "||":
            return TRUE
        return right if left == TRUE else left
    return {operator: {"left": left, "right": right}}
