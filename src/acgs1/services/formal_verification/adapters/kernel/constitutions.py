"""What invariants say together: contradictions, and what the others imply."""

from dataclasses import dataclass

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
from acgs1.services.formal_verification.adapters.kernel.reach import reached
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION, Answer3, law_findings


@dataclass(frozen=True)
class Look:
    """What there is to say about the invariants in one request environment.

    `unanswered`: the questions without an answer, with the reason. Per claim (`principle:index`): whether the others imply it
    here, and whether it is about no request at all here.
    """

    findings: list[Finding]
    unanswered: list[str]
    implied: dict[str, Answer3]
    vacuous: dict[str, Answer3]


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

    def look(self, index: int) -> Look:
        environment = self.environments[index]
        claims = self._claims[environment]
        unanswered: list[str] = []
        findings = self._contradictions(environment, claims, unanswered)
        vacuous: dict[str, Answer3] = {_name(c): self._vacuous(environment, c, unanswered) for c in claims}
        implied: dict[str, Answer3] = {
            _name(c): "yes" if vacuous[_name(c)] == "yes" else self._implied(environment, c, claims, unanswered)
            for c in claims
        }
        return Look(findings, unanswered, implied, vacuous)

    def vacuous(self) -> list[Finding]:
        """Invariants that are about no request at all, for whoever needs to know nothing else."""
        looks = [
            {"vacuous": {_name(c): self._vacuous(environment, c, []) for c in claims}, "implied": {}}
            for environment, claims in self._claims.items()
        ]
        return law_findings(looks)

    def _contradictions(self, environment: Environment, claims: list[Claim], unanswered: list[str]) -> list[Finding]:
        floors = [c for c in claims if isinstance(c.invariant, Always)]
        ceilings = [c for c in claims if isinstance(c.invariant, Never)]
        if not floors or not ceilings:
            return []
        ties, unused = self._usable(environment, claims)
        unanswered += [f"whether {_words(tie)} leads to a contradiction{reason}" for tie, reason in unused]
        answer, _ = self._clash(environment, floors, ceilings, ties)
        if answer.verdict == "proved":
            return []
        return [
            finding
            for floor in floors
            for ceiling in ceilings
            if (finding := self._contradiction(environment, floor, ceiling, ties, unanswered)) is not None
        ]

    def _usable(self, environment: Environment, claims: list[Claim]) -> tuple[list[Claim], list[tuple[Claim, str]]]:
        """The ties that can be put into one question, and those that cannot, with the reason."""
        used: list[Claim] = []
        unused: list[tuple[Claim, str]] = []
        for tie in claims:
            if not isinstance(tie.invariant, IndifferentTo | MonotoneIn):
                continue
            try:
                self._compose(environment, [*used, tie])
            except CannotCompose as error:
                unused.append((tie, _because(environment, str(error))))
                continue
            used.append(tie)
        return used, unused

    def _compose(self, environment: Environment, ties: list[Claim]) -> Composition:
        """Raises CannotCompose."""
        paths = dict.fromkeys(path for tie in ties for path in _attributes(tie))
        return Composition(self._vocabulary.view, environment, tuple(paths))

    def _contradiction(
        self, environment: Environment, floor: Claim, ceiling: Claim, ties: list[Claim], unanswered: list[str]
    ) -> Finding | None:
        """`always` against `never`, on one request or on two that a chain of ties leads from one to the other.

        The set named is minimal: without any of it, the rest can be kept. There may be other minimal sets about the same pair.
        """
        question = f"whether {_words(floor)} contradicts {_words(ceiling)}"
        needed = ties
        answer, composition = self._clash(environment, [floor], [ceiling], needed)
        if answer.verdict != "refuted" or answer.case is None:
            if answer.verdict == "unknown":
                unanswered.append(f"{question}{_because(environment, answer.reason)}")
            return None
        for tie in ties:
            fewer = [other for other in needed if other is not tie]
            again, without = self._clash(environment, [floor], [ceiling], fewer)
            if again.verdict == "refuted" and again.case is not None:
                needed, answer, composition = fewer, again, without
            elif again.verdict == "unknown":
                unanswered.append(f"{question} without {_words(tie)}{_because(environment, again.reason)}")
        finding = self._shown(environment, floor, ceiling, needed, answer, composition)
        if finding is None:
            unanswered.append(f"{question}{_because(environment, CONTRADICTION)}")
        return finding

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
        if raised := _raised(ties):
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

    def _vacuous(self, environment: Environment, claim: Claim, unanswered: list[str]) -> Answer3:
        """Whether the invariant is about no request at all here."""
        if isinstance(claim.invariant, IndifferentTo | MonotoneIn):
            return "no"
        text = _permit(environment, _when(claim))
        answer = self._provers.ask("never_matches", self._vocabulary.schema, environment, text, None, "acgs:bound")
        return _settled(answer, f"whether {_words(claim)} is about any request", environment, unanswered)

    def _implied(self, environment: Environment, claim: Claim, claims: list[Claim], unanswered: list[str]) -> Answer3:
        """Whether the others say as much already: those of its kind, as they stand or over a step of each tie."""
        others = [c for c in claims if c is not claim]
        if isinstance(claim.invariant, IndifferentTo | MonotoneIn):
            return "yes" if _carried(claim, others) else "no"
        same = [c for c in others if c.invariant.kind == claim.invariant.kind]
        if not same:
            return "no"
        own = _permit(environment, _when(claim))
        # One permit for each: one that fails to evaluate must not hide the others.
        said = "\n".join(_permit(environment, _when(c), f"acgs:said-{number}") for number, c in enumerate(same))
        answer = self._provers.ask("implies", self._vocabulary.schema, environment, own, said)
        if answer.verdict == "refuted" and (further := self._reached(environment, claim, said, others)):
            said = "\n".join([said, *further])
            answer = self._provers.ask("implies", self._vocabulary.schema, environment, own, said)
        return _settled(answer, f"whether the others imply {_words(claim)}", environment, unanswered)

    def _reached(self, environment: Environment, claim: Claim, said: str, others: list[Claim]) -> list[str]:
        """Permits about further requests of which the ties among the others say what `said` says.

        Where allowing a request would allow, step by step, one that must be denied, it must be denied; and a request must be
        allowed to which steps lead from one that must be allowed.
        """
        ties, _ = self._usable(environment, others)
        if not ties:
            return []
        policies = PolicyTexts(said, "said", self._vocabulary.scopes).in_environment(environment).policies
        upwards = isinstance(claim.invariant, Never)
        composition = self._compose(environment, ties)
        return reached(self._vocabulary.schema, composition, policies, _raised(ties), upwards=upwards)


