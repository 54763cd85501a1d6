"""What must be proved of a policy set under a constitution, and the proofs themselves."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.contracts.constitution import (
    Always,
    Constitution,
    IndifferentTo,
    Invariant,
    MonotoneIn,
    Never,
    Scope,
)
from acgs1.contracts.formal_verification import Counterexample, Obligation, RequestEnvironment
from acgs1.contracts.guards import (
    InvariantTextError,
    action_uid,
    check_condition,
    guard_id,
    guard_text,
    guards_of,
    scope_text,
)
from acgs1.core.errors import ErrorItem
from acgs1.core.hashing import sha256_hex, text_hash
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    RESERVED_PREFIXES,
    CedarPolicy,
    Environment,
    Evaluator,
    PolicyTexts,
    items_of,
    joined,
)
from acgs1.services.formal_verification.adapters.kernel.composition import (
    CannotCompose,
    Composition,
    NoSuchAttribute,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, Provers
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaError, SchemaView, split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

Json = dict[str, Any]
Kind = Literal["never", "always", "indifferent_to", "monotone_in", "never_errors"]

_LOW_TO_HIGH = "acgs:low-to-high"


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


class Vocabulary:
    """A schema, ready for proofs: validated, its environments enumerated, its types resolved."""

    def __init__(self, schema: str) -> None:
        """Raises acgs1_kernel.CedarParseError, SchemaError."""
        kernel.check_schema(schema)
        self.schema = schema
        self.hash = text_hash(schema)
        self.view = SchemaView(kernel.schema_to_json(schema))
        self.environments: list[Environment] = kernel.request_envs(schema)
        self.evaluator = Evaluator(schema)

    def in_scope(self, scope: Scope) -> list[Environment]:
        """The request environments that a scope speaks about. Raises InvariantTextError for names the schema lacks."""
        types = self.view.entity_types()
        for name in (scope.principal, scope.resource):
            if name is not None and name not in types:
                raise InvariantTextError(f"the schema has no entity type `{name}`")
        wanted = {action_uid(name) for name in scope.actions}
        if unknown := wanted - set(self.view.action_names()):
            raise InvariantTextError(f"the schema has no action `{min(unknown)}`")
        return [
            (principal, action, resource)
            for principal, action, resource in self.environments
            if scope.principal in (None, principal)
            and scope.resource in (None, resource)
            and (not wanted or wanted & self.view.action_ancestors(action))
        ]


class Vocabularies:
    """The vocabularies of the last few schemas."""

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._known: OrderedDict[str, Vocabulary] = OrderedDict()

    def of(self, schema: str) -> Vocabulary:
        """Raises InvalidConstitution where `schema` is none."""
        known = self._known.get(schema)
        if known is None:
            try:
                known = Vocabulary(schema)
            except kernel.CedarParseError as error:
                items = items_of(error, "/constitution/schema_text")
                raise InvalidConstitution(f"the schema: {_first(items)}", items=items) from None
            except SchemaError as error:
                raise InvalidConstitution(f"the schema: {error}") from None
            self._known[schema] = known
            if len(self._known) > self._keep:
                self._known.popitem(last=False)
        self._known.move_to_end(schema)
        return known


def policies_under(vocabulary: Vocabulary, text: str, source: str = "policies") -> PolicyTexts:
    """The policies of `text`, strictly valid under the schema. Raises InvalidPolicies with every finding."""
    try:
        texts = PolicyTexts(text, source, vocabulary.view)
        if texts.policies:
            kernel.validate_policies(vocabulary.schema, text, source)
    except (kernel.CedarParseError, kernel.CedarValidationError) as error:
        items = items_of(error, f"/{source}")
        raise InvalidPolicies(_first(items), items=items) from None
    for policy in texts.policies.values():
        if policy.id.startswith(RESERVED_PREFIXES):
            item = ErrorItem(
                detail=f"the id `{policy.id}` is reserved; ids of your own do not begin with `guard:` or `acgs:`",
                pointer=f"/{source}",
                line=policy.line,
                column=1,
            )
            raise InvalidPolicies(item.detail, items=(item,))
    return texts


class VerificationSession:
    """The obligations of one policy set under one constitution, planned at once and proved one by one."""

    def __init__(self, policies: str, constitution: Constitution, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution, InvalidPolicies."""
        self._constitution = constitution
        self._vocabulary = vocabularies.of(constitution.schema_text)
        self._provers = provers
        self._guards = self._checked_guards()
        self._policies = policies_under(self._vocabulary, policies)
        self._work = [*self._invariant_work(), *self._error_work()]

    @property
    def planned(self) -> list[Planned]:
        return [work.planned for work in self._work]

    def prove(self, index: int) -> Obligation:
        """The verdict on obligation number `index`."""
        return self._work[index].prove()

    # --- planning ------------------------------------------------------------------------------------------------

    def _checked_guards(self) -> PolicyTexts:
        for number, principle in enumerate(self._constitution.principles):
            for index, invariant in enumerate(principle.invariants):
                pointer = f"/constitution/principles/{number}/invariants/{index}"
                where = f"principle `{principle.id}`, invariant {index}"
                try:
                    self._check_invariant(principle.id, index, invariant)
                except InvariantTextError as error:
                    item = ErrorItem(detail=str(error), pointer=pointer)
                    raise InvalidConstitution(f"{where}: {error}", items=(item,)) from None
                except (kernel.CedarParseError, kernel.CedarValidationError) as error:
                    # The condition begins on the line after the scope: line 4 of a guard, which has two annotations.
                    items = items_of(error, f"{pointer}/when", first_line=4)
                    raise InvalidConstitution(f"{where}: {_first(items)}", items=items) from None
        text, _ = guards_of(self._constitution)
        return PolicyTexts(text, "guards", self._vocabulary.view)

    def _check_invariant(self, principle_id: str, index: int, invariant: Invariant) -> None:
        environments = self._vocabulary.in_scope(invariant)
        if not environments:
            raise InvariantTextError("the scope admits no request environment of the schema, so it would never matter")
        match invariant:
            case Never():
                text = guard_text(guard_id(principle_id, index), principle_id, invariant)
                kernel.validate_policies(self._vocabulary.schema, text, "invariant")
            case Always():
                check_condition(invariant.when)
                text = f'@id({json.dumps(principle_id)})\n@kind("always")\npermit ({scope_text(invariant)}) when {{\n{invariant.when}\n}};'
                kernel.validate_policies(self._vocabulary.schema, text, "invariant")
            case IndifferentTo() | MonotoneIn():
                compositions = [composition for _, composition in self._compositions(invariant, environments)]
                if not compositions:
                    paths = invariant.attributes if isinstance(invariant, IndifferentTo) else (invariant.attribute,)
                    shown = ", ".join(f"`{path}`" for path in paths)
                    raise InvariantTextError(f"no request environment in scope has the attributes {shown}")
                if isinstance(invariant, MonotoneIn):
                    for composition in compositions:
                        if isinstance(composition, Composition) and composition.targets[0].type != "Long":
                            raise InvariantTextError(
                                f"`{invariant.attribute}` is a {composition.targets[0].type}; only a Long can be raised"
                            )

    def _compositions(
        self, invariant: IndifferentTo | MonotoneIn, environments: list[Environment]
    ) -> Iterator[tuple[Environment, Composition | str]]:
        """(environment, its two-run form or why there is none); environments without the attributes are left out."""
        paths = invariant.attributes if isinstance(invariant, IndifferentTo) else (invariant.attribute,)
        for environment in environments:
            try:
                yield environment, Composition(self._vocabulary.view, environment, paths)
            except NoSuchAttribute:
                continue
            except CannotCompose as error:
                yield environment, str(error)

    def _invariant_work(self) -> list[_Work]:
        work: list[_Work] = []
        for principle in self._constitution.principles:
            for index, invariant in enumerate(principle.invariants):
                environments = self._vocabulary.in_scope(invariant)
                if isinstance(invariant, Never | Always):
                    work += [self._condition_work(principle.id, index, invariant, place) for place in environments]
                else:
                    work += [
                        self._two_run_work(principle.id, index, invariant, place, composition)
                        for place, composition in self._compositions(invariant, environments)
                    ]
        return work

    def _error_work(self) -> list[_Work]:
        work: list[_Work] = []
        owners = guards_of(self._constitution)[1]
        for environment in self._vocabulary.environments:
            for policy in (*self._slice(environment), *self._guard_slice(environment)):
                planned = self._plan(
                    "never_errors", owners.get(policy.id), None, policy.id, environment, (policy.text,)
                )
                work.append(_Work(planned, lambda p=planned, c=policy: self._prove_never_errors(p, c)))
        return work

    def _slice(self, environment: Environment) -> list[CedarPolicy]:
        return self._policies.in_environment(environment)

    def _guard_slice(self, environment: Environment) -> list[CedarPolicy]:
        return self._guards.in_environment(environment)

    def _plan(
        self,
        kind: Kind,
        principle_id: str | None,
        index: int | None,
        policy_id: str | None,
        environment: Environment,
        depends_on: tuple[str, ...],
    ) -> Planned:
        principal, action, resource = environment
        place = f"{principal}/{action}/{resource}"
        subject = policy_id if kind == "never_errors" else f"{principle_id}:{index}"
        key = sha256_hex(
            json.dumps(
                [
                    self._provers.identity,
                    kind,
                    principle_id,
                    index,
                    policy_id,
                    self._vocabulary.hash,
                    *environment,
                    *depends_on,
                ]
            ).encode()
        )
        return Planned(f"{kind}:{subject}@{place}", kind, principle_id, index, policy_id, environment, key)

    # --- never, always -------------------------------------------------------------------------------------------

    def _condition_work(
        self, principle_id: str, index: int, invariant: Never | Always, environment: Environment
    ) -> _Work:
        kind = invariant.kind
        policies = self._slice(environment)
        guards = "" if kind == "never" else joined(self._guard_slice(environment))
        planned = self._plan(kind, principle_id, index, None, environment, (joined(policies), guards, invariant.when))
        if isinstance(invariant, Never):
            return _Work(planned, lambda: self._prove_never(planned, invariant, policies))
        return _Work(planned, lambda: self._prove_always(planned, invariant, policies, guards))

    def _prove_never(self, planned: Planned, invariant: Never, policies: list[CedarPolicy]) -> Obligation:
        """Policies without the guards: they must comply by themselves, the guards are the second line."""
        ceiling = _bound("permit", planned.environment, f"unless {{\n{invariant.when}\n}}")
        answer = self._ask("implies", planned.environment, joined(policies), ceiling)

        def violates(case: Case, strict: bool) -> bool:
            decided = self._decide_slice(policies, "", case, strict)
            allowed = self._decide(ceiling, case)
            return decided is not None and allowed is not None and decided.allowed and not allowed.allowed

        def words(case: Case) -> str:
            let_through = explain.policies_words(self._reasons(case), "no policy")
            return (
                f"{explain.can(case)}{explain.facts(case, invariant.when)}, which principle "
                f"`{planned.principle_id}` forbids: let through by {let_through}."
            )

        return self._settle(planned, answer, violates, words, guarded=False)

    def _prove_always(
        self, planned: Planned, invariant: Always, policies: list[CedarPolicy], guards: str
    ) -> Obligation:
        floor = _bound("permit", planned.environment, f"when {{\n{invariant.when}\n}}")
        answer = self._ask("implies", planned.environment, floor, f"{joined(policies)}\n{guards}")

        def violates(case: Case, strict: bool) -> bool:
            required = self._decide(floor, case)
            decided = self._decide_slice(policies, guards, case, strict)
            return required is not None and decided is not None and required.allowed and not decided.allowed

        def words(case: Case) -> str:
            decision = self._decide(self._policies.text, case, self._guards.text)
            stopped = list(decision.reasons) + list(decision.guard) if decision is not None else []
            why = f"denied by {explain.policies_words(sorted(set(stopped)), '')}" if stopped else "no policy permits it"
            return (
                f"{explain.cannot(case)}{explain.facts(case, invariant.when)}, which principle "
                f"`{planned.principle_id}` says must be allowed: {why}."
            )

        return self._settle(planned, answer, violates, words, guarded=True)

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

        return self._settle(planned, answer, fails, words, guarded=True)

    # --- indifferent_to, monotone_in -----------------------------------------------------------------------------

    def _two_run_work(
        self,
        principle_id: str,
        index: int,
        invariant: IndifferentTo | MonotoneIn,
        environment: Environment,
        composition: Composition | str,
    ) -> _Work:
        policies, guards = self._slice(environment), joined(self._guard_slice(environment))
        paths = invariant.attributes if isinstance(invariant, IndifferentTo) else (invariant.attribute,)
        depends_on = (joined(policies), guards, *paths)
        planned = self._plan(invariant.kind, principle_id, index, None, environment, depends_on)
        if isinstance(composition, str):
            return _Work(planned, lambda: _obligation(planned, Answer.not_asked(composition)))
        return _Work(planned, lambda: self._prove_two_run(planned, paths, composition, policies, guards))

    def _prove_two_run(
        self,
        planned: Planned,
        paths: tuple[str, ...],
        composition: Composition,
        policies: list[CedarPolicy],
        guards: str,
    ) -> Obligation:
        in_force: Json = json.loads(kernel.policies_to_json(f"{joined(policies)}\n{guards}"))
        monotone = planned.kind == "monotone_in"
        try:
            second = kernel.policies_from_json(json.dumps(composition.second_run(in_force)))
            first_json = composition.first_run(in_force)
            if monotone:
                first_json["staticPolicies"][_LOW_TO_HIGH] = composition.low_to_high()
            first = kernel.policies_from_json(json.dumps(first_json))
            schema = kernel.schema_from_json(composition.schema_json)
        except CannotCompose as error:
            return _obligation(planned, Answer.not_asked(str(error)))
        answer = self._provers.ask("implies" if monotone else "equivalent", schema, planned.environment, first, second)
        extended = Evaluator(schema)

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

        return self._settle_pair(planned, answer, differ, pair, paths)

    def _settle_pair(
        self,
        planned: Planned,
        answer: Answer,
        differ: Callable[[Case, bool], bool],
        pair: Callable[[Case], tuple[Case, Case] | None],
        paths: tuple[str, ...],
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
        paired = self._counterexample(two, [second], words, None)
        return _obligation(planned, answer, self._counterexample(one, [first, second], words, paired))

    # --- common --------------------------------------------------------------------------------------------------

    def _ask(self, kind: str, environment: Environment, a: str, b: str | None, policy_id: str | None = None) -> Answer:
        return self._provers.ask(kind, self._vocabulary.schema, environment, a, b, policy_id)

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
        *,
        guarded: bool,
    ) -> Obligation:
        case = self._readable(planned, answer, shows)
        if isinstance(case, Obligation):
            return case
        decision = self._replayed(case, guarded=guarded)
        return _obligation(planned, answer, self._counterexample(case, [decision], words(case), None))

    def _readable(self, planned: Planned, answer: Answer, shows: Callable[[Case, bool], bool]) -> Case | Obligation:
        """The counterexample in its simplest form; or the obligation as it stands without one.

        A refutation stands only when the evaluator shows it on the very request. `shows(case, strict)`: the solver's
        semantics skip a policy that cannot be evaluated, the decision point (strict) denies.
        """
        if answer.verdict != "refuted" or answer.case is None:
            return _obligation(planned, answer)
        if not shows(answer.case, False):
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

    def _decide_slice(
        self, policies: list[CedarPolicy], guards: str, case: Case, strict: bool
    ) -> kernel.Decision | None:
        """`strict`: as the decision point decides; else as the Cedar specification does, skipping policies that fail."""
        decision = self._decide(joined(policies), case, guards)
        if strict or decision is None or not decision.errored:
            return decision
        rest = [policy for policy in policies if policy.id not in decision.errored]
        return decision if len(rest) == len(policies) else self._decide_slice(rest, guards, case, strict)

    def _counterexample(
        self, case: Case, decisions: list[kernel.Decision], words: str, paired: Counterexample | None
    ) -> Counterexample:
        determining = sorted({*decisions[0].reasons, *decisions[0].guard})
        return Counterexample(
            principal=explain.uid(case.principal),
            action=case.action,
            resource=explain.uid(case.resource),
            context=case.context,
            entities=case.entities,
            decisions=["allow" if decision.allowed else "deny" for decision in decisions],
            determining_policies=determining,
            paired=paired,
            explanation=words,
        )

    @cached_property
    def principles_without_invariants(self) -> list[str]:
        return [p.id for p in self._constitution.principles if not p.invariants]


