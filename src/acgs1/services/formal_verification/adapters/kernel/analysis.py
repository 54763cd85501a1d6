"""Questions beside compliance: what can ever happen, what does nothing, what contradicts."""

from dataclasses import dataclass
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, MonotoneIn, Never
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
    Evaluator,
    PolicyTexts,
    Slice,
    items_of,
)
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition
from acgs1.services.formal_verification.adapters.kernel.decisions import Decisions, why_denied
from acgs1.services.formal_verification.adapters.kernel.law import (
    Claim,
    Vocabularies,
    Vocabulary,
    attributes_of,
    first_of,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION, Answer3, PolicyFacts
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
        self._decisions = Decisions(question.schema_text, provers)
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
        policies = self._policies.in_environment(environment)
        guards = self._guards.in_environment(environment)
        condition = " && ".join(f"(\n{text}\n)" for text in (*self._question.assume, self._question.when))
        wanted = bound(environment, f"when {{ {condition} }}")
        allow = self._question.decision == "allow"
        in_force = self._decisions.text(Slice([*policies.policies, *guards.policies]), environment)
        # What is wanted is put as a permit, never as its negation: where the condition cannot be evaluated, it does not hold.
        answer = (
            self._provers.ask("disjoint", self._vocabulary.schema, environment, in_force, wanted)
            if allow
            else self._provers.ask("implies", self._vocabulary.schema, environment, wanted, in_force)
        )
        if answer.verdict == "proved":
            return EnvironmentAnswer(environment=place, answer="no")
        if answer.verdict == "unknown" or answer.case is None:
            return EnvironmentAnswer(environment=place, answer="unknown", reason=answer.reason)

        def shows(case: Case) -> bool:
            asked = self._vocabulary.evaluator.decide(wanted, "", case)
            decided = self._vocabulary.evaluator.decide(policies.text, guards.text, case)
            return asked is not None and decided is not None and asked.allowed and decided.allowed == allow

        if not shows(answer.case):
            question = {"a": in_force, "b": wanted, "decision": self._question.decision}
            self._provers.report(CONTRADICTION, {"schema": self._vocabulary.schema, **question})
            return EnvironmentAnswer(environment=place, answer="unknown", reason=CONTRADICTION)
        case = shrink(answer.case, shows)
        facts = explain.facts(case, self._question.when, *self._question.assume)
        words = f"{explain.can(case)}{facts}." if allow else f"{explain.cannot(case)}{facts}{self._failure(case)}."
        example = shown(self._vocabulary, case, self._policies.text, self._guards.text, words)
        return EnvironmentAnswer(environment=place, answer="yes", example=example)

    def _failure(self, case: Case) -> str:
        """That it is denied because of a policy that cannot be evaluated, where that is why."""
        decision = self._vocabulary.evaluator.decide(self._policies.text, self._guards.text, case)
        if decision is None or not decision.errored:
            return ""
        return f": {why_denied(decision, case, {**self._policies.policies, **self._guards.policies})}"


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


class ConstitutionSession:
    """Contradictions and implications among invariants, one request environment at a time.

    A policy set is, for this question, any choice of a decision for each request. `always` chooses allow, `never` deny, and
    `indifferent_to` and `monotone_in` carry an allow from one request to others. So the invariants contradict one another
    exactly when some chain of such steps leads from a request of an `always` to one of a `never`. However long the chain: its
    ends differ in the attributes of its steps alone, and where they do, one step per attribute is enough. So one
    question about two requests, with the attributes of all of them free (or raised, where no step but a monotone one changes
    them), is the question about every chain.
    """

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
        findings, undecided = self._contradictions(environment, claims)
        implied: dict[str, Answer3] = {
            f"{c.principle_id}:{c.index}": self._implied(environment, c, claims) for c in claims
        }
        return findings, undecided, implied

    def _contradictions(self, environment: Environment, claims: list[Claim]) -> tuple[list[Finding], int]:
        floors = [c for c in claims if isinstance(c.invariant, Always)]
        ceilings = [c for c in claims if isinstance(c.invariant, Never)]
        if not floors or not ceilings:
            return [], 0
        ties = [c for c in claims if isinstance(c.invariant, IndifferentTo | MonotoneIn)]
        ties, undecided = self._usable(environment, ties)
        answer, _ = self._clash(environment, floors, ceilings, ties)
        if answer.verdict == "proved":
            return [], undecided
        findings: list[Finding] = []
        for floor in floors:
            for ceiling in ceilings:
                found, unknown = self._contradiction(environment, floor, ceiling, ties)
                undecided += unknown
                findings += found
        return findings, undecided

    def _usable(self, environment: Environment, ties: list[Claim]) -> tuple[list[Claim], int]:
        """The ties that can be put into one question, and how many cannot."""
        used: list[Claim] = []
        for tie in ties:
            try:
                self._compose(environment, [*used, tie])
            except CannotCompose:
                continue
            used.append(tie)
        return used, len(ties) - len(used)

    def _compose(self, environment: Environment, ties: list[Claim]) -> Composition:
        """Raises CannotCompose."""
        paths = dict.fromkeys(path for tie in ties for path in _attributes(tie))
        return Composition(self._vocabulary.view, environment, tuple(paths))

    def _contradiction(
        self, environment: Environment, floor: Claim, ceiling: Claim, ties: list[Claim]
    ) -> tuple[list[Finding], int]:
        """`always` against `never`, on one request or on two that a chain of ties leads from one to the other.

        The set named is minimal: without any of it, the rest can be kept. There may be other minimal sets about the same pair.
        """
        needed = ties
        answer, composition = self._clash(environment, [floor], [ceiling], needed)
        if answer.verdict != "refuted" or answer.case is None:
            return [], int(answer.verdict == "unknown")
        undecided = 0
        for tie in ties:
            fewer = [other for other in needed if other is not tie]
            again, without = self._clash(environment, [floor], [ceiling], fewer)
            if again.verdict == "refuted" and again.case is not None:
                needed, answer, composition = fewer, again, without
            elif again.verdict == "unknown":
                undecided += 1
        finding = self._shown(environment, floor, ceiling, needed, answer, composition)
        return ([finding], undecided) if finding is not None else ([], undecided + 1)

    def _clash(
        self, environment: Environment, floors: list[Claim], ceilings: list[Claim], ties: list[Claim]
    ) -> tuple[Answer, Composition | None]:
        """Whether whatever the floors demand stays clear of what the ceilings forbid, over every chain of `ties`."""
        demanded = "\n".join(_permit(environment, _when(floor), f"acgs:floor-{n}") for n, floor in enumerate(floors))
        allowed = "\n".join(
            (
                _permit(environment, "true", "acgs:rest"),
                *(_forbid(environment, _when(ceiling), f"acgs:ceiling-{n}") for n, ceiling in enumerate(ceilings)),
            )
        )
        if not ties:
            return self._provers.ask("implies", self._vocabulary.schema, environment, demanded, allowed), None
        try:
            composition = self._compose(environment, ties)
            scopes = self._vocabulary.scopes
            first = PolicyTexts(demanded, "floors", scopes).in_environment(environment).policies
            second = PolicyTexts(allowed, "ceilings", scopes).in_environment(environment).policies
            low = "\n".join(composition.texts(policy)[0] for policy in first)
            high = "\n".join(composition.texts(policy)[1] for policy in second)
        except CannotCompose as error:
            return Answer.not_asked(str(error)), None
        free = {path for tie in ties if isinstance(tie.invariant, IndifferentTo) for path in _attributes(tie)}
        raised = {path for tie in ties for path in _attributes(tie)} - free
        if raised:
            low = f"{low}\n{composition.unless_raised(raised)}"
        return self._provers.ask("implies", composition.schema, environment, low, high), composition

    def _shown(
        self,
        environment: Environment,
        floor: Claim,
        ceiling: Claim,
        ties: list[Claim],
        answer: Answer,
        composition: Composition | None,
    ) -> Finding | None:
        """The contradiction with one or two requests that show it; None where the evaluator does not confirm them."""
        if answer.case is None:
            return None
        always, never = _when(floor), _when(ceiling)
        must, must_not = _permit(environment, always), _permit(environment, never)
        extended = Evaluator(composition.schema) if composition is not None else None

        def pair(case: Case) -> tuple[Case, Case] | None:
            if composition is None or extended is None:
                return case, case
            if extended.decide("", "", case) is None:
                return None
            try:
                one, two = composition.split(case.principal, case.resource, case.context, case.entities)
            except KeyError:
                return None
            who = case.principal, case.action, case.resource
            return Case(*who, *one), Case(*who, *two)

        def shows(case: Case) -> bool:
            both = pair(case)
            if both is None or not _in_order(*both, ties):
                return False
            first = self._vocabulary.evaluator.decide(must, "", both[0])
            second = self._vocabulary.evaluator.decide(must_not, "", both[1])
            return first is not None and second is not None and first.allowed and second.allowed

        if not shows(answer.case):
            return None
        both = pair(shrink(answer.case, shows))
        if both is None:
            raise AssertionError("INVARIANT: what shows the property is a pair")
        case, other = both
        names = list(dict.fromkeys((floor.principle_id, ceiling.principle_id, *(tie.principle_id for tie in ties))))
        named = " and ".join(f"`{name}`" for name in names)
        who = f"`{explain.uid(case.principal)}` on `{explain.uid(case.resource)}`"
        where = " / ".join(environment)
        if not ties:
            words = (
                f"{named} cannot both be kept in {where}: {who}{explain.facts(case, always, never)} must be allowed and "
                "must be denied."
            )
        else:
            paths = [path for tie in ties for path in _attributes(tie)]
            by = " and ".join(f"`{name}`" for name in dict.fromkeys(tie.principle_id for tie in ties))
            words = (
                f"{named} cannot all be kept in {where}: {who}{explain.facts(case, always, never, *paths)} must be allowed, "
                f"then by {by} also{explain.facts(other, *paths)}, where it must be denied."
            )
        example = shown(self._vocabulary, case, must, "", words)
        if ties:
            denied = _forbid(environment, never, "acgs:bound")
            example = example.model_copy(update={"paired": shown(self._vocabulary, other, denied, "", words)})
        return Finding(kind="contradiction", detail=words, principle_ids=names, example=example)

    def _implied(self, environment: Environment, claim: Claim, claims: list[Claim]) -> Answer3:
        """Whether the other invariants of its kind say as much already."""
        if isinstance(claim.invariant, IndifferentTo | MonotoneIn):
            return "yes" if _carried(claim, [c for c in claims if c is not claim]) else "no"
        others = [c for c in claims if c is not claim and c.invariant.kind == claim.invariant.kind]
        if not others:
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


def _carried(claim: Claim, others: list[Claim]) -> bool:
    """Whether steps of the others lead wherever a step of this one does: indifference to each attribute is indifference to
    all of them, and more than monotony."""
    free = {path for c in others if isinstance(c.invariant, IndifferentTo) for path in _attributes(c)}
    if isinstance(claim.invariant, MonotoneIn):
        free |= {c.invariant.attribute for c in others if isinstance(c.invariant, MonotoneIn)}
    return set(_attributes(claim)) <= free


def _in_order(low: Case, high: Case, ties: list[Claim]) -> bool:
    """Whether the chain of ties leads from `low` to `high`: what only a monotone tie changes is raised or unchanged."""
    free = {path for tie in ties if isinstance(tie.invariant, IndifferentTo) for path in _attributes(tie)}
    for path in {path for tie in ties for path in _attributes(tie)} - free:
        before, after = explain.value_at(low, path), explain.value_at(high, path)
        if before is not after and not (isinstance(before, int) and isinstance(after, int) and before <= after):
            return False
    return True


def _permit(environment: Environment, when: str, name: str = "acgs:bound") -> str:
    return bound(environment, f"when {{\n{when}\n}}", name)


def _forbid(environment: Environment, when: str, name: str) -> str:
    return _permit(environment, when, name).replace("\npermit (", "\nforbid (", 1)


def _attributes(claim: Claim) -> tuple[str, ...]:
    if isinstance(claim.invariant, IndifferentTo | MonotoneIn):
        return attributes_of(claim.invariant)
    return ()


def _when(claim: Claim) -> str:
    if isinstance(claim.invariant, Never | Always):
        return claim.invariant.when
    raise AssertionError("INVARIANT: only `never` and `always` have a condition")
