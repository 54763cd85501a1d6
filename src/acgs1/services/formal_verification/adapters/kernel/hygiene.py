"""What each policy does: whether it can fail, does nothing, or does more than the constitution speaks of."""

from dataclasses import dataclass
from typing import Any

from acgs1.contracts.constitution import Constitution
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    CedarPolicy,
    Environment,
    Slice,
)
from acgs1.services.formal_verification.adapters.kernel.decisions import Decisions
from acgs1.services.formal_verification.adapters.kernel.examples import shown
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies, Vocabulary
from acgs1.services.formal_verification.adapters.kernel.mentions import mentioned
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, CheckKind, Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION, Answer3, PolicyFacts

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
        self._mentioned: dict[Environment, list[str]] = {}
        for claim in law.claims:
            if (text := mentioned(constitution.schema_text, claim)) is not None:
                self._mentioned.setdefault(claim.environment, []).append(text)
        self._policies = self._vocabulary.policies(policies)
        self.places = [
            _Place(policy, environment)
            for environment in self._vocabulary.environments
            for policy in self._policies.in_environment(environment).policies
        ]

    def look(self, index: int) -> PolicyFacts:
        place = self.places[index]
        others = self._policies.in_environment(place.environment)
        look = _Look(self._vocabulary, self._provers, self._decisions, place.policy, place.environment, others)
        return look.facts(overrides=self._overrides, mentioned=self._mentioned.get(place.environment, []))


