"""The enforcement point executes what was allowed, and nothing else, whatever happens to the decision."""

import asyncio
from typing import Any

import pytest

from acgs1.agents.calls import ArgumentsUnusable, Facts, ToolCall, UnknownRecord
from acgs1.agents.decorators import CallRefused, acting, governed
from acgs1.agents.enforce import EnforcementPoint, Executed, Refused
from acgs1.contracts.policy_governance import EvaluationRequest, EvaluationResponse, Resource, Subject
from acgs1.kit.errors import DependencyUnavailable

CALL = ToolCall("pay", {"amount": 7}, agent="robot", on_behalf_of="ada")


class Source:
    def __init__(self, context: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        self.context = context or {}
        self.error = error

    async def facts(self, call: ToolCall) -> Facts:
        if self.error is not None:
            raise self.error
        return Facts(
            Subject(type="Agent", id=call.agent),
            Resource(type="Account", id="a1"),
            {**self.context, "amount": call.arguments["amount"]},
        )


class Decider:
    def __init__(self, answer: EvaluationResponse | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[EvaluationRequest, str | None]] = []

    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        self.asked.append((request, approval))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class NeverAnswers(Decider):
    async def evaluate(
        self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
    ) -> EvaluationResponse:
        await asyncio.Event().wait()
        raise AssertionError("not reached")


class Till:
    def __init__(self) -> None:
        self.paid: list[int] = []

    def pay(self, amount: int) -> str:
        self.paid.append(amount)
        return f"paid {amount}"


ALLOW = EvaluationResponse(decision=True, context={"reason": "allowed"})


async def test_an_allowed_call_runs_and_returns_what_the_tool_returned() -> None:
    till = Till()
    decider = Decider(ALLOW)
    outcome = await EnforcementPoint({"pay": till.pay}, Source(), decider).call(CALL, approval="apr_1")
    assert isinstance(outcome, Executed)
    assert outcome.result == "paid 7"
    request, approval = decider.asked[0]
    assert (request.action.name, request.subject.id, request.context, approval) == (
        "pay",
        "robot",
        {"amount": 7},
        "apr_1",
    )


async def test_a_denied_call_does_not_run_and_names_the_principle_and_the_way_to_an_approval() -> None:
    till = Till()
    context = {
        "reason": "approval_required",
        "evaluation_id": "dec_1",
        "policies": ["ask-first"],
        "principles": ["large-sums"],
        "access_request": {"endpoint": "/api/v1/approvals"},
    }
    point = EnforcementPoint(
        {"pay": till.pay},
        Source(),
        Decider(EvaluationResponse(decision=False, context=context)),
        titles={"large-sums": "Ask first"},
    )
    outcome = await point.call(CALL)
    assert isinstance(outcome, Refused)
    assert till.paid == []
    assert (outcome.reason, outcome.principles, outcome.policies, outcome.decision_id) == (
        "denied",
        ("large-sums",),
        ("ask-first",),
        "dec_1",
    )
    assert "Ask first" in outcome.message
    assert outcome.as_tool_result()["approval_possible"] is True


async def test_a_decision_point_that_cannot_be_reached_means_that_nothing_runs() -> None:
    till = Till()
    outcome = await EnforcementPoint({"pay": till.pay}, Source(), Decider(DependencyUnavailable("gone"))).call(CALL)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, till.paid) == ("no_decision", [])


async def test_a_decision_point_that_does_not_answer_by_the_deadline_means_that_nothing_runs() -> None:
    till = Till()
    point = EnforcementPoint({"pay": till.pay}, Source(), NeverAnswers(ALLOW), deadline=0.01)
    outcome = await point.call(CALL)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, till.paid) == ("no_decision", [])


