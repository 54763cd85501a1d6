"""The decision point: every reason that it gives, and what nobody can talk it into."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acgs1.agents.calls import ToolCall, evaluation_request
from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.policy_governance import (
    Approval,
    ApprovalAnswer,
    DecisionContext,
    EvaluationRequest,
    EvaluationResponse,
    NewApproval,
    NewEmergency,
)
from acgs1.core.hashing import text_hash
from acgs1.kit.errors import DependencyUnavailable
from acgs1.optimizer.batching import BatchFull
from acgs1.services.policy_governance import jobs
from acgs1.services.policy_governance.domain import LONGEST_NAME, Recorded
from acgs1.services.policy_governance.errors import (
    ApprovalClosed,
    ApprovalNotFound,
    BadEvaluation,
    DecisionNotFound,
    NotApprovable,
    NotTheSubject,
    RequestDiffers,
)
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from governance import AGENT, AIRLINE, OPERATOR, Room, airline_policies, person, request

SERVICE = Identity(id="evolutionary_computation", name="evolutionary_computation", roles=(Role.SERVICE,))


def reason(answer: EvaluationResponse) -> str:
    context = DecisionContext.model_validate(answer.context)
    assert (context.access_request is not None) == (context.reason == "approval_required")
    assert answer.decision == (context.reason == "allowed")
    return context.reason


async def decide(room: Room, asked: EvaluationRequest) -> EvaluationResponse:
    return await room.point.decide(asked, AGENT)


class TestReasons:
    async def test_before_any_bundle_nothing_is_allowed(self, room: Room):
        assert reason(await decide(room, request("hand_over"))) == "no_active_bundle"

    async def test_an_allowed_request_names_the_policy_and_its_principle(self, room: Room):
        bundle = await room.in_force()
        answer = await decide(room, request("look_up_booking"))
        assert reason(answer) == "allowed"
        assert answer.context["policies"] == ["look-up"]
        assert answer.context["principles"] == ["know-the-customer"]
        assert answer.context["bundle"] == bundle

    async def test_what_no_policy_permits_is_denied(self, room: Room):
        await room.in_force(airline_policies().replace("resource.age_hours <= 24 };", "resource.age_hours <= 2 };", 1))
        asked = request("cancel_booking", booking={"fare": "standard", "age_hours": 10, "airline_cancelled": False})
        assert reason(await decide(room, asked)) == "no_policy_permits"

    async def test_what_a_policy_forbids_is_denied_in_its_principles_name(self, room: Room):
        await room.in_force(
            airline_policies() + '\n@id("quiet-hours")\n@principle("cooling-off")\n'
            'forbid (principal, action == Action::"look_up_booking", resource) when { resource.customer_age > 90 };\n'
        )
        answer = await decide(room, request("look_up_booking", booking={"customer_age": 91}))
        assert (reason(answer), answer.context["principles"]) == ("policy_forbids", ["cooling-off"])

    async def test_the_constitution_denies_whatever_the_policies_say(self, room: Room):
        await room.in_force('@id("everything")\npermit (principal, action, resource);\n')
        answer = await decide(room, request("look_up_booking", context={"owns_booking": False}))
        assert reason(answer) == "constitution_forbids"
        assert answer.context["principles"] == ["know-the-customer"]

    async def test_a_failing_evaluation_is_a_denial_that_says_so(self, room: Room):
        await room.in_force(
            airline_policies()
            + '\n@id("overflows")\nforbid (principal, action == Action::"look_up_booking", resource) '
            "when { resource.delay_minutes * 9223372036854775807 > 0 };\n"
        )
        answer = await decide(room, request("look_up_booking"))
        assert reason(answer) == "evaluation_error"
        assert "overflow" in str(answer.context["detail"])

    async def test_an_emergency_stops_the_agent_or_the_policies_and_its_end_lets_them_go_on(self, room: Room):
        bundle = await room.bundles.bundle(await room.in_force())
        for kind, target in (("revoke_agent", AGENT.id), ("suspend_policy", text_hash(bundle.policies))):
            emergency = NewEmergency.model_validate({"kind": kind, "target": target, "reason": "r", "seconds": 60})
            action = await room.powers.act(emergency, OPERATOR)
            assert reason(await decide(room, request("hand_over"))) == "emergency"
            room.ledger.away = True
            with pytest.raises(DependencyUnavailable):
                await room.powers.watch()
            assert reason(await decide(room, request("hand_over"))) == "emergency", "kept while the ledger is away"
            room.ledger.away = False
            assert (await room.powers.end(action.index, OPERATOR)).status == "ended"
            assert reason(await decide(room, request("hand_over"))) == "allowed"

    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), BatchFull("too many wait")])
    async def test_what_cannot_be_recorded_is_not_allowed(self, room: Room, failure: Exception):
        await room.in_force()

        class Broken:
            async def append(self, decision: Recorded) -> None:
                raise failure

            def pending(self, decision_id: str) -> Recorded | None:
                return None

        point = DecisionPoint(room.store, Broken(), room.clock)
        evaluator = room.point._evaluator
        assert evaluator is not None
        point.serve(evaluator, "")
        answer = await point.decide(request("hand_over"), AGENT)
        assert reason(answer) == "not_recorded"
        with pytest.raises(DecisionNotFound):
            await point.document(str(answer.context["evaluation_id"]))

    async def test_the_recorded_calls_of_the_example_are_decided_as_expected(self, room: Room):
        import importlib.util

        await room.in_force()
        spec = importlib.util.spec_from_file_location("airline_desk", AIRLINE / "desk.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        desk = module.Desk.load(AIRLINE / "database.json")
        calls: list[dict[str, Any]] = json.loads((AIRLINE / "agent_calls.json").read_text())["calls"]
        assert len(calls) == 16
        for call in calls:
            tool_call = ToolCall(call["tool"], call["arguments"], call["agent"], call["customer"])
            answer = await room.point.decide(evaluation_request(tool_call, await desk.facts(tool_call)), OPERATOR)
            expected = call["expect"]
            assert answer.decision == (expected["decision"] == "allow"), call["id"]
            assert set(expected.get("principles", ())) <= set(answer.context["principles"]), call["id"]
            asks = answer.context["reason"] == "approval_required"
            assert asks == (expected.get("with_approval") == "allow"), call["id"]


UNFIT: dict[str, EvaluationRequest] = {
    "a float": request("pay_compensation", context={"amount": 50.5}),
    "a float that is whole": request("pay_compensation", context={"amount": 50.0}),
    "a string for a number": request("pay_compensation", context={"amount": "50"}),
    "a bool for a number": request("pay_compensation", context={"amount": True}),
    "nothing": request("pay_compensation", context={"amount": None}),
    "an unknown attribute": request("look_up_booking", booking={"vip": True}),
    "an unknown context member": request("look_up_booking", context={"urgent": True}),
    "a missing attribute": request("look_up_booking").model_copy(
        update={"resource": request("look_up_booking").resource.model_copy(update={"properties": {"fare": "flex"}})}
    ),
    "an unknown action": request("look_up_booking").model_copy(
        update={"action": request("hand_over").action.model_copy(update={"name": "launch"})}
    ),
    "an unknown type": request("look_up_booking").model_copy(
        update={"resource": request("hand_over").resource.model_copy(update={"type": "Rocket"})}
    ),
    "an entity that is none": request("look_up_booking", booking={"fare": {"__entity": {"type": "X"}}}),
}


@pytest.mark.parametrize("asked", UNFIT.values(), ids=UNFIT.keys())
async def test_a_request_that_does_not_fit_the_schema_is_denied_and_recorded(room: Room, asked: EvaluationRequest):
    await room.in_force()
    answer = await decide(room, asked)
    assert reason(answer) == "invalid_request"
    assert answer.context["detail"]
    document = await room.point.document(str(answer.context["evaluation_id"]))
    assert (document.record.decision, document.request) == ("deny", asked)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


UNSPEAKABLE: dict[str, Any] = {
    "beyond 2^53": 2**60,
    "beyond 2^64": 2**70,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "half a character": "\ud800",
    "too deep": nested(62),
    "far too deep": nested(400),
}


@pytest.mark.parametrize("value", UNSPEAKABLE.values(), ids=UNSPEAKABLE.keys())
@pytest.mark.parametrize(
    "approval", [{}, {"approval": {"id": "apr_01890a5d-ac96-774b-bcce-b302099a8057"}}], ids=["", "approved"]
)
async def test_a_value_without_a_canonical_form_is_refused_before_it_counts_as_a_decision(
    room: Room, value: Any, approval: dict[str, Any]
):
    await room.in_force()
    with pytest.raises(BadEvaluation, match="canonical"):
        await decide(room, request("look_up_booking", booking={"delay_minutes": value}, context=approval))
    with pytest.raises(BadEvaluation):
        await room.approvals.ask(
            NewApproval(decision_id=await needs_approval(room), request=request(booking={"delay_minutes": value})),
            AGENT,
        )
    room.spool._close_segment()
    assert (await room.point.page(None, 10)).items == []


@pytest.mark.parametrize("where", ["subject", "action", "resource"])
async def test_a_name_too_long_for_the_log_is_refused_and_the_longest_one_reaches_it(room: Room, where: str):
    def named(length: int) -> EvaluationRequest:
        document = request("hand_over").model_dump()
        field = "name" if where == "action" else "type"
        document[where][field] = "x" * length
        return EvaluationRequest.model_validate(document)

    longest = LONGEST_NAME - (len(f"::{AGENT.id}") if where == "subject" else 0)
    with pytest.raises(BadEvaluation, match="at most 256"):
        await decide(room, named(longest + 1))
    answer = await decide(room, named(longest))
    recorded = room.spool.pending(str(answer.context["evaluation_id"]))
    assert recorded is not None
    await jobs.keep_decisions(room.store, [recorded])
    assert len((await room.point.page(None, 10)).items) == 1


async def test_an_agent_may_ask_about_itself_only_and_a_service_about_anyone(room: Room):
    await room.in_force()
    with pytest.raises(NotTheSubject):
        await decide(room, request("hand_over", agent="another-agent"))
    assert (await room.point.decide(request("hand_over", agent="another-agent"), SERVICE)).decision


async def test_a_decision_can_be_looked_up_with_what_was_decided_before_it_reaches_the_database(room: Room):
    await room.in_force()
    asked = request("look_up_booking")
    document = await room.point.document(str((await decide(room, asked)).context["evaluation_id"]))
    assert document.request == asked
    assert document.record.caller == AGENT.id
    from acgs1.services.policy_governance.domain import digest_and_commitment

    assert document.record.request.sha256 == digest_and_commitment(bytes.fromhex(document.salt), asked)[1]
    with pytest.raises(DecisionNotFound):
        await room.point.document("dec_none")


# --- approvals -------------------------------------------------------------------------------------------------------

ASKED = request("pay_compensation", context={"amount": 300})


async def needs_approval(room: Room, asked: EvaluationRequest = ASKED) -> str:
    answer = await decide(room, asked)
    assert reason(answer) == "approval_required"
    return str(answer.context["evaluation_id"])


async def granted(room: Room, asked: EvaluationRequest = ASKED) -> Approval:
    approval = await room.approvals.ask(
        NewApproval(decision_id=await needs_approval(room, asked), request=asked), AGENT
    )
    assert approval.status == "pending"
    return await room.approvals.answer(approval.id, ApprovalAnswer(answer="granted", reason="fair"), OPERATOR)


def approved(asked: EvaluationRequest, approval_id: str) -> EvaluationRequest:
    return asked.model_copy(update={"context": {**asked.context, "approval": {"id": approval_id}}})


async def test_an_approval_allows_exactly_what_the_person_saw_once(room: Room):
    await room.in_force()
    approval = await granted(room)
    assert approval.request == ASKED
    answer = await decide(room, approved(ASKED, approval.id))
    assert reason(answer) == "allowed"
    document = await room.point.document(str(answer.context["evaluation_id"]))
    assert document.record.approval_id == approval.id
    again = await decide(room, approved(ASKED, approval.id))
    assert (reason(again), "used" in str(again.context["detail"])) == ("approval_required", True)
    assert (await room.approvals.approval(approval.id, AGENT)).status == "used"


CHANGED = {
    "amount": request("pay_compensation", context={"amount": 301}),
    "attribute": request("pay_compensation", booking={"customer_age": 41}, context={"amount": 300}),
    "booking": ASKED.model_copy(update={"resource": ASKED.resource.model_copy(update={"id": "BK-2"})}),
    "extra member": ASKED.model_copy(update={"action": ASKED.action.model_copy(update={"properties": {"note": "x"}})}),
}


@pytest.mark.parametrize("other", CHANGED.values(), ids=CHANGED.keys())
async def test_an_approval_does_not_cover_another_request_and_is_not_used_up_by_it(
    room: Room, other: EvaluationRequest
):
    await room.in_force()
    approval = await granted(room)
    answer = await decide(room, approved(other, approval.id))
    assert (reason(answer), "another request" in str(answer.context["detail"])) == ("approval_required", True)
    assert reason(await decide(room, approved(ASKED, approval.id))) == "allowed"


async def test_an_approval_ends_with_its_hour_and_with_the_policies_it_was_given_under(room: Room):
    await room.in_force()
    first, second = await granted(room), await granted(room)
    room.clock.advance(timedelta(hours=1).total_seconds())
    answer = await decide(room, approved(ASKED, first.id))
    assert (reason(answer), "expired" in str(answer.context["detail"])) == ("approval_required", True)
    fresh = await granted(room)
    await room.in_force(airline_policies() + "\n// another edition\n")
    answer = await decide(room, approved(ASKED, fresh.id))
    assert (reason(answer), "policies have changed" in str(answer.context["detail"])) == ("approval_required", True)
    with pytest.raises(ApprovalClosed):
        await room.approvals.answer(second.id, ApprovalAnswer(answer="granted", reason="again"), OPERATOR)


async def test_a_pending_a_refused_and_an_invented_approval_allow_nothing(room: Room):
    await room.in_force()
    pending = await room.approvals.ask(NewApproval(decision_id=await needs_approval(room), request=ASKED), AGENT)
    refused = await room.approvals.ask(NewApproval(decision_id=await needs_approval(room), request=ASKED), AGENT)
    await room.approvals.answer(refused.id, ApprovalAnswer(answer="refused", reason="too much"), OPERATOR)
    for name in (pending.id, refused.id, "apr_01890a5d-ac96-774b-bcce-b302099a8057", "x" * 10_000, ""):
        assert reason(await decide(room, approved(ASKED, name))) == "approval_required"


@pytest.mark.parametrize(
    "claim", [{"approved": True}, {"approval": True}, {"approval": {"id": 1}}, {"approval": {"approved": True}}]
)
async def test_what_the_caller_says_about_approval_is_not_looked_at(room: Room, claim: dict[str, Any]):
    await room.in_force()
    claimed = ASKED.model_copy(update={"context": {**ASKED.context, **claim}})
    assert reason(await decide(room, claimed)) == "approval_required"


async def test_no_approval_turns_what_the_constitution_never_allows(room: Room):
    await room.in_force()
    too_much = request("pay_compensation", context={"amount": 2000})
    answer = await decide(room, too_much)
    assert reason(answer) == "constitution_forbids"
    new = NewApproval(decision_id=str(answer.context["evaluation_id"]), request=too_much)
    with pytest.raises(NotApprovable):
        await room.approvals.ask(new, AGENT)
    approval = await granted(room)
    assert reason(await decide(room, approved(too_much, approval.id))) == "constitution_forbids"


async def test_approval_is_asked_for_by_the_one_who_was_denied_and_for_the_same_request(room: Room):
    await room.in_force()
    decision = await needs_approval(room)
    other_agent = Identity(id="another-agent", name="another-agent", roles=(Role.AGENT,))
    with pytest.raises(NotTheSubject):
        await room.approvals.ask(NewApproval(decision_id=decision, request=ASKED), other_agent)
    with pytest.raises(RequestDiffers):
        await room.approvals.ask(NewApproval(decision_id=decision, request=CHANGED["amount"]), AGENT)
    with pytest.raises(DecisionNotFound):
        await room.approvals.ask(NewApproval(decision_id="dec_none", request=ASKED), AGENT)
    approval = await room.approvals.ask(NewApproval(decision_id=decision, request=ASKED), AGENT)
    with pytest.raises(ApprovalNotFound):
        await room.approvals.approval(approval.id, other_agent)
    with pytest.raises(ApprovalNotFound):
        await room.approvals.answer("apr_none", ApprovalAnswer(answer="granted", reason="r"), OPERATOR)


async def test_an_answer_stands(room: Room):
    await room.in_force()
    approval = await granted(room)
    with pytest.raises(ApprovalClosed, match="granted"):
        await room.approvals.answer(approval.id, ApprovalAnswer(answer="refused", reason="no"), person(Role.OPERATOR))
    assert [a.id for a in (await room.approvals.page("granted", None, 10)).items] == [approval.id]
    assert (await room.approvals.page("pending", None, 10)).items == []


def test_the_example_is_where_the_tests_look_for_it():
    assert Path(AIRLINE / "constitution.yaml").exists()


async def test_emergency_actions_outlive_a_restart_without_the_ledger(room: Room):
    emergency = NewEmergency(kind="revoke_agent", target="agt_1", reason="it misbehaves", seconds=60)
    await room.powers.act(emergency, OPERATOR)
    room.ledger.away = True
    after = room.restarted()
    await after.powers.obey()
    assert after.point.emergencies.stops("", "agt_1") is not None
    room.clock.advance(119)
    with pytest.raises(DependencyUnavailable):
        await after.powers.watch()
    assert after.point.emergencies.stops("", "agt_1") is not None, "the ledger's clock may be a minute behind ours"
    room.clock.advance(1)
    assert after.point.emergencies.stops("", "agt_1") is None, "its time is over, though nobody can be asked"
    again = room.restarted()
    await again.powers.obey()
    assert again.point.emergencies.stops("", "agt_1") is None
    room.ledger.away = False
    await again.powers.watch()
    assert [action.status for action in (await again.powers.actions(None, 50)).items] == ["expired"]
