"""What invariants say together: contradictions, and what the others imply."""

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, MonotoneIn, Never
from acgs1.contracts.formal_verification import Finding
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    Environment,
    Evaluator,
    PolicyTexts,
)
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition
from acgs1.services.formal_verification.adapters.kernel.examples import bound, shown
from acgs1.services.formal_verification.adapters.kernel.law import (
    Claim,
    Vocabularies,
    attributes_of,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import Answer3


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