def _name(claim: Claim) -> str:
    return f"{claim.principle_id}:{claim.index}"


def _words(claim: Claim) -> str:
    return f"invariant {claim.index} of principle `{claim.principle_id}`"


def _because(environment: Environment, reason: str | None) -> str:
    return f", in {' / '.join(environment)}: {reason or 'the prover gave no reason'}"


def _settled(answer: Answer, question: str, environment: Environment, unanswered: list[str]) -> Answer3:
    if answer.verdict == "unknown":
        unanswered.append(f"{question}{_because(environment, answer.reason)}")
        return "unknown"
    return "yes" if answer.verdict == "proved" else "no"


def _raised(ties: list[Claim]) -> set[str]:
    """The attributes that only monotone ties are about."""
    free = {path for tie in ties if isinstance(tie.invariant, IndifferentTo) for path in _attributes(tie)}
    return {path for tie in ties for path in _attributes(tie)} - free


def _carried(claim: Claim, others: list[Claim]) -> bool:
    """Whether steps of the others lead wherever a step of this one does: indifference to each attribute is indifference to
    all of them, and more than monotony."""
    free = {path for c in others if isinstance(c.invariant, IndifferentTo) for path in _attributes(c)}
    if isinstance(claim.invariant, MonotoneIn):
        free |= {c.invariant.attribute for c in others if isinstance(c.invariant, MonotoneIn)}
    return set(_attributes(claim)) <= free


def _in_order(low: Case, high: Case, ties: list[Claim]) -> bool:
    """Whether the chain of ties leads from `low` to `high`: what only a monotone tie changes is raised or unchanged."""
    for path in _raised(ties):
        before, after = explain.value_at(low, path), explain.value_at(high, path)
        if before is not after and not (isinstance(before, int) and isinstance(after, int) and before <= after):
            return False
    return True


def _permit(environment: Environment, when: str, name: str = "acgs:bound") -> str:
    return bound(environment, f"when {{\n{when}\n}}", name)


def _forbid(environment: Environment, when: str, name: str) -> str:
    return bound(environment, f"when {{\n{when}\n}}", name, "forbid")


def _attributes(claim: Claim) -> tuple[str, ...]:
    if isinstance(claim.invariant, IndifferentTo | MonotoneIn):
        return attributes_of(claim.invariant)
    return ()


def _when(claim: Claim) -> str:
    if isinstance(claim.invariant, Never | Always):
        return claim.invariant.when
    raise AssertionError("INVARIANT: only `never` and `always` have a condition")
