"""The enforcement point: stands between an agent and its tools, and executes only what the decision point allows."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import JsonValue

from acgs1.agents.calls import (
    ArgumentsUnusable,
    AttributeSource,
    DecisionPoint,
    ToolCall,
    UnknownRecord,
    evaluation_request,
)
from acgs1.contracts.policy_governance import EvaluationRequest, EvaluationResponse
from acgs1.core.errors import DomainError

Tool = Callable[..., Any]
"""A tool takes its arguments by name and returns its result, or an awaitable of it."""

_GRACE_SECONDS = 0.25
"""How long a decider that does not keep to its deadline is waited for; what it says then no longer counts."""

RefusalReason = Literal["denied", "unknown_tool", "unknown_record", "arguments_unusable", "no_decision"]


@dataclass(frozen=True, slots=True)
class Executed:
    """The call was allowed and ran; `result` is what the tool returned."""

    call: ToolCall
    result: Any
    request: EvaluationRequest
    response: EvaluationResponse


@dataclass(frozen=True, slots=True)
class Refused:
    """The call did not run. `message` is for the agent; the rest is for whoever builds on it.

    `denied` is a decision; the other reasons mean that there was none and the enforcement point failed closed. `access_request` says
    how to ask for a person's approval, when that could turn the decision.
    """

    call: ToolCall
    reason: RefusalReason
    message: str
    principles: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    decision_id: str | None = None
    access_request: dict[str, JsonValue] | None = None
    request: EvaluationRequest | None = None

    def as_tool_result(self) -> dict[str, JsonValue]:
        """What to hand back to a model in place of the tool's result."""
        return {
            "error": self.reason,
            "message": self.message,
            "principles": list(self.principles),
            "decision_id": self.decision_id,
            "approval_possible": self.access_request is not None,
        }


Outcome = Executed | Refused


class EnforcementPoint:
    """Wraps a set of tools. Every call is decided on facts from `source`; only an allow within `deadline` seconds executes.

    Calls run one after the other, from establishing the facts to the end of the tool, so that no call acts on facts that another one
    has changed meanwhile. What a tool raises passes through.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        source: AttributeSource,
        decider: DecisionPoint,
        *,
        deadline: float = 2.0,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self._tools = dict(tools)
        self._source = source
        self._decider = decider
        self._deadline = deadline
        self._titles = dict(titles or {})
        self._turn = asyncio.Lock()

    def add(self, name: str, tool: Tool) -> None:
        """Put one more tool behind this point. Raises ValueError for a name that is taken."""
        if name in self._tools:
            raise ValueError(f"there is already a tool `{name}` behind this enforcement point")
        self._tools[name] = tool

    async def call(self, call: ToolCall, *, approval: str | None = None) -> Outcome:
        """Decide `call` and execute it if it is allowed; `approval` is the id of an approval given for exactly this call."""
        tool = self._tools.get(call.tool)
        if tool is None:
            return Refused(call, "unknown_tool", f"There is no tool `{call.tool}` here.")
        # The agent keeps no reference to what is decided on: what runs is what was decided.
        call = ToolCall(call.tool, deepcopy(dict(call.arguments)), call.agent, call.on_behalf_of)
        async with self._turn:
            decided = await self._decide(call, approval)
            if isinstance(decided, Refused):
                return decided
            request, response = decided
            if response.decision is not True:
                return self._denied(call, request, response)
            result = tool(**call.arguments)
            if inspect.isawaitable(result):
                result = await result
            return Executed(call, result, request, response)

    async def _decide(
        self, call: ToolCall, approval: str | None
    ) -> tuple[EvaluationRequest, EvaluationResponse] | Refused:
        request: EvaluationRequest | None = None
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._deadline
        late = f"There was no decision within {self._deadline:g} s; nothing was done."
        try:
            async with asyncio.timeout_at(ends_at):
                request = evaluation_request(call, await self._source.facts(call))
            # The decider's own deadline comes first: its expiry counts in the decider's circuit breaker, a cancellation would not.
            async with asyncio.timeout_at(ends_at + _GRACE_SECONDS):
                response = await self._decider.evaluate(
                    request, approval=approval, deadline=max(0.0, ends_at - loop.time())
                )
        except UnknownRecord as error:
            return Refused(call, "unknown_record", error.detail)
        except ArgumentsUnusable as error:
            return Refused(call, "arguments_unusable", error.detail)
        except TimeoutError:
            why = late
        except DomainError as error:
            why = f"There is no decision: {error.detail}. Nothing was done."
        else:
            if loop.time() <= ends_at:
                return request, response
            why = late
        return Refused(call, "no_decision", why, request=request)

    def _denied(self, call: ToolCall, request: EvaluationRequest, response: EvaluationResponse) -> Refused:
        context = response.context
        principles = _strings(context.get("principles"))
        access_request = context.get("access_request")
        offer = access_request if isinstance(access_request, dict) else None
        because = "; ".join(self._titles.get(name, name) for name in principles) or str(
            context.get("reason", "no rule allows it")
        )
        way_on = " A person could approve it." if offer is not None else ""
        decision_id = context.get("evaluation_id")
        return Refused(
            call,
            "denied",
            f"`{call.tool}` is not allowed: {because}.{way_on}",
            principles,
            _strings(context.get("policies")),
            decision_id if isinstance(decision_id, str) else None,
            offer,
            request,
        )


def _strings(value: JsonValue) -> tuple[str, ...]:
    return (
        tuple(item for item in cast("list[JsonValue]", value) if isinstance(item, str))
        if isinstance(value, list)
        else ()
    )
