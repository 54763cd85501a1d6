"""What the load sends to be checked, drafted, proved and searched: the example's own texts with other numbers in them.

Each number makes another content with another hash, which no cache has seen, and the right answer follows from the number.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, Final

from acgs1.contracts.constitution import Constitution, Never, Principle
from acgs1.runtime.demo import example_folder

CEILING: Final = 400
"""What the example's constitution lets an agent pay without a person's approval, at most."""
SEARCHED: Final = range(601)
"""The thresholds among which evolution searches."""
AMENDED: Final = "large-sums-need-a-person"
TUNED: Final = "working-limit"
_PROVED: Final = ("know-the-customer", "compensation-needs-a-cause", AMENDED)
_PLACEHOLDER: Final = 1_234_567
_RULES: Final = """permit (principal is Agent, action == Action::"pay_compensation", resource is Booking)
when {{
  (context.amount <= {limit} || context.approved) && (resource.airline_cancelled || resource.delay_minutes >= 180) &&
  context.customer_identified && context.owns_booking && context.amount >= 1 && context.amount <= {most}
}};"""

Outcomes = list[dict[str, Any]]


def fresh_numbers() -> Iterator[int]:
    """Numbers of seven digits that no earlier load has used, as far as chance goes: what was proved or kept once is not new."""
    return count(_PLACEHOLDER + secrets.randbelow(8_000_000))


class Inputs:
    """Made from the constitution in force."""

    def __init__(self, whole: Constitution) -> None:
        self._whole = whole
        self._by_id = {principle.id: principle for principle in whole.principles}

    def amendment(self, ceiling: int) -> Constitution:
        """The whole constitution with another ceiling: it amends one principle."""
        amended = self._with_ceiling(ceiling)
        principles = tuple(amended if p.id == AMENDED else p for p in self._whole.principles)
        return self._whole.model_copy(update={"principles": principles})

    def law(self, ceiling: int) -> Constitution:
        """Three principles, with another ceiling: little enough to prove while people wait."""
        principles = tuple(self._with_ceiling(ceiling) if name == AMENDED else self._by_id[name] for name in _PROVED)
        return self._whole.model_copy(update={"principles": principles})

    def rules(self, limit: int) -> str:
        """Policies that comply with `law(ceiling)` exactly when `limit` is at most the ceiling."""
        return _RULES.format(limit=limit, most=2 * limit)

    def to_draft(self, limit: int, beside: int = 0) -> Constitution:
        """Principles to draft policies from: the working limit with another number, and another principle of the whole."""
        tuned = self._by_id[TUNED]
        text = tuned.text.replace("more than 100", f"more than {limit}")
        assert text != tuned.text, "INVARIANT: the example's working limit is 100"
        others = [p for p in self._whole.principles if p.id != TUNED]
        principles = (others[beside % len(others)], tuned.model_copy(update={"text": text}))
        return self._whole.model_copy(update={"principles": principles})

    def pattern(self) -> Constitution:
        """What `to_draft` gives for a number that `as_drafted` puts the real one in place of."""
        return self.to_draft(_PLACEHOLDER)

    @staticmethod
    def as_drafted(pattern: str, limit: int) -> str:
        """The policies that must come from `to_draft(limit)`, by those that came from `pattern()`."""
        return pattern.replace(str(_PLACEHOLDER), str(limit))

    def _with_ceiling(self, ceiling: int) -> Principle:
        whole = self._by_id[AMENDED]
        never = Never(actions=("pay_compensation",), when=f"context.amount > {ceiling} && !context.approved")
        text = whole.text.replace(f"more than {CEILING}", f"more than {ceiling}")
        return whole.model_copy(update={"text": text, "invariants": (never,)})


def labels() -> Outcomes:
    """The example's labelled outcomes."""
    return json.loads((example_folder() / "labels.json").read_text())["outcomes"]


def some(outcomes: Outcomes, number: int) -> Outcomes:
    """Twenty of them, others for another number."""
    return Random(number).sample(outcomes, 20)


def agreement(outcomes: Sequence[dict[str, Any]], threshold: int) -> float:
    """The share decided as labelled when an agent may pay up to `threshold` alone; above the ceiling the constitution denies.

    Every labelled request has a cause and an identified customer, so nothing but the amount decides.
    """
    right = sum(
        (outcome["should"] == "allow") == (outcome["request"]["context"]["amount"] <= min(threshold, CEILING))
        for outcome in outcomes
    )
    return right / len(outcomes)


def best_agreement(outcomes: Sequence[dict[str, Any]]) -> float:
    """What a search over all of SEARCHED must find; every one of them is looked at."""
    return max(agreement(outcomes, threshold) for threshold in SEARCHED)
