"""A decision point inside this process: the kernel over one policy set and its constitution's guards, with no record of its decisions.

For replays, tests and dry runs. What is in force in a running system is decided, and recorded, by policy governance.
"""

from typing import Any

from acgs1_kernel import Decision, Engine, EntityError, RequestError, parse_policies
from pydantic import JsonValue

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.guards import guards_of
from acgs1.contracts.policy_governance import EvaluationRequest, EvaluationResponse
from acgs1.core.errors import DomainError


class RequestNotUnderstood(DomainError):
    """The request does not fit the schema: there is no decision on it, and so nothing may be done."""

    code = "request_not_understood"
    title = "The request does not fit the schema"


class LocalDecisionPoint:
    """Decides under `policies` and `constitution`. Implements `DecisionPoint`; knows of no approvals.

    Answers with the `reason`, `policies` and `principles` of a DecisionContext. Raises acgs1_kernel.KernelError for policies
    that are not valid under the constitution's schema.
    """

    def __init__(self, constitution: Constitution, policies: str) -> None:
        guards, guard_principles = guards_of(constitution)
        self._engine = Engine(constitution.schema_text, policies, guards)
        annotated = {policy.id: policy.annotations.get("principle") for policy in parse_policies(policies)}
        self._principle_of = {name: principle for name, principle in annotated.items() if principle} | guard_principles

    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        """Decide at once. `approval` and `deadline` have no effect: nothing here can be approved, and nothing waits."""
        del approval, deadline
        return self.decide(request)

    def decide(self, request: EvaluationRequest) -> EvaluationResponse:
        """The decision, the policies and guards that determined it, and the principles they stand for.

        Raises RequestNotUnderstood for a request that the schema does not admit.
        """
        decision = self._authorize(request, approved=False)
        policies = [*decision.reasons, *decision.guard]
        context: dict[str, JsonValue] = {
            "reason": self._reason(decision, request),
            "policies": list[JsonValue](policies),
            "principles": list[JsonValue](
                sorted({self._principle_of[name] for name in policies if name in self._principle_of})
            ),
        }
        return EvaluationResponse(decision=decision.allowed, context=context)

    def _reason(self, decision: Decision, request: EvaluationRequest) -> str:
        if decision.allowed:
            return "allowed"
        if decision.errors:
            return "evaluation_error"
        if self._authorize(request, approved=True).allowed:
            return "approval_required"
        if decision.guard:
            return "constitution_forbids"
        return "policy_forbids" if decision.reasons else "no_policy_permits"

    def _authorize(self, request: EvaluationRequest, *, approved: bool) -> Decision:
        subject, resource = request.subject, request.resource
        entities: list[dict[str, Any]] = [
            {"uid": {"type": subject.type, "id": subject.id}, "attrs": subject.properties, "parents": []},
            {"uid": {"type": resource.type, "id": resource.id}, "attrs": resource.properties, "parents": []},
        ]
        try:
            return self._engine.authorize(
                (subject.type, subject.id),
                ("Action", request.action.name),
                (resource.type, resource.id),
                {**request.context, "approved": approved},
                entities,
            )
        except (RequestError, EntityError) as error:
            raise RequestNotUnderstood(str(error)) from error
