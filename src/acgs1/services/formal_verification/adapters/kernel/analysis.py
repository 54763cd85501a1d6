"""Questions beside compliance: what can ever happen, what does nothing, what contradicts."""

from dataclasses import dataclass
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Always, Constitution, Never
from acgs1.contracts.formal_verification import (
    Counterexample,
    EnvironmentAnswer,
    Finding,
    NewQuestion,
    RequestEnvironment,
)
from acgs1.contracts.guards import InvariantTextError, check_condition, scope_text
from acgs1.core.errors import ErrorItem
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    CedarPolicy,
    Environment,
    PolicyTexts,
    Slice,
    items_of,
)
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition
from acgs1.services.formal_verification.adapters.kernel.law import Claim, Vocabularies, Vocabulary, first_of
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import Answer3, PolicyFacts
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

_MOST_OVERRIDES = 100


def bound(environment: Environment, condition: str, name: str = "acgs:bound") -> str:
    """A permit about one environment alone; `condition` is its `when` or `unless` clause."""
    principal, action, resource = environment
    head = f"principal is {principal}, action == {action}, resource is {resource}"
    return f'@id("{name}")\npermit ({head}) {condition};'


def shown(vocabulary: Vocabulary, case: Case, policies: str, guards: str, words: str) -> Counterexample:
    """A request as an example, with the decision point's own decision on it."""
    decision = vocabulary.evaluator.decide(policies, guards, case)
    if decision is None:
        raise AssertionError("INVARIANT: an example has been replayed")
    return Counterexample(
        principal=explain.uid(case.principal),
        action=case.action,
        resource=explain.uid(case.resource),
        context=case.context,
        entities=case.entities,
        decisions=["allow" if decision.allowed else "deny"],
        determining_policies=sorted({*decision.reasons, *decision.guard}),
        explanation=words,
    )


