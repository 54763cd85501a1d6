"""What must be proved of a policy set under a constitution, and the proofs themselves."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, MonotoneIn, Never
from acgs1.contracts.formal_verification import Counterexample, Obligation, Suggestion
from acgs1.contracts.guards import scope_text
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    RESERVED_PREFIXES,
    CedarPolicy,
    Environment,
    Evaluator,
    Slice,
)
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition
from acgs1.services.formal_verification.adapters.kernel.examples import bound, counterexample, place
from acgs1.services.formal_verification.adapters.kernel.guess import conditions_of, guess
from acgs1.services.formal_verification.adapters.kernel.law import Claim, Compliant, Vocabularies, attributes_of
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, CheckKind, Provers, all_of
from acgs1.services.formal_verification.adapters.kernel.schema_view import split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.adapters.kernel.suggest import (
    blinding_edit,
    bounding_edit,
    forbidding_edit,
    permitting_edit,
)
from acgs1.services.formal_verification.domain import CONTRADICTION, IDENTITY, INCREMENTAL, script_digest, strength_of

Json = dict[str, Any]
Kind = Literal["never", "always", "indifferent_to", "monotone_in", "never_errors"]

_PERMITS_PER_QUESTION = 8
PERMITS_TRIED = 4
"""Permits for which a request is guessed before a solver is asked: where one of them is to blame, it is usually alone or new."""
_SUGGESTION_TIMEOUTS = 1.5
"""Time for the edits tried for one refutation, in time-outs of the solver: one candidate may take a whole one, and the search
must end before the worker is killed for it, which would cost the refutation itself."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One obligation before its proof. `key` names everything its verdict depends on: equal keys, equal verdicts."""

    id: str
    kind: Kind
    principle_id: str | None
    invariant_index: int | None
    policy_id: str | None
    environment: Environment
    key: str


@dataclass(frozen=True, slots=True)
class _Work:
    planned: Planned
    prove: Callable[[], Obligation]


