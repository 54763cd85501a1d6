"""The client speaks AuthZEN to the decision point, and never turns silence into a decision."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from acgs1.agents.client import GovernanceClient, connect
from acgs1.contracts.policy_governance import Action, EvaluationRequest, Resource, Subject
from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import Breakers
from acgs1.kit.clients import PartClient
from acgs1.kit.errors import DependencyUnavailable

REQUEST = EvaluationRequest(
    subject=Subject(type="Agent", id="robot"),
    action=Action(name="pay"),
    resource=Resource(type="Account", id="a1"),
    context={"amount": 7},
)


def client(handler: httpx.MockTransport, clock: ManualClock | None = None) -> GovernanceClient:
    async def token() -> str:
        return "secret"

    http = httpx.AsyncClient(transport=handler)
    part = PartClient("agent", "policy_governance", "http://pdp", http, Breakers().get("agent->pdp"), token)
    return GovernanceClient(part, clock)


async def test_an_approval_is_presented_in_the_context_of_the_new_evaluation() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"decision": True, "context": {"reason": "allowed"}})

    response = await client(httpx.MockTransport(answer)).evaluate(REQUEST, approval="apr_1")
    assert response.decision
    assert seen[0].url.path == "/access/v1/evaluation"
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert json.loads(seen[0].content)["context"] == {"amount": 7, "approval": {"id": "apr_1"}}


@pytest.mark.parametrize("body", [{"context": {}}, {"decision": "perhaps"}])
async def test_an_answer_that_is_no_decision_raises(body: dict[str, object]) -> None:
    with pytest.raises(DependencyUnavailable):
        await client(httpx.MockTransport(lambda _: httpx.Response(200, json=body))).evaluate(REQUEST)


async def test_a_decision_point_that_refuses_the_connection_raises() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(DependencyUnavailable):
        await client(httpx.MockTransport(refuse)).evaluate(REQUEST)


async def test_waiting_for_an_answer_ends_when_the_time_is_up() -> None:
    pending = {
        "id": "apr_1", "decision_id": "dec_1", "status": "pending", "subject": "Agent::robot", "action": "pay", "resource": "Account::a1",
        "request": REQUEST.model_dump(),
        "request_digest": "0" * 64, "bundle_hash": "0" * 64, "note": "", "requested_by": "agt", "answered_by": None, "reason": None,
        "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z",
    }  # fmt: skip
    waiting = client(httpx.MockTransport(lambda _: httpx.Response(200, json=pending)), ManualClock())
    with pytest.raises(DependencyUnavailable, match="nobody answered"):
        await waiting.wait_for_answer("apr_1", until=datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_client_without_a_token_is_not_made() -> None:
    with pytest.raises(ValueError, match="token"):
        async with connect("http://127.0.0.1:1"):
            pass
