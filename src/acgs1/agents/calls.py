"""What an agent wants to do, and the facts that decide whether it may."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from acgs1.contracts.policy_governance import Action, EvaluationRequest, EvaluationResponse, Resource, Subject
from acgs1.core.errors import DomainError


class UnknownRecord(DomainError):
    """A call names something that the trusted records do not hold, so no fact about it can be established."""

    code = "unknown_record"
    title = "The call names a record that does not exist"


class ArgumentsUnusable(DomainError):
    """The arguments are not of the kind that the tool takes, so the facts about the call cannot be established."""

    code = "arguments_unusable"
    title = "The call's arguments cannot be used"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of an agent. `agent` and `on_behalf_of` come from the session, never from the agent's words.

    `on_behalf_of` is the person whom the agent serves, or None before anybody is identified.
    """

    tool: str
    arguments: Mapping[str, Any]
    agent: str
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The attributes of one call, each from a trusted record. `context` holds no `approved`: only the decision point sets that."""

    subject: Subject
    resource: Resource
    context: dict[str, Any] = field(default_factory=dict[str, Any])


class AttributeSource(Protocol):
    """Where an enforcement point takes attributes from: a database that the agent cannot write past the enforcement point."""

    async def facts(self, call: ToolCall) -> Facts:
        """Establish the facts about `call`.

        Raises UnknownRecord when it names something that does not exist, ArgumentsUnusable when it is not a call of that tool.
        """
        ...


class DecisionPoint(Protocol):
    """Whatever answers AuthZEN 1.0 evaluations: a running system over HTTP, or the kernel in this process."""

    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        """Decide `request`, with the approval of that id where one is given. `deadline` is in seconds.

        Raises DomainError when there is no decision; the caller must then not act.
        """
        ...


def evaluation_request(call: ToolCall, facts: Facts) -> EvaluationRequest:
    """The AuthZEN request for `call`. Raises ValueError when the facts claim an approval."""
    if "approved" in facts.context:
        raise ValueError(f"the facts of `{call.tool}` hold `approved`; only the decision point may set it")
    return EvaluationRequest(
        subject=facts.subject, action=Action(name=call.tool), resource=facts.resource, context=dict(facts.context)
    )