class _Look:
    """One policy in one request environment, among the others there."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        provers: Provers,
        decisions: Decisions,
        policy: CedarPolicy,
        environment: Environment,
        others: Slice,
    ) -> None:
        self._vocabulary = vocabulary
        self._provers = provers
        self._decisions = decisions
        self._policy = policy
        self._environment = environment
        self._all = others
        self._rest = others.without([policy.id])
        self._forbids = Slice([p for p in self._rest.policies if p.effect == "forbid"])
        self._unanswered: list[str] = []

    def facts(self, *, overrides: bool, mentioned: list[str]) -> PolicyFacts:
        policy = self._policy
        redundant: Answer3 = "no"
        covered_by: list[str] = []
        forbidden: Answer3 = "no"
        forbidden_by: list[str] = []
        overridden_by: list[str] = []
        matches = self._says("ever matches", "never_matches", policy.text, None, policy.id)
        if matches != "yes":
            redundant = self._redundant()
            if redundant == "yes":
                covered_by = self._covered_by()
            if policy.effect == "permit" and self._forbids.policies:
                forbidden = self._forbidden_with(self._forbids.policies)
                if forbidden == "yes":
                    forbidden_by = self._forbidden_by()
                elif overrides:
                    overridden_by = self._overridden_by()
        beyond: Answer3 = "no"
        beyond_example: dict[str, Any] | None = None
        if policy.effect == "permit" and matches != "yes" and forbidden != "yes":
            beyond, beyond_example = self._beyond(mentioned)
        can_error, error_example = self._errors()
        return PolicyFacts(
            policy_id=policy.id,
            effect=policy.effect,
            environment=self._environment,
            can_error=can_error,
            error_example=error_example,
            never_matches=matches,
            redundant=redundant,
            covered_by=covered_by,
            forbidden=forbidden,
            forbidden_by=forbidden_by,
            overridden_by=overridden_by,
            beyond=beyond,
            beyond_example=beyond_example,
            unanswered=self._unanswered,
        )

    def _errors(self) -> tuple[Answer3, dict[str, Any] | None]:
        """Whether it can fail to evaluate, and a request that shows it."""
        policy = self._policy
        answer = self._decisions.failure(policy, self._environment)

        def fails(case: Case) -> bool:
            decision = self._vocabulary.evaluator.decide(policy.text, "", case)
            return decision is not None and bool(decision.errors)

        if answer.case is None or not fails(answer.case):
            return self._settled(
                "can fail to evaluate", answer, confirmed=answer.verdict != "refuted", proved="no"
            ), None
        case = shrink(answer.case, fails)
        decision = self._vocabulary.evaluator.decide(policy.text, "", case)
        error = decision.errors[0].rstrip(".") if decision is not None else ""
        words = (
            f"policy `{policy.id}` cannot be evaluated, which denies the request, when {explain.asks(case)}"
            f"{explain.facts(case, policy.text)}: {error}."
        )
        return "yes", shown(self._vocabulary, case, policy.text, "", words).model_dump(mode="json")

    def _beyond(self, mentioned: list[str]) -> tuple[Answer3, dict[str, Any] | None]:
        """Whether it allows, beside the forbids, what none of the permits `mentioned` is about; and such a request."""
        policy, schema = self._policy, self._vocabulary.schema
        allowed = self._decisions.text(Slice([policy, *self._forbids.policies]), self._environment)
        spoken = "\n".join(mentioned)
        answer = self._provers.ask("implies", schema, self._environment, allowed, spoken)
        decide = self._vocabulary.evaluator.decide
        beside = f"{policy.text}\n{self._forbids.text}"

        def shows(case: Case) -> bool:
            decision = decide(beside, "", case)
            if decision is None or not decision.allowed:
                return False
            said = decide(spoken, "", case)
            if said is None or not said.errored:
                return said is not None and not said.allowed
            # One that fails hides the others.
            return not any(one is not None and one.allowed for one in (decide(text, "", case) for text in mentioned))

        what = "allows what no principle mentions"
        if answer.case is None or not shows(answer.case):
            return self._settled(what, answer, confirmed=answer.verdict != "refuted", proved="no"), None
        case = shrink(answer.case, shows)
        words = f"{explain.can(case)}{explain.facts(case, policy.text, spoken)}"
        return "yes", shown(self._vocabulary, case, beside, "", words).model_dump(mode="json")

    def _redundant(self) -> Answer3:
        """Whether the decision point decides the same without it."""
        what, policy = "changes any decision", self._policy
        if any(self._decisions.failure(p, self._environment).verdict != "proved" for p in self._all.policies):
            # Where it fails, it denies; and where others fail, what it permits is denied with or without it.
            one, two = (self._decisions.text(each, self._environment) for each in (self._all, self._rest))
            return self._says(what, "equivalent", one, two)
        if policy.effect == "permit":
            return self._says(what, "implies", f"{policy.text}\n{self._forbids.text}", self._rest.text)
        return self._says(what, "implies", self._rest.text, self._all.text)

    def _covered_by(self) -> list[str]:
        """One policy of the same effect that matches whenever this one does, if there is one."""
        policy = self._policy
        for other in self._rest.policies:
            if other.effect != policy.effect:
                continue
            what = f"matches only where `{other.id}` does"
            if self._says(what, "matches_implies", policy.text, other.text, policy.id, other.id) == "yes":
                return [other.id]
        return []

    def _forbidden_with(self, forbids: list[CedarPolicy]) -> Answer3:
        text = "\n".join((self._policy.text, *(forbid.text for forbid in forbids)))
        return self._says("ever takes effect", "always_denies", text, None)

    def _forbidden_by(self) -> list[str]:
        """A minimal set of forbids that between them forbid all that the policy permits."""
        needed = list(self._forbids.policies)
        for forbid in self._forbids.policies:
            fewer = [other for other in needed if other is not forbid]
            if self._forbidden_with(fewer) == "yes":
                needed = fewer
        return [forbid.id for forbid in needed]

    def _overridden_by(self) -> list[str]:
        """Forbids that can match with it, the first hundred looked at."""
        policy = self._policy
        return [
            other.id
            for other in self._forbids.policies[:_MOST_OVERRIDES]
            if self._says(
                f"is limited by `{other.id}`", "matches_disjoint", policy.text, other.text, policy.id, other.id
            )
            == "no"
        ]

    def _says(
        self, what: str, kind: CheckKind, a: str, b: str | None, policy_id: str | None = None, other: str | None = None
    ) -> Answer3:
        schema = self._vocabulary.schema
        return self._settled(what, self._provers.ask(kind, schema, self._environment, a, b, policy_id, other))

    def _settled(self, what: str, answer: Answer, *, confirmed: bool = True, proved: Answer3 = "yes") -> Answer3:
        """`what` names the question, for when there is no answer. `confirmed`: the evaluator agrees with a refutation."""
        if answer.verdict == "proved":
            return proved
        if answer.verdict == "refuted" and confirmed:
            return "no" if proved == "yes" else "yes"
        reason = answer.reason if answer.verdict == "unknown" else CONTRADICTION
        where = " / ".join(self._environment)
        self._unanswered.append(
            f"whether policy `{self._policy.id}` {what}, in {where}: {reason or 'the prover gave no reason'}"
        )
        return "unknown"