def _bound(effect: str, environment: Environment, condition: str) -> str:
    """A policy about one environment alone."""
    principal, action, resource = environment
    return f'@id("acgs:bound")\n{effect} (principal is {principal}, action == {action}, resource is {resource}) {condition};'


def _obligation(planned: Planned, answer: Answer, counterexample: Counterexample | None = None) -> Obligation:
    return Obligation(
        id=planned.id,
        kind=planned.kind,
        principle_id=planned.principle_id,
        invariant_index=planned.invariant_index,
        policy_id=planned.policy_id,
        environment=_environment(planned),
        verdict=answer.verdict,
        reason=answer.reason,
        counterexample=counterexample,
        smtlib_sha256=answer.smtlib_sha256,
        solver=answer.solver,
        second_opinion=answer.second_opinion,
        milliseconds=round(answer.milliseconds, 3),
    )


def _unknown(planned: Planned, reason: str, answer: Answer) -> Obligation:
    return _obligation(planned, replace(answer, verdict="unknown", reason=reason))


def _environment(planned: Planned) -> RequestEnvironment:
    principal, action, resource = planned.environment
    return RequestEnvironment(principal=principal, action=action, resource=resource)


def _first(items: tuple[ErrorItem, ...]) -> str:
    if not items:
        return "not valid"
    first = items[0]
    return f"line {first.line}, column {first.column}: {first.detail}"
