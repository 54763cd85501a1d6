"""An asynchronous client of the decision point, for whatever sits beside an agent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

import httpx

from acgs1.contracts.policy_governance import Approval, EvaluationRequest, EvaluationResponse, NewApproval
from acgs1.core.clock import Clock, SystemClock
from acgs1.kit.breaker import breakers
from acgs1.kit.clients import PartClient, ServiceToken, Token
from acgs1.kit.errors import DependencyUnavailable

_EVALUATION = "/access/v1/evaluation"
_APPROVALS = "/api/v1/approvals"


class GovernanceClient:
    """Asks a running system: may this be done, and would a person approve it. Implements `DecisionPoint`."""

    def __init__(self, governance: PartClient, clock: Clock | None = None) -> None:
        self._governance = governance
        self._clock = clock or SystemClock()

    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        """AuthZEN 1.0, section 6. `approval` goes into `context.approval.id`, as its access request and approval profile has it.

        Raises DependencyUnavailable when no decision came within `deadline` seconds, UpstreamRejected when the request was refused.
        """
        if approval is not None:
            request = request.model_copy(update={"context": {**request.context, "approval": {"id": approval}}})
        return await self._governance.post(_EVALUATION, request, EvaluationResponse, deadline=deadline)

    async def request_approval(self, decision_id: str, request: EvaluationRequest, note: str = "") -> Approval:
        """Ask a person to approve `request`, which decision `decision_id` denied."""
        body = NewApproval(decision_id=decision_id, request=request, note=note)
        return await self._governance.post(_APPROVALS, body, Approval)

    async def approval(self, approval_id: str) -> Approval:
        """Where an approval stands."""
        return await self._governance.get(f"{_APPROVALS}/{approval_id}", Approval)

    async def wait_for_answer(self, approval_id: str, *, until: datetime, pause: float = 0.5) -> Approval:
        """Poll every `pause` seconds until the approval is answered or expired; raises DependencyUnavailable at `until`."""
        while True:
            approval = await self.approval(approval_id)
            if approval.status != "pending":
                return approval
            if self._clock.now() >= until:
                raise DependencyUnavailable(f"nobody answered approval `{approval_id}` in time")
            await asyncio.sleep(pause)


@asynccontextmanager
async def connect(
    governance_url: str,
    *,
    token: Token | None = None,
    auth_url: str | None = None,
    client_id: str = "",
    client_secret: str = "",
) -> AsyncGenerator[GovernanceClient]:
    """A client of the system at `governance_url`: with `token`, or with client credentials at `auth_url`.

    Raises ValueError when neither is given: the decision point answers nobody without a token.
    """
    if token is None and auth_url is None:
        raise ValueError("a token or the address of auth with client credentials is needed")
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as http:
        if token is None and auth_url is not None:
            edge = breakers().get(f"agent {client_id}->auth")
            token = ServiceToken(client_id, client_secret, auth_url.rstrip("/"), http, SystemClock(), edge)
        breaker = breakers().get(f"agent {client_id}->policy_governance")
        yield GovernanceClient(
            PartClient("agent", "policy_governance", governance_url.rstrip("/"), http, breaker, token)
        )
