"""Scores by the kernel: the same evaluator, policies and guards that a decision point would load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from acgs1.contracts.evolutionary_computation import NewRun
from acgs1.contracts.guards import InvariantTextError, guards_of
from acgs1.contracts.policy_governance import EvaluationRequest
from acgs1.core.errors import ErrorItem
from acgs1.services.evolutionary_computation.domain.literals import CannotTune, Literal, find_literal
from acgs1.services.evolutionary_computation.domain.scoring import Decides, Scorer, value_of
from acgs1.services.evolutionary_computation.domain.space import Axis, Genome, axis
from acgs1.services.evolutionary_computation.errors import OutcomeRefused, PoliciesRefused, TunableRefused

if TYPE_CHECKING:  # the kernel is loaded on first use, so that the service starts light
    import acgs1_kernel as kernel


class KernelBench:
    """Experiments in threads, one slice of genomes at a time."""

    async def prepare(self, request: NewRun) -> KernelExperiment:
        return await asyncio.to_thread(KernelExperiment, request)


class KernelExperiment:
    """One run's policies, thresholds and outcomes. Not for two threads at once."""

    def __init__(self, request: NewRun) -> None:
        """Raises TunableRefused, PoliciesRefused, OutcomeRefused."""
        self._policies = request.policies
        self._schema = request.constitution.schema_text
        self._guards = guards_text(request)
        engine = engine_of(self._schema, request.policies, self._guards)
        self._literals = _literals(request)
        self.names = tuple(f"{t.policy_id}/{t.attribute}" for t in request.tunables)
        self._requests = engine_requests(engine, request)
        rows = [tuple(value_of(o.request, t.attribute) for t in request.tunables) for o in request.outcomes]
        self.axes: tuple[Axis, ...] = tuple(
            axis(literal.value, t.minimum, t.maximum, (row[i] for row in rows if row[i] is not None))  # pyright: ignore[reportArgumentType] - just filtered
            for i, (t, literal) in enumerate(zip(request.tunables, self._literals, strict=True))
        )
        self._scorer = Scorer(self.axes, rows, [o.should == "allow" for o in request.outcomes], self._decider)

    async def scores(self, genomes: Sequence[Genome]) -> list[float]:
        return await asyncio.to_thread(lambda: [self._scorer.score(genome) for genome in genomes])

    def policies(self, genome: Genome) -> str:
        text = self._policies
        for literal, value in sorted(zip(self._literals, genome, strict=True), key=lambda pair: -pair[0].start):
            text = f"{text[: literal.start]}{value}{text[literal.end :]}"
        return text

    def _decider(self, genome: Genome) -> Decides:
        engine = engine_of(self._schema, self.policies(genome), self._guards)
        return lambda outcome: engine.authorize(*self._requests[outcome]).allowed


def engine_of(schema: str, policies: str, guards: str) -> kernel.Engine:
    """The evaluator of a decision point. Raises PoliciesRefused."""
    import acgs1_kernel as kernel

    try:
        return kernel.Engine(schema, policies, guards)
    except (kernel.CedarParseError, kernel.CedarValidationError) as error:
        items = tuple(
            ErrorItem(f"{d.message} ({d.help})" if d.help else d.message, f"/{d.source}", d.line, d.column)
            for d in error.diagnostics
        )
        raise PoliciesRefused(f"{len(items)} fault(s); the first: {items[0].detail}", items=items) from None


def guards_text(request: NewRun) -> str:
    """The guards of the request's constitution. Raises PoliciesRefused."""
    try:
        return guards_of(request.constitution)[0]
    except InvariantTextError as error:
        raise PoliciesRefused(f"the constitution's guards: {error}") from None


def _literals(request: NewRun) -> list[Literal]:
    """Where each tunable threshold stands in the whole text."""
    import acgs1_kernel as kernel

    def parse(text: str) -> dict[str, Any]:
        try:
            (est,) = json.loads(kernel.policies_to_json(text))["staticPolicies"].values()
        except kernel.CedarParseError as error:
            raise ValueError(str(error)) from None
        return est

    policies = {info.id: info for info in kernel.parse_policies(request.policies)}
    found: list[Literal] = []
    for number, tunable in enumerate(request.tunables):
        pointer = f"/tunables/{number}"
        info = policies.get(tunable.policy_id)
        if info is None:
            raise _refused(
                f"there is no policy `{tunable.policy_id}`; there are {_list(policies)}", f"{pointer}/policy_id"
            )
        try:
            own = find_literal(info.text, parse(info.text), tunable.attribute, parse)
        except CannotTune as error:
            raise _refused(f"policy `{info.id}`: {error}", f"{pointer}/attribute") from None
        offset = _offset(request.policies, info.line, info.column)
        literal = Literal(own.value, own.start + offset, own.end + offset)
        if request.policies[offset : offset + len(info.text)] != info.text or literal in found:
            raise _refused(f"`{tunable.policy_id}/{tunable.attribute}` is tuned twice", pointer)
        if not tunable.minimum <= own.value <= tunable.maximum:
            raise _refused(
                f"the present threshold {own.value} is outside of {tunable.minimum}..{tunable.maximum}",
                f"{pointer}/minimum",
            )
        found.append(literal)
    return found


def _refused(detail: str, pointer: str) -> TunableRefused:
    return TunableRefused(detail, items=(ErrorItem(detail, pointer),))


def _list(names: Sequence[str] | dict[str, Any]) -> str:
    shown = [f"`{name}`" for name in list(names)[:10]]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _offset(text: str, line: int, column: int) -> int:
    lines = text.split("\n")
    return sum(len(each) + 1 for each in lines[: line - 1]) + column - 1


EngineRequest = tuple[tuple[str, str], str, tuple[str, str], dict[str, Any], list[dict[str, Any]]]


def engine_requests(engine: kernel.Engine, run: NewRun) -> list[EngineRequest]:
    """The labelled requests as the engine takes them, each tried once. Raises OutcomeRefused."""
    import acgs1_kernel as kernel

    actions = {uid.rpartition('::"')[2].removesuffix('"'): uid for uid in engine.actions()}
    made: list[EngineRequest] = []
    for number, request in enumerate(outcome.request for outcome in run.outcomes):
        action = actions.get(request.action.name)
        pointer = f"/outcomes/{number}/request"
        if action is None:
            detail = f"there is no action `{request.action.name}`; there are {_list(actions)}"
            raise OutcomeRefused(detail, items=(ErrorItem(detail, f"{pointer}/action/name"),))
        one = _engine_request(request, action, request.context)
        try:
            try:
                engine.authorize(*one)
            except kernel.RequestError:
                if "approved" in request.context:
                    raise
                # Past requests do not say that nobody has approved them: the decision point does.
                one = _engine_request(request, action, {**request.context, "approved": False})
                engine.authorize(*one)
        except (kernel.RequestError, kernel.EntityError) as error:
            raise OutcomeRefused(str(error), items=(ErrorItem(str(error), pointer),)) from None
        made.append(one)
    return made


def _engine_request(request: EvaluationRequest, action: str, context: dict[str, Any]) -> EngineRequest:
    subject, resource = request.subject, request.resource
    entities = {(e.type, e.id): e.properties for e in (subject, resource)}
    return (
        (subject.type, subject.id),
        action,
        (resource.type, resource.id),
        dict(context),
        [{"uid": {"type": t, "id": i}, "attrs": attrs, "parents": []} for (t, i), attrs in entities.items()],
    )
