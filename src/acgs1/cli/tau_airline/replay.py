"""Replays recorded calls through an enforcement point, each conversation on a fresh copy of the database."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from acgs1.agents.calls import DecisionPoint, ToolCall
from acgs1.agents.enforce import EnforcementPoint, Executed, Refused
from acgs1.cli.tau_airline.attributes import Conversation
from acgs1.cli.tau_airline.dataset import Dataset, RecordedRun
from acgs1.contracts.policy_governance import EvaluationRequest, EvaluationResponse
from acgs1.core.errors import DomainError

AGENT = "airline-agent"

_NO_RULE = {"invalid_request", "evaluation_error", "no_active_bundle", "emergency", "not_recorded"}
"""Reasons of a denial that say nothing about the call: the decision point could not judge it."""


class NoDecision(DomainError):
    """The decision point did not decide, so a replay would count its absence as denials."""

    code = "no_decision"
    title = "The decision point gave no decision"


@dataclass(frozen=True, slots=True)
class ReplayedCall:
    """What became of one recorded call. `outcome` is `allowed`, `denied`, or why there was nothing to decide."""

    task: int
    trial: int | None
    reward: float | None
    index: int
    tool: str
    arguments: dict[str, Any]
    outcome: str
    principles: tuple[str, ...]
    policies: tuple[str, ...]
    tool_error: str | None
    facts: dict[str, Any]


class _Timed:
    """The decision point, with the time each answer took in seconds."""

    def __init__(self, decider: DecisionPoint) -> None:
        self._decider = decider
        self.seconds: list[float] = []

    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        start = time.perf_counter()
        response = await self._decider.evaluate(request, approval=approval, deadline=deadline)
        self.seconds.append(time.perf_counter() - start)
        reason = response.context.get("reason")
        if not response.decision and reason in _NO_RULE:
            raise NoDecision(f"`{request.action.name}` was not judged ({reason}): {response.context.get('detail', '')}")
        return response


class Replay:
    """Replays over `dataset` as `agent`, asking `decider` before each call. `seconds` holds how long each decision took."""

    def __init__(self, dataset: Dataset, decider: DecisionPoint, *, agent: str = AGENT, deadline: float = 5.0) -> None:
        self._dataset = dataset
        self._agent = agent
        self._decider = _Timed(decider)
        self._deadline = deadline

    @property
    def seconds(self) -> list[float]:
        return self._decider.seconds

    async def run(self, runs: Sequence[RecordedRun]) -> AsyncIterator[list[ReplayedCall]]:
        """The replayed calls of each run in turn. Raises NoDecision when the decision point fails."""
        for recorded in runs:
            conversation = Conversation(self._dataset.database(), recorded.customer, self._dataset.tools)
            point = EnforcementPoint(conversation.tools, conversation, self._decider, deadline=self._deadline)
            replayed: list[ReplayedCall] = []
            for index, call in enumerate(recorded.calls):
                outcome = await point.call(ToolCall(call.tool, call.arguments, self._agent, recorded.customer))
                replayed.append(_replayed(recorded, index, outcome))
            yield replayed


def _replayed(run: RecordedRun, index: int, outcome: Executed | Refused) -> ReplayedCall:
    call, request = outcome.call, outcome.request
    facts = {} if request is None else {**request.resource.properties, **request.context}
    what, principles, policies, tool_error = "allowed", (), (), None
    if isinstance(outcome, Refused):
        if outcome.reason == "no_decision":
            raise NoDecision(f"task {run.task}, call {index} (`{call.tool}`): {outcome.message}")
        what = "denied" if outcome.reason == "denied" else outcome.reason
        principles, policies = outcome.principles, outcome.policies
    elif isinstance(outcome.result, str) and outcome.result.startswith("Error"):
        tool_error = outcome.result
    return ReplayedCall(
        run.task,
        run.trial,
        run.reward,
        index,
        call.tool,
        dict(call.arguments),
        what,
        principles,
        policies,
        tool_error,
        facts,
    )
