"""What each policy does: whether it can fail, does nothing, or does more than the constitution speaks of."""

from dataclasses import dataclass
from typing import Any, Literal

from acgs1.contracts.constitution import Constitution
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    CedarPolicy,
    Environment,
    Slice,
)
from acgs1.services.formal_verification.adapters.kernel.decisions import Decisions
from acgs1.services.formal_verification.adapters.kernel.examples import shown
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import Answer3, PolicyFacts

_MOST_OVERRIDES = 100


@dataclass(frozen=True, slots=True)
class _Place:
    policy: CedarPolicy
    environment: Environment


class HygieneSession:
    """What each policy does, one policy and environment at a time."""

    def __init__(
        self,
        policies: str,
        constitution: Constitution,
        vocabularies: Vocabularies,
        provers: Provers,
        *,
        overrides: bool = False,
    ) -> None:
        """`overrides`: also look for forbids that limit permits. Raises InvalidConstitution, InvalidPolicies."""
        self._overrides = overrides
        self._vocabulary = vocabularies.of(constitution.schema_text)
        self._provers = provers
        self._decisions = Decisions(constitution.schema_text, provers)
        law = self._vocabulary.law(constitution)
        self._spoken_of = {claim.environment for claim in law.claims}
        self._policies = self._vocabulary.policies(policies)
        self.places = [
            _Place(policy, environment)
            for environment in self._vocabulary.environments
            for policy in self._policies.in_environment(environment).policies
        ]

    def look(self, index: int) -> PolicyFacts:
        place = self.places[index]
        policy, environment = place.policy, place.environment
        others = self._policies.in_environment(environment)
        matches = self._says("never_matches", environment, policy.text, None, policy.id)
        rest = others.without([policy.id])
        forbids = Slice([p for p in rest.policies if p.effect == "forbid"])
        redundant: Answer3 = "no"
        covered_by: list[str] = []
        forbidden: Answer3 = "no"
        forbidden_by: list[str] = []
        overridden_by: list[str] = []
        if matches != "yes":
            redundant = self._redundant(policy, others, rest, forbids, environment)
            if redundant == "yes":
                covered_by = self._covered_by(policy, rest, environment)
            if policy.effect == "permit" and forbids.policies:
                forbidden = self._says("always_denies", environment, f"{policy.text}\n{forbids.text}", None)
                if forbidden == "yes":
                    forbidden_by = self._forbidden_by(policy, forbids, environment)
                elif self._overrides:
                    overridden_by = self._overridden_by(policy, forbids, environment)
        can_error, example = self._errors(policy, environment)
        return PolicyFacts(
            policy_id=policy.id,
            effect=policy.effect,
            environment=environment,
            can_error=can_error,
            error_example=example,
            never_matches=matches,
            redundant=redundant,
            covered_by=covered_by,
            forbidden=forbidden,
            forbidden_by=forbidden_by,
            overridden_by=overridden_by,
            spoken_of=environment in self._spoken_of,
        )

    def _errors(self, policy: CedarPolicy, environment: Environment) -> tuple[Answer3, dict[str, Any] | None]:
        """Whether it can fail to evaluate, and a request that shows it."""
        answer = self._decisions.failure(policy, environment)
        if answer.verdict != "refuted" or answer.case is None:
            return ("no" if answer.verdict == "proved" else "unknown"), None

        def fails(case: Case) -> bool:
            decision = self._vocabulary.evaluator.decide(policy.text, "", case)
            return decision is not None and bool(decision.errors)

        if not fails(answer.case):
            return "unknown", None
        case = shrink(answer.case, fails)
        decision = self._vocabulary.evaluator.decide(policy.text, "", case)
        error = decision.errors[0].rstrip(".") if decision is not None else ""
        words = (
            f"policy `{policy.id}` cannot be evaluated, which denies the request, when {explain.asks(case)}"
            f"{explain.facts(case, policy.text)}: {error}."
        )
        return "yes", shown(self._vocabulary, case, policy.text, "", words).model_dump(mode="json")

    def _forbidden_by(self, policy: CedarPolicy, forbids: Slice, environment: Environment) -> list[str]:
        """A minimal set of forbids that between them forbid all that `policy` permits."""
        needed = list(forbids.policies)
        for forbid in forbids.policies:
            fewer = [other for other in needed if other is not forbid]
            text = "\n".join((policy.text, *(other.text for other in fewer)))
            if self._says("always_denies", environment, text, None) == "yes":
                needed = fewer
        return [forbid.id for forbid in needed]

    def _overridden_by(self, policy: CedarPolicy, forbids: Slice, environment: Environment) -> list[str]:
        """Forbids that can match with it, the first hundred looked at."""
        return [
            other.id
            for other in forbids.policies[:_MOST_OVERRIDES]
            if self._says("matches_disjoint", environment, policy.text, other.text, policy.id, other.id) == "no"
        ]

    def _redundant(
        self, policy: CedarPolicy, others: Slice, rest: Slice, forbids: Slice, environment: Environment
    ) -> Answer3:
        """Whether the decision point decides the same without it."""
        fragile = any(self._decisions.failure(p, environment).verdict != "proved" for p in others.policies)
        if fragile:
            # Without it, nothing is denied any more because it fails; and what others permit it may have let fail.
            one, two = (self._decisions.text(each, environment) for each in (others, rest))
            return self._says("equivalent", environment, one, two)
        if policy.effect == "permit":
            return self._says("implies", environment, f"{policy.text}\n{forbids.text}", rest.text)
        return self._says("implies", environment, rest.text, others.text)

    def _covered_by(self, policy: CedarPolicy, rest: Slice, environment: Environment) -> list[str]:
        """One policy of the same effect that matches whenever this one does, if there is one."""
        for other in rest.policies:
            if other.effect != policy.effect:
                continue
            if self._says("matches_implies", environment, policy.text, other.text, policy.id, other.id) == "yes":
                return [other.id]
        return []

    def _says(
        self,
        kind: Literal["never_matches", "always_denies", "implies", "equivalent", "matches_implies", "matches_disjoint"],
        environment: Environment,
        a: str,
        b: str | None,
        policy_id: str | None = None,
        policy_id_b: str | None = None,
    ) -> Answer3:
        answer = self._provers.ask(kind, self._vocabulary.schema, environment, a, b, policy_id, policy_id_b)
        return "yes" if answer.verdict == "proved" else "no" if answer.verdict == "refuted" else "unknown"