class QuestionSession:
    """Can it ever be allowed (or denied)? One answer per request environment in scope."""

    def __init__(self, question: NewQuestion, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution, InvalidPolicies."""
        self._vocabulary = vocabularies.of(question.schema_text)
        self._provers = provers
        self._question = question
        self._policies = self._vocabulary.policies(question.policies)
        self._guards = self._guards_of(question.constitution)
        try:
            for text in (question.when, *question.assume):
                check_condition(text)
            self.environments = self._vocabulary.in_scope(question)
            self._check(question)
        except InvariantTextError as error:
            raise InvalidPolicies(f"the question: {error}", items=(ErrorItem(str(error), "/when"),)) from None

    def _check(self, question: NewQuestion) -> None:
        """Raises InvalidPolicies where a condition does not fit the schema. One that can never hold does: it is answered."""
        for name, text in (("when", question.when), *((f"assume/{i}", t) for i, t in enumerate(question.assume))):
            policy = f"permit ({scope_text(question)}) when {{\n{text}\n}};"
            try:
                kernel.validate_policies(self._vocabulary.schema, policy, "question")
            except (kernel.CedarParseError, kernel.CedarValidationError) as error:
                # The condition begins on line 2 of the policy.
                items = items_of(error, f"/{name}", first_line=2)
                if not all("is impossible" in item.detail for item in items):
                    raise InvalidPolicies(f"the question: {first_of(items)}", items=items) from None

    def _guards_of(self, constitution: Constitution | None) -> PolicyTexts:
        if constitution is None:
            return PolicyTexts("", "guards", self._vocabulary.scopes)
        if constitution.schema_text != self._question.schema_text:
            raise InvalidConstitution("the question's schema is not the constitution's; give the same text for both")
        return self._vocabulary.law(constitution).guards

    def answer(self, index: int) -> EnvironmentAnswer:
        environment = self.environments[index]
        principal, action, resource = environment
        place = RequestEnvironment(principal=principal, action=action, resource=resource)
        policies = self._policies.in_environment(environment).text
        guards = self._guards.in_environment(environment).text
        condition = " && ".join(f"(\n{text}\n)" for text in (*self._question.assume, self._question.when))
        wanted = bound(environment, f"when {{ {condition} }}")
        allow = self._question.decision == "allow"
        in_force = f"{policies}\n{guards}"
        answer = (
            self._provers.ask(
                "implies",
                self._vocabulary.schema,
                environment,
                in_force,
                bound(environment, f"unless {{ {condition} }}"),
            )
            if allow
            else self._provers.ask("implies", self._vocabulary.schema, environment, wanted, in_force)
        )
        if answer.verdict == "proved":
            return EnvironmentAnswer(environment=place, answer="no")
        if answer.verdict == "unknown" or answer.case is None:
            return EnvironmentAnswer(environment=place, answer="unknown", reason=answer.reason)

        def shows(case: Case) -> bool:
            asked = self._vocabulary.evaluator.decide(wanted, "", case)
            decided = self._vocabulary.evaluator.decide(policies, guards, case)
            return asked is not None and decided is not None and asked.allowed and decided.allowed == allow

        if not shows(answer.case):
            return EnvironmentAnswer(
                environment=place, answer="unknown", reason="shown only on requests where a policy cannot be evaluated"
            )
        case = shrink(answer.case, shows)
        facts = explain.facts(case, self._question.when, *self._question.assume)
        words = f"{explain.can(case) if allow else explain.cannot(case)}{facts}."
        example = shown(self._vocabulary, case, self._policies.text, self._guards.text, words)
        return EnvironmentAnswer(environment=place, answer="yes", example=example)


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
        answer = self._provers.ask("never_errors", self._vocabulary.schema, environment, policy.text, None, policy.id)
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
        """Whether the decisions are the same without it."""
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
        kind: Literal["never_matches", "always_denies", "implies", "matches_implies", "matches_disjoint"],
        environment: Environment,
        a: str,
        b: str | None,
        policy_id: str | None = None,
        policy_id_b: str | None = None,
    ) -> Answer3:
        answer = self._provers.ask(kind, self._vocabulary.schema, environment, a, b, policy_id, policy_id_b)
        return "yes" if answer.verdict == "proved" else "no" if answer.verdict == "refuted" else "unknown"


class ConstitutionSession:
    """Contradictions and implications among invariants, one request environment at a time."""

    def __init__(self, constitution: Constitution, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution."""
        self._vocabulary = vocabularies.of(constitution.schema_text)
        self._provers = provers
        self._claims: dict[Environment, list[Claim]] = {}
        for claim in self._vocabulary.law(constitution).claims:
            self._claims.setdefault(claim.environment, []).append(claim)
        self.environments = [e for e in self._vocabulary.environments if e in self._claims]

    def look(self, index: int) -> tuple[list[Finding], int, dict[str, Answer3]]:
        """Findings here, the number of questions without an answer, and per claim (`principle:index`) whether the others
        imply it here."""
        environment = self.environments[index]
        claims = self._claims[environment]
        findings: list[Finding] = []
        undecided = 0
        for floor in claims:
            if not isinstance(floor.invariant, Always):
                continue
            for ceiling in claims:
                if not isinstance(ceiling.invariant, Never):
                    continue
                found, unknown = self._contradiction(environment, floor, ceiling, claims)
                findings += found
                undecided += unknown
        implied: dict[str, Answer3] = {
            f"{c.principle_id}:{c.index}": self._implied(environment, c, claims) for c in claims
        }
        return findings, undecided, implied

    def _contradiction(
        self, environment: Environment, floor: Claim, ceiling: Claim, claims: list[Claim]
    ) -> tuple[list[Finding], int]:
        """`always` against `never` on one request; else on two requests that a third invariant ties together.

        The set named is minimal: the third is named only where the two alone agree.
        """
        direct, unknown = self._clash(environment, floor, ceiling, None)
        if direct is not None or unknown:
            return ([direct] if direct is not None else []), int(unknown)
        findings: list[Finding] = []
        undecided = 0
        for tie in claims:
            if isinstance(tie.composition, Composition):
                found, unknown = self._clash(environment, floor, ceiling, tie)
                undecided += unknown
                if found is not None:
                    findings.append(found)
        return findings, undecided

    def _clash(
        self, environment: Environment, floor: Claim, ceiling: Claim, tie: Claim | None
    ) -> tuple[Finding | None, bool]:
        always, never = _when(floor), _when(ceiling)
        demanded = bound(environment, f"when {{\n{always}\n}}")
        allowed = bound(environment, f"unless {{\n{never}\n}}")
        schema = self._vocabulary.schema
        composition = tie.composition if tie is not None else None
        if isinstance(composition, Composition):
            policies = PolicyTexts(
                f"{demanded}\n{allowed.replace('acgs:bound', 'acgs:ceiling')}", "tie", self._vocabulary.scopes
            )
            one, two = policies.in_environment(environment).policies
            schema = composition.schema
            try:
                demanded, allowed = composition.texts(one)[0], composition.texts(two)[1]
            except CannotCompose:
                return None, True
            if tie is not None and tie.invariant.kind == "monotone_in":
                demanded = f"{demanded}\n{composition.low_to_high}"
        answer = self._provers.ask("implies", schema, environment, demanded, allowed)
        if answer.verdict != "refuted" or answer.case is None:
            return None, answer.verdict == "unknown"
        names = [floor.principle_id, ceiling.principle_id, *([tie.principle_id] if tie is not None else [])]
        shown_names = " and ".join(f"`{name}`" for name in dict.fromkeys(names))
        principal, action, resource = environment
        where = f"{principal} / {action} / {resource}"
        if tie is not None:
            words = (
                f"{shown_names} cannot all be kept in {where}: of two requests that the last one ties together, one must "
                "be allowed and the other denied."
            )
            return Finding(kind="contradiction", detail=words, principle_ids=list(dict.fromkeys(names))), False

        def shows(case: Case) -> bool:
            first = self._vocabulary.evaluator.decide(demanded, "", case)
            second = self._vocabulary.evaluator.decide(bound(environment, f"when {{\n{never}\n}}"), "", case)
            return first is not None and second is not None and first.allowed and second.allowed

        if not shows(answer.case):
            return None, True
        case = shrink(answer.case, shows)
        words = (
            f"{shown_names} cannot both be kept in {where}: `{explain.uid(case.principal)}` on "
            f"`{explain.uid(case.resource)}`{explain.facts(case, always, never)} must be allowed and must be denied."
        )
        example = shown(self._vocabulary, case, demanded, "", words)
        return Finding(kind="contradiction", detail=words, principle_ids=names, example=example), False

    def _implied(self, environment: Environment, claim: Claim, claims: list[Claim]) -> Answer3:
        """Whether the other invariants of its kind say as much already."""
        others = [c for c in claims if c is not claim and c.invariant.kind == claim.invariant.kind]
        if not others or not isinstance(claim.invariant, Never | Always):
            return "no"
        union = " || ".join(f"(\n{_when(other)}\n)" for other in others)
        own = _when(claim)
        if isinstance(claim.invariant, Never):
            a, b = bound(environment, f"unless {{ {union} }}"), bound(environment, f"unless {{\n{own}\n}}")
        else:
            # One permit per floor: a permit that fails to evaluate must not hide the others.
            a = bound(environment, f"when {{\n{own}\n}}")
            b = "\n".join(
                bound(environment, f"when {{\n{_when(other)}\n}}", f"acgs:floor-{number}")
                for number, other in enumerate(others)
            )
        answer = self._provers.ask("implies", self._vocabulary.schema, environment, a, b)
        return "yes" if answer.verdict == "proved" else "no" if answer.verdict == "refuted" else "unknown"


def _when(claim: Claim) -> str:
    if isinstance(claim.invariant, Never | Always):
        return claim.invariant.when
    raise AssertionError("INVARIANT: only `never` and `always` have a condition")
