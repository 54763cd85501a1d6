"""The main job on the real system, and what the system says to those who ask for what they may not have."""

import httpx
import pytest

from acgs1.contracts.common import Problem
from system import System, compensation, govern

pytestmark = pytest.mark.slow

Governed = tuple[System, list[str]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = Problem.model_validate_json(answer.content)
    assert document.status == answer.status_code
    assert document.request_id == answer.headers["x-request-id"]
    return answer.status_code, document.code


def test_the_main_job_shows_every_step_with_what_came_of_it(governed: Governed):
    _, said = governed
    text = "\n".join(said)
    for expected in (
        "Adopt the constitution",
        "in force as version 1",
        "draft refuted",
        "then proved",
        "accepted with 83.3 % (threshold 60 %) and enacted",
        "the decision point serves",
        "a person approved exactly this call",
        "the anchoring transaction stands in slot",
        "proved (",
    ):
        assert expected in text, text
    assert "FAILED" not in text
    denied = [line for line in said if line.startswith("deny ")]
    assert len(denied) == 9, denied


def test_every_part_is_healthy_and_status_says_so(governed: Governed):
    system, _ = governed
    shown = system.command("status")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count("healthy") == 9
    assert "degraded" not in shown.stdout


def test_the_main_job_can_be_done_again_and_goes_on_with_what_is_there(governed: Governed):
    system, _ = governed
    again = system.command("demo", "--exit", "--again")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "member ines is registered" in again.stdout
    assert "done in" in again.stdout
    assert system.ready("policy_governance"), "a demo leaves a system running that it did not start"


def test_a_vote_of_a_stranger_and_a_second_vote_have_codes_of_their_own(governed: Governed):
    system, _ = governed
    member = system.person("ines")
    proposals = system.call("GET", "policy_governance", "/api/v1/proposals", member).json()["items"]
    path = f"/api/v1/proposals/{proposals[0]['id']}/ballots"
    stranger = system.admin()
    answer = system.call("POST", "policy_governance", path, stranger, json={"choice": "for"})
    assert problem(answer) == (403, "not_a_member")
    answer = system.call("POST", "policy_governance", path, member, json={"choice": "for"})
    assert problem(answer) == (409, "proposal_not_open"), "this vote is over"
    # The same ballot twice while the vote is open, on the ledger itself.
    bundle = system.call("GET", "policy_governance", "/api/v1/bundles/active", member).json()
    body = {"bundle_hash": bundle["hash"], "title": "Once more", "voting_seconds": 3600}
    fresh = system.call("POST", "policy_governance", "/api/v1/proposals", member, json=body)
    assert fresh.status_code == 201, fresh.text
    path = f"/api/v1/proposals/{fresh.json()['id']}/ballots"
    assert system.call("POST", "policy_governance", path, member, json={"choice": "against"}).status_code == 201
    answer = system.call("POST", "policy_governance", path, member, json={"choice": "for"})
    assert problem(answer) == (409, "ledger_already_voted")


def test_bad_input_gets_a_problem_with_a_code_of_its_own(governed: Governed):
    system, _ = governed
    operator, service = system.person("olu"), system.service("evolutionary_computation")
    at = ("policy_governance", "/access/v1/evaluation", service)
    big = {**compensation(), "context": {"note": "x" * (9 * 1024 * 1024)}}
    assert problem(system.call("POST", *at, json=big)) == (413, "body_too_large")
    endless = (b"x" * 65536 for _ in range(200))
    assert problem(system.call("POST", *at, content=endless)) == (413, "body_too_large")
    assert problem(system.call("POST", *at, content=b"{"))[0] in {400, 422}
    assert problem(system.call("POST", *at, json={**compensation(), "subject": "me"})) == (422, "invalid_request")
    unknown = {"choice": "for", "weight": 1000}
    path = "/api/v1/proposals/prp_x/ballots"
    assert problem(system.call("POST", "policy_governance", path, operator, json=unknown)) == (422, "unknown_field")
    assert problem(system.call("GET", "integrity", "/api/v1/evidence/dec_none", operator, params={"wait": 0}))[0] == 404
    assert problem(system.call("GET", "auth", "/api/v1/users", system.person("mei"))) == (403, "forbidden")
    assert problem(system.call("GET", "auth", "/api/v1/me", "not.a.token")) == (401, "unauthenticated")


def test_an_expired_token_says_that_it_has_expired_in_every_service(governed: Governed):
    from datetime import UTC, datetime, timedelta

    from acgs1.contracts.auth import Identity, Role
    from acgs1.contracts.topology import SERVICES
    from acgs1.services.auth.adapters.tokens import JwtSigner

    system, _ = governed
    (kid,) = [key["kid"] for key in system.call("GET", "auth", "/.well-known/jwks.json").json()["keys"]]
    signer = JwtSigner(system.home / "keys" / "auth")
    now = datetime.now(UTC)
    admin = Identity(id="usr_1", name="admin", roles=(Role.ADMIN,))
    expired = signer.sign(kid, admin, now - timedelta(hours=1), now - timedelta(seconds=1))
    for part in SERVICES:
        assert problem(system.call("GET", part.name, "/metrics", expired)) == (401, "token_expired"), part.name


def test_an_approval_cannot_be_claimed_over_http(governed: Governed):
    system, _ = governed
    request = compensation(300)
    request["context"]["approved"] = True
    answer = system.call(
        "POST", "policy_governance", "/access/v1/evaluation", system.service("evolutionary_computation"), json=request
    )
    assert (answer.json()["decision"], answer.json()["context"]["reason"]) == (False, "approval_required")


def test_running_the_job_in_this_process_again_leaves_one_constitution_and_one_active_bundle(governed: Governed):
    system, _ = governed
    govern(system)
    token = system.person("olu")
    versions = system.call("GET", "constitutional_ai", "/api/v1/constitutions", token).json()["items"]
    assert [v["status"] for v in versions] == ["in_force"]
    bundles = system.call("GET", "policy_governance", "/api/v1/bundles", token).json()["items"]
    assert [b["status"] for b in bundles].count("active") == 1