async def test_the_decider_s_own_deadline_ends_the_wait_before_a_cancellation_does() -> None:
    class GivesUp(Decider):
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            try:
                async with asyncio.timeout(deadline):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise DependencyUnavailable("it heard the end of its deadline") from None
            raise AssertionError("not reached")

    till = Till()
    outcome = await EnforcementPoint({"pay": till.pay}, Source(), GivesUp(ALLOW), deadline=0.01).call(CALL)
    assert isinstance(outcome, Refused)
    assert "it heard the end of its deadline" in outcome.message


async def test_an_allow_that_comes_too_late_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Decider):
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            await asyncio.sleep(deadline + 0.01)
            return await super().evaluate(request, approval=approval)

    monkeypatch.setattr("acgs1.agents.enforce._GRACE_SECONDS", 60)
    till = Till()
    outcome = await EnforcementPoint({"pay": till.pay}, Source(), Late(ALLOW), deadline=0.01).call(CALL)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, till.paid) == ("no_decision", [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [(UnknownRecord("no account"), "unknown_record"), (ArgumentsUnusable("no sum"), "arguments_unusable")],
)
async def test_facts_that_cannot_be_established_mean_that_nobody_is_asked_and_nothing_runs(
    error: Exception, reason: str
) -> None:
    till, decider = Till(), Decider(ALLOW)
    outcome = await EnforcementPoint({"pay": till.pay}, Source(error=error), decider).call(CALL)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, till.paid, decider.asked) == (reason, [], [])


async def test_facts_that_claim_an_approval_are_refused_before_anybody_is_asked() -> None:
    till, decider = Till(), Decider(ALLOW)
    with pytest.raises(ValueError, match="only the decision point may set it"):
        await EnforcementPoint({"pay": till.pay}, Source({"approved": True}), decider).call(CALL)
    assert (till.paid, decider.asked) == ([], [])


async def test_a_tool_that_is_not_behind_the_point_is_not_asked_about() -> None:
    decider = Decider(ALLOW)
    outcome = await EnforcementPoint({}, Source(), decider).call(CALL)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, decider.asked) == ("unknown_tool", [])


async def test_arguments_changed_while_the_decision_is_made_do_not_reach_the_tool() -> None:
    till = Till()
    arguments = {"amount": 7}

    class Changing(Decider):
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            arguments["amount"] = 7000
            return ALLOW

    await EnforcementPoint({"pay": till.pay}, Source(), Changing(ALLOW)).call(ToolCall("pay", arguments, "robot"))
    assert till.paid == [7]


async def test_facts_are_established_only_after_the_call_before_has_ended() -> None:
    balance = [10]

    class Balance(Source):
        async def facts(self, call: ToolCall) -> Facts:
            return Facts(
                Subject(type="Agent", id=call.agent), Resource(type="Account", id="a1"), {"covered": balance[0] >= 7}
            )

    class IfCovered(Decider):
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            return EvaluationResponse(decision=request.context["covered"])

    async def pay(amount: int) -> None:
        await asyncio.sleep(0)  # lets the other call in, if it could come in
        balance[0] -= amount

    point = EnforcementPoint({"pay": pay}, Balance(), IfCovered(ALLOW))
    outcomes = await asyncio.gather(point.call(CALL), point.call(CALL))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Executed", "Refused"]
    assert balance == [3]


async def test_a_governed_function_runs_only_through_the_point_and_only_inside_a_session() -> None:
    till = Till()
    decider = Decider(ALLOW)
    point = EnforcementPoint({}, Source(), decider)

    @governed(point)
    def pay(amount: int) -> str:
        return till.pay(amount)

    with pytest.raises(RuntimeError, match="acting"):
        await pay(7)
    with acting("robot", on_behalf_of="ada"):
        assert await pay(7) == "paid 7"
        decider.answer = EvaluationResponse(decision=False, context={"principles": ["large-sums"]})
        with pytest.raises(CallRefused) as refused:
            await pay(8)
    assert refused.value.refusal.principles == ("large-sums",)
    assert till.paid == [7]