class VerificationSession:
    """The obligations of one policy set under one constitution, planned at once and proved one by one."""

    def __init__(self, policies: str, constitution: Constitution, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution, InvalidPolicies."""
        self._vocabulary = vocabularies.of(constitution.schema_text)
        self._provers = provers
        self._law = self._vocabulary.law(constitution)
        self._guards = self._law.guards
        self._policies = self._vocabulary.policies(policies)
        self._base_key = f"{provers.identity}\n{self._vocabulary.hash}"
        self._left_ms = math.inf
        self._work = [*(self._claim_work(claim) for claim in self._law.claims), *self._error_work()]

    @property
    def principles_without_invariants(self) -> list[str]:
        return self._law.principles_without_invariants

    @property
    def planned(self) -> list[Planned]:
        return [work.planned for work in self._work]

    def prove(self, index: int) -> Obligation:
        """The verdict on obligation number `index`."""
        return self._work[index].prove()

    # --- planning ------------------------------------------------------------------------------------------------

    def _claim_work(self, claim: Claim) -> _Work:
        invariant = claim.invariant
        policies = self._policies.in_environment(claim.environment)
        guards = self._guards.in_environment(claim.environment)
        match invariant:
            case Never():
                # Policies without the guards: they must comply by themselves, the guards are the second line.
                planned = self._plan_claim(claim, policies.hash, invariant.when)
                return _Work(planned, lambda: self._prove_never(planned, invariant, policies))
            case Always():
                planned = self._plan_claim(claim, policies.hash, guards.hash, invariant.when)
                return _Work(planned, lambda: self._prove_always(planned, invariant, policies, guards))
            case IndifferentTo() | MonotoneIn():
                paths = attributes_of(invariant)
                planned = self._plan_claim(claim, policies.hash, guards.hash, *paths)
                composition = claim.composition
                if not isinstance(composition, Composition):
                    return _Work(planned, lambda: _obligation(planned, Answer.not_asked(composition or "")))
                return _Work(planned, lambda: self._prove_two_run(planned, paths, composition, policies, guards))

    def _error_work(self) -> list[_Work]:
        work: list[_Work] = []
        owners = self._law.guard_principles
        for environment in self._vocabulary.environments:
            policies = self._policies.in_environment(environment).policies
            guards = self._guards.in_environment(environment).policies
            for policy in (*policies, *guards):
                owner = owners.get(policy.id)
                planned = self._plan("never_errors", owner, None, policy.id, environment, policy.hash)
                work.append(_Work(planned, lambda p=planned, c=policy: self._prove_never_errors(p, c)))
        return work

    def _plan_claim(self, claim: Claim, *depends_on: str) -> Planned:
        kind = claim.invariant.kind
        return self._plan(kind, claim.principle_id, claim.index, None, claim.environment, *depends_on)

    def _plan(
        self,
        kind: Kind,
        principle_id: str | None,
        index: int | None,
        policy_id: str | None,
        environment: Environment,
        *depends_on: str,
    ) -> Planned:
        principal, action, resource = environment
        subject = policy_id if kind == "never_errors" else f"{principle_id}:{index}"
        name = f"{kind}:{subject}@{principal}/{action}/{resource}"
        key = text_hash(json.dumps((self._base_key, name, principle_id, *depends_on)))
        return Planned(name, kind, principle_id, index, policy_id, environment, key)

    # --- never, always -------------------------------------------------------------------------------------------

    def _prove_never(self, planned: Planned, invariant: Never, policies: Slice) -> Obligation:
        ceiling = bound(planned.environment, f"unless {{\n{invariant.when}\n}}")

        def violates(case: Case, strict: bool) -> bool:
            decided = self._decide_slice(policies, Slice([]), case, strict)
            within = self._applies(ceiling, case)
            return decided is not None and decided.allowed and within is False

        suspects = self._compliant(planned, exact=False).unproved(policies).policies
        permits = [policy for policy in suspects if policy.effect == "permit"][:PERMITS_TRIED]
        answer = self._guess(planned, ceiling, False, permits, violates) or self._ask_ceiling(
            planned, policies, ceiling
        )

        def words(case: Case) -> str:
            let_through = explain.policies_words(self._reasons(case), "no policy")
            told = self._decide(bound(planned.environment, f"when {{\n{invariant.when}\n}}"), case)
            # There the guard fails too, and denies; but policies must keep a ceiling by themselves, so they do not keep it.
            law = (
                f"where the condition of principle `{planned.principle_id}` cannot be evaluated"
                if told is not None and told.errored
                else f"which principle `{planned.principle_id}` forbids"
            )
            return f"{explain.can(case)}{explain.facts(case, invariant.when)}, {law}: let through by {let_through}."

        def suggest(case: Case) -> Suggestion | None:
            return forbidding_edit(
                invariant,
                policies,
                self._reasons(case),
                lambda text: self._ask("implies", planned.environment, text, ceiling),
                self._permits_behind,
                partial(self._never_fails, planned.environment),
                self._vocabulary.schema,
            )

        return self._settle(planned, answer, violates, words, suggest, guarded=False)

    def _guess(
        self,
        planned: Planned,
        edge: str,
        applies: bool,
        permits: list[CedarPolicy] | None,
        violates: Callable[[Case, bool], bool],
    ) -> Answer | None:
        """A refutation by a request that is plain enough to be made without a solver, if the evaluator confirms it.

        `edge`, a policy with one condition, is to apply or not to; of `permits`, one at a time is to apply as well, where there must
        be one.
        """
        started = time.perf_counter()
        limits = [(body, value is applies) for body, value in conditions_of(edge)]
        for more in [()] if permits is None else [conditions_of(permit.text) for permit in permits]:
            case = guess(self._vocabulary.view, planned.environment, [*limits, *more])
            if case is not None and violates(case, True):
                return Answer.guessed(case, (time.perf_counter() - started) * 1000)
        return None

    def _ask_ceiling(self, planned: Planned, policies: Slice, ceiling: str) -> Answer:
        """Whether `policies` stay under `ceiling`, asked only about the permits for which that is not known yet."""
        compliant = self._compliant(planned, exact=False)
        asked = compliant.unproved(policies)
        answer = self._ask("implies", planned.environment, asked.text, ceiling)
        if answer.verdict == "proved":
            compliant.learn(policies)
            if len(asked.policies) < len(policies.policies):
                # Asked about the changed permits alone, which the evidence says; what is signed is the script about all.
                schema, place = self._vocabulary.schema, planned.environment
                whole = self._provers.script_sha256("implies", schema, place, policies.text, ceiling)
                return replace(answer, solver=f"{answer.solver}{INCREMENTAL}", smtlib_sha256=whole)
        return answer

    def _compliant(self, planned: Planned, *, exact: bool) -> Compliant:
        place = (planned.principle_id or "", planned.invariant_index or 0, planned.environment)
        return self._law.compliant.setdefault(place, Compliant(exact=exact))

    def _prove_always(self, planned: Planned, invariant: Always, policies: Slice, guards: Slice) -> Obligation:
        floor = bound(planned.environment, f"when {{\n{invariant.when}\n}}")

        def violates(case: Case, strict: bool) -> bool:
            required = self._applies(floor, case)
            decided = self._decide_slice(policies, guards, case, strict)
            return required is True and decided is not None and not decided.allowed

        answer = self._guess(planned, floor, True, None, violates) or self._ask(
            "implies", planned.environment, floor, f"{policies.text}\n{guards.text}"
        )

        def words(case: Case) -> str:
            decision = self._decide(self._policies.text, case, self._guards.text)
            stopped = list(decision.reasons) + list(decision.guard) if decision is not None else []
            why = f"denied by {explain.policies_words(sorted(set(stopped)), '')}" if stopped else "no policy permits it"
            return (
                f"{explain.cannot(case)}{explain.facts(case, invariant.when)}, which principle "
                f"`{planned.principle_id}` says must be allowed: {why}."
            )

        def denying(text: str, case: Case) -> list[str]:
            decision = self._decide(text, case)
            return sorted(decision.reasons) if decision is not None and not decision.allowed else []

        def suggest(case: Case) -> Suggestion | None:
            return permitting_edit(
                invariant,
                scope_text(invariant),
                policies,
                denying(policies.text, case),
                lambda text: self._ask("implies", planned.environment, floor, f"{text}\n{guards.text}"),
                denying,
                partial(self._never_fails, planned.environment),
                self._vocabulary.schema,
            )

        return self._settle(planned, answer, violates, words, suggest, guarded=True)

    # --- never_errors --------------------------------------------------------------------------------------------

    def _prove_never_errors(self, planned: Planned, policy: CedarPolicy) -> Obligation:
        answer = self._ask("never_errors", planned.environment, policy.text, None, policy.id)

        def fails(case: Case, _: bool) -> bool:
            decision = self._decide(policy.text, case)
            return decision is not None and bool(decision.errors)

        def words(case: Case) -> str:
            decision = self._decide(policy.text, case)
            error = decision.errors[0] if decision is not None and decision.errors else "an evaluation error"
            return (
                f"When `{explain.uid(case.principal)}` asks for `{split_uid(case.action)[1]}` on "
                f"`{explain.uid(case.resource)}`{explain.facts(case, policy.text)}, policy `{policy.id}` cannot be "
                f"evaluated, which denies the request: {error.rstrip('.')}."
            )

        def suggest(_: Case) -> Suggestion | None:
            if policy.id.startswith(RESERVED_PREFIXES):
                # A guard is made of its invariant, which is what would have to be edited.
                return None
            return bounding_edit(
                policy,
                lambda text: self._ask("never_errors", planned.environment, text, None, policy.id),
                self._vocabulary.schema,
            )

        return self._settle(planned, answer, fails, words, suggest, guarded=True)

    # --- indifferent_to, monotone_in -----------------------------------------------------------------------------

    def _prove_two_run(
        self,
        planned: Planned,
        paths: tuple[str, ...],
        composition: Composition,
        policies: Slice,
        guards: Slice,
    ) -> Obligation:
        monotone = planned.kind == "monotone_in"
        in_force = Slice([*policies.policies, *guards.policies])
        try:
            answer = self._ask_two_runs(planned, composition, in_force)
        except CannotCompose as error:
            return _obligation(planned, Answer.not_asked(str(error)))
        extended = Evaluator(composition.schema)

        def pair(case: Case) -> tuple[Case, Case] | None:
            try:
                one, two = composition.split(case.principal, case.resource, case.context, case.entities)
            except KeyError:
                return None
            return (
                Case(case.principal, case.action, case.resource, *one),
                Case(case.principal, case.action, case.resource, *two),
            )

        def differ(case: Case, strict: bool) -> bool:
            both = pair(case)
            # Both halves are in `case` as long as it is a request of the extended schema.
            if both is None or extended.decide("", "", case) is None:
                return False
            one, two = (self._decide_slice(policies, guards, each, strict) for each in both)
            if one is None or two is None:
                return False
            if not monotone:
                return one.allowed != two.allowed
            low, high = (explain.value_at(each, paths[0]) for each in both)
            ordered = isinstance(low, int) and isinstance(high, int) and low <= high
            return ordered and one.allowed and not two.allowed

        def suggest() -> Suggestion | None:
            reading = [policy for policy in policies.policies if composition.reads(policy)]

            def prove(changes: dict[str, CedarPolicy | None]) -> Answer:
                edited = [changes.get(policy.id, policy) for policy in policies.policies]
                left = [policy for policy in edited if policy is not None]
                try:
                    return self._ask_two_runs(planned, composition, Slice([*left, *guards.policies]))
                except CannotCompose as error:
                    return Answer.not_asked(str(error))

            return blinding_edit(reading, paths, prove, self._vocabulary.schema)

        return self._settle_pair(planned, answer, differ, pair, paths, suggest)

    def _ask_two_runs(self, planned: Planned, composition: Composition, policies: Slice) -> Answer:
        """Whether the two runs of `policies` agree (or, for `monotone_in`, the first implies the second).

        Each group of permits is asked about alone with the forbids first: when every group keeps the property, so does
        the set, because a set allows what one of its permits allows and no forbid denies. Only when a group does not is
        the whole set asked about, where one permit may make up for another. Raises CannotCompose.
        """
        changed = {policy.hash for policy in policies.policies if composition.reads(policy)}
        if not changed:
            return Answer("proved", None, None, None, f"{IDENTITY}: no policy reads the attributes", 0.0)
        forbids = [policy for policy in policies.policies if policy.effect == "forbid"]
        compliant = self._compliant(planned, exact=True)
        relevant = [policy for policy in policies.policies if policy.effect == "permit"]
        if not any(policy.hash in changed for policy in forbids):
            relevant = [policy for policy in relevant if policy.hash in changed]
        left = {policy.hash for policy in compliant.unproved(policies).policies}
        asked = [policy for policy in relevant if policy.hash in left]
        answers: list[Answer] = []
        for group in _groups(asked, forbids):
            answers.append(self._ask_group(planned, composition, group))
            if answers[-1].verdict != "proved":
                return (
                    answers[-1]
                    if len(group) == len(policies.policies)
                    else self._ask_group(planned, composition, policies.policies)
                )
        compliant.learn(policies)
        if not relevant:
            return Answer("proved", None, None, None, f"{IDENTITY}: no policy permits anything", 0.0)
        if len(asked) == len(relevant):
            return all_of(answers)
        whole = self._hash_of_groups(planned, composition, relevant, forbids)
        if not answers:
            return Answer("proved", None, None, whole, f"none{INCREMENTAL}", 0.0)
        return replace(all_of(answers, INCREMENTAL), smtlib_sha256=whole)

    def _hash_of_groups(
        self, planned: Planned, composition: Composition, permits: list[CedarPolicy], forbids: list[CedarPolicy]
    ) -> str | None:
        """The hash of the scripts that would have been asked, had nothing been proved before."""
        questions = (self._group_question(planned, composition, group) for group in _groups(permits, forbids))
        hashes = [
            self._provers.script_sha256(kind, composition.schema, planned.environment, a, b) for kind, a, b in questions
        ]
        return script_digest([each for each in hashes if each is not None])

    def _ask_group(self, planned: Planned, composition: Composition, group: list[CedarPolicy]) -> Answer:
        kind, first, second = self._group_question(planned, composition, group)
        return self._put(kind, composition.schema, planned.environment, first, second)

    def _group_question(
        self, planned: Planned, composition: Composition, group: list[CedarPolicy]
    ) -> tuple[CheckKind, str, str]:
        runs = [composition.texts(policy) for policy in group]
        first = "\n".join(one for one, _ in runs)
        second = "\n".join(two for _, two in runs)
        if planned.kind == "monotone_in":
            return "implies", f"{first}\n{composition.low_to_high}", second
        return "equivalent", first, second

    def _settle_pair(
        self,
        planned: Planned,
        answer: Answer,
        differ: Callable[[Case, bool], bool],
        pair: Callable[[Case], tuple[Case, Case] | None],
        paths: tuple[str, ...],
        suggest: Callable[[], Suggestion | None],
    ) -> Obligation:
        found = self._readable(planned, answer, differ)
        if isinstance(found, Obligation):
            return found
        both = pair(found)
        if both is None:
            raise AssertionError("INVARIANT: what shows the property is a pair")
        one, two = both
        first, second = (self._replayed(case, guarded=True) for case in both)
        allowed, denied = (one, two) if first.allowed else (two, one)
        if planned.kind == "monotone_in":
            words = (
                f"{explain.can(allowed)}{explain.facts(allowed, *paths)} but not{explain.facts(denied, *paths)}, though "
                f"principle `{planned.principle_id}` says that raising `{paths[0]}` never turns allow into deny."
            )
        else:
            words = (
                f"{explain.can(allowed)}{explain.facts(allowed, *paths)} but not{explain.facts(denied, *paths)}, though "
                f"principle `{planned.principle_id}` says that this must make no difference."
            )
        paired = counterexample(two, [second], words)
        refuted = _obligation(planned, answer, counterexample(one, [first, second], words, paired=paired))
        return self._with_suggestion(refuted, suggest)

    # --- common --------------------------------------------------------------------------------------------------

    def _ask(
        self, kind: CheckKind, environment: Environment, a: str, b: str | None, policy_id: str | None = None
    ) -> Answer:
        return self._put(kind, self._vocabulary.schema, environment, a, b, policy_id)

    def _never_fails(self, environment: Environment, policy_id: str, text: str) -> bool:
        return self._ask("never_errors", environment, text, None, policy_id).verdict == "proved"

    def _put(
        self,
        kind: CheckKind,
        schema: str,
        environment: Environment,
        a: str,
        b: str | None,
        policy_id: str | None = None,
    ) -> Answer:
        if self._left_ms <= 0:
            return Answer.not_asked("the time for finding an edit is spent")
        answer = self._provers.ask(kind, schema, environment, a, b, policy_id)
        self._left_ms -= answer.milliseconds
        return answer

    def _with_suggestion(self, refuted: Obligation, suggest: Callable[[], Suggestion | None]) -> Obligation:
        self._left_ms = _SUGGESTION_TIMEOUTS * self._provers.solver_timeout_ms
        try:
            return refuted.model_copy(update={"suggestion": suggest()})
        finally:
            self._left_ms = math.inf

    def _applies(self, edge: str, case: Case) -> bool | None:
        """Whether a bound permits the request; None where it is no request of the schema."""
        try:
            decision = self._decide(edge, case)
        except kernel.CedarValidationError:
            # INVARIANT: its condition is valid by itself; what validation refuses is that it can never apply, `unless { true }`.
            return False
        return None if decision is None else decision.allowed

    def _decide(self, policies: str, case: Case, guards: str = "") -> kernel.Decision | None:
        return self._vocabulary.evaluator.decide(policies, guards, case)

    def _reasons(self, case: Case) -> list[str]:
        decision = self._decide(self._policies.text, case)
        return sorted(decision.reasons) if decision is not None else []

    def _settle(
        self,
        planned: Planned,
        answer: Answer,
        shows: Callable[[Case, bool], bool],
        words: Callable[[Case], str],
        suggest: Callable[[Case], Suggestion | None],
        *,
        guarded: bool,
    ) -> Obligation:
        case = self._readable(planned, answer, shows)
        if isinstance(case, Obligation):
            return case
        decision = self._replayed(case, guarded=guarded)
        refuted = _obligation(planned, answer, counterexample(case, [decision], words(case)))
        return self._with_suggestion(refuted, lambda: suggest(case))

    def _permits_behind(self, policies: str, case: Case) -> list[str]:
        decision = self._decide(policies, case)
        return sorted(decision.reasons) if decision is not None and decision.allowed else []

    def _readable(self, planned: Planned, answer: Answer, shows: Callable[[Case, bool], bool]) -> Case | Obligation:
        """The counterexample in its simplest form; or the obligation as it stands without one.

        A refutation stands only when the evaluator shows it on the very request. `shows(case, strict)`: the solver's
        semantics skip a policy that cannot be evaluated, the decision point (strict) denies.
        """
        if answer.verdict != "refuted" or answer.case is None:
            return _obligation(planned, answer)
        if not shows(answer.case, False):
            reproducer = {"obligation": planned.id, "policies": self._policies.text, "guards": self._guards.text}
            schema = self._vocabulary.schema
            self._provers.report(CONTRADICTION, {**reproducer, "schema": schema, "case": asdict(answer.case)})
            return _unknown(planned, CONTRADICTION, answer)
        if shows(answer.case, True):
            return shrink(answer.case, lambda case: shows(case, True))
        case = shrink(answer.case, lambda case: shows(case, False))
        if not shows(case, True):
            return _unknown(planned, "shown only on requests where a policy cannot be evaluated", answer)
        return case

    def _replayed(self, case: Case, *, guarded: bool) -> kernel.Decision:
        """The decision of the whole policy set on a case that is known to be a request of the schema."""
        decision = self._decide(self._policies.text, case, self._guards.text if guarded else "")
        if decision is None:
            raise AssertionError("INVARIANT: what is shown has been replayed")
        return decision

    def _decide_slice(self, policies: Slice, guards: Slice, case: Case, strict: bool) -> kernel.Decision | None:
        """`strict`: as the decision point decides; else as the Cedar specification does, skipping policies that fail."""
        decision = self._decide(policies.text, case, guards.text)
        if strict or decision is None or not decision.errored:
            return decision
        rest = policies.without(decision.errored)
        if len(rest.policies) == len(policies.policies):
            return decision
        return self._decide_slice(rest, guards, case, strict)


def _groups(permits: list[CedarPolicy], forbids: list[CedarPolicy]) -> Iterator[list[CedarPolicy]]:
    """The permits some at a time, with all the forbids."""
    for start in range(0, len(permits), _PERMITS_PER_QUESTION):
        yield [*permits[start : start + _PERMITS_PER_QUESTION], *forbids]


def _obligation(planned: Planned, answer: Answer, counterexample: Counterexample | None = None) -> Obligation:
    return Obligation(
        id=planned.id,
        kind=planned.kind,
        principle_id=planned.principle_id,
        invariant_index=planned.invariant_index,
        policy_id=planned.policy_id,
        environment=place(planned.environment),
        verdict=answer.verdict,
        reason=answer.reason,
        counterexample=counterexample,
        smtlib_sha256=answer.smtlib_sha256,
        solver=answer.solver,
        second_opinion=answer.second_opinion,
        strength=strength_of(answer.verdict, answer.solver, answer.smtlib_sha256, answer.second_opinion),
        milliseconds=round(answer.milliseconds, 3),
    )


def _unknown(planned: Planned, reason: str, answer: Answer) -> Obligation:
    return _obligation(planned, replace(answer, verdict="unknown", reason=reason))
