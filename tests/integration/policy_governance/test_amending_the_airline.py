"""The airline amends its constitution: draft, vote, new proof, new bundle, on the whole running system over HTTP."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair

from acgs1.ledger.keys import save_keypair
from governance import airline
from polling import eventually
from system import System, govern, running

pytestmark = pytest.mark.slow

_STRICTER = """
@id("ask-above-fifty")
@principle("large-sums-need-a-person")
forbid (principal, action == Action::"pay_compensation", resource)
when { context.amount > 50 && !context.approved };
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("amending") / "home") as started:
        govern(started)
        yield started


def ask(system: System, method: str, part: str, path: str, token: str, status: int = 200, **options: Any) -> Any:
    answer = system.call(method, part, path, token, **options)
    assert answer.status_code == status, answer.text
    return answer.json()


def amended() -> dict[str, Any]:
    """From 50 on rather than from 400 on, a person answers for compensation."""
    document = copy.deepcopy(airline().model_dump(mode="json"))
    principle = next(p for p in document["principles"] if p["id"] == "large-sums-need-a-person")
    principle["text"] = principle["text"].replace("more than 400", "more than 50")
    principle["invariants"][0]["when"] = "context.amount > 50 && !context.approved"
    return document


def reason(system: System, token: str, amount: int) -> str:
    answer = system.decide(token, amount)
    assert answer.status_code == 200, answer.text
    return answer.json()["context"]["reason"]


def carry(system: System, proposal: dict[str, Any], status: int = 200) -> dict[str, Any]:
    path = f"/api/v1/proposals/{proposal['id']}"
    for name in ("ines", "jonas"):
        token = system.person(name)
        ask(system, "POST", "policy_governance", f"{path}/ballots", token, 201, json={"choice": "for"})
    return ask(system, "POST", "policy_governance", f"{path}/finalization", system.person("ines"), status, json={})


def test_an_amendment_by_vote_binds_at_once_and_the_policies_are_proved_and_adopted_anew(system: System):
    operator, ines = system.person("olu"), system.person("ines")
    assert reason(system, operator, 60) == "allowed"
    active = ask(system, "GET", "policy_governance", "/api/v1/bundles/active", operator)

    # A proposal of the policies in force, made before the amendment, waits for its finalization meanwhile.
    body = {"bundle_hash": active["hash"], "title": "Once more", "voting_seconds": 3600}
    waiting = ask(system, "POST", "policy_governance", "/api/v1/proposals", ines, 201, json=body)

    document = amended()
    kept = ask(system, "POST", "constitutional_ai", "/api/v1/constitutions", operator, 201, json=document)
    path = f"/api/v1/constitutions/{kept['hash']}/difference"
    change = ask(system, "GET", "constitutional_ai", path, operator)
    assert [(c["change"], c["principle"]["id"]) for c in change["principles"]] == [
        ("amend", "large-sums-need-a-person")
    ]
    refused = ask(
        system, "POST", "constitutional_ai", f"/api/v1/constitutions/{kept['hash']}/adoption", operator, 409, json={}
    )
    assert refused["code"] == "amendment_needs_vote"
    body = {"constitution_hash": kept["hash"], "title": "Ask a person from 50 on", "voting_seconds": 3600}
    proposal = ask(system, "POST", "policy_governance", "/api/v1/proposals/amendments", ines, 201, json=body)
    assert (proposal["kind"], proposal["change"]["change"]) == ("principle", "amend_principle")
    assert carry(system, proposal)["status"] == "enacted"

    def follows() -> bool:
        found = ask(system, "GET", "constitutional_ai", "/api/v1/constitutions/in-force", operator)
        return found["meta"]["hash"] == kept["hash"] and found["meta"]["version"] == 2

    eventually(follows, "constitutional_ai has the amended text in force")
    eventually(lambda: reason(system, operator, 60) == "approval_required", "the old bundle obeys the new text")
    assert reason(system, operator, 40) == "allowed"

    stale = carry(system, waiting, 409)
    assert stale["code"] == "ledger_stale_attestation"
    system.back("policy_governance", system.kill("policy_governance"))
    assert reason(system, operator, 60) == "approval_required", "also after a kill"

    policies = active["policies"] + _STRICTER
    report = ask(
        system,
        "POST",
        "formal_verification",
        "/api/v1/verifications",
        operator,
        201,
        json={"policies": policies, "constitution": document},
        params={"wait": 60},
    )
    assert report["verdict"] == "proved", report
    path = f"/api/v1/certificates/{report['certificate_hash']}"
    certificate = ask(system, "GET", "formal_verification", path, operator)
    body = {"name": "Airline, amended", "policies": policies, "constitution": document, "certificate": certificate}
    bundle = ask(system, "POST", "policy_governance", "/api/v1/bundles", operator, 201, json=body)
    body = {"bundle_hash": bundle["hash"], "title": "Under the amended text", "voting_seconds": 3600}
    proposal = ask(system, "POST", "policy_governance", "/api/v1/proposals", ines, 201, json=body)
    assert carry(system, proposal)["status"] == "enacted"
    path = f"/api/v1/bundles/{bundle['hash']}/activation"
    assert ask(system, "POST", "policy_governance", path, operator, json={})["status"] == "active"
    assert reason(system, operator, 60) == "approval_required"
    answer = system.decide(operator, 60).json()["context"]
    assert answer["bundle"] == bundle["hash"]
    assert "ask-above-fifty" in answer["policies"]

    closed = ask(system, "POST", "policy_governance", f"/api/v1/proposals/{proposal['id']}/closing", ines, json={})
    assert closed["rent_lamports"] > 0

    def logged() -> bool:
        params = {"subject": kept["hash"], "limit": 200}
        entries = ask(system, "GET", "integrity", "/api/v1/entries", operator, params=params)["items"]
        text = str(entries)
        return "constitution.amended" in text and text.count("ledger.constitution_amended") == 1

    eventually(logged, "the log has the amendment, from the ledger once")


def test_a_new_member_joins_by_vote_and_votes(system: System):
    admin, ines = system.admin(), system.person("ines")
    body = {"username": "noor", "password": "correct horse battery staple", "roles": ["member"]}
    noor = ask(system, "POST", "auth", "/api/v1/users", admin, 201, json=body)
    refused = ask(
        system, "POST", "policy_governance", "/api/v1/members", admin, 409, json={"user_id": noor["id"], "weight": 2}
    )
    assert refused["code"] == "ledger_proposal_required"
    body = {"action": "register", "user_id": noor["id"], "weight": 2, "title": "Noor joins", "voting_seconds": 3600}
    proposal = ask(system, "POST", "policy_governance", "/api/v1/proposals/memberships", ines, 201, json=body)
    assert carry(system, proposal)["status"] == "enacted"
    body = {"quorum_bp": 6000, "title": "More must take part", "voting_seconds": 3600}
    proposal = ask(system, "POST", "policy_governance", "/api/v1/proposals/parameters", ines, 201, json=body)
    token = system.sign_in("noor", "correct horse battery staple")
    path = f"/api/v1/proposals/{proposal['id']}/ballots"
    assert ask(system, "POST", "policy_governance", path, token, 201, json={"choice": "for"})["weight"] == 2
    assert carry(system, proposal)["status"] == "enacted"
    assert ask(system, "GET", "policy_governance", "/api/v1/ledger/state", token)["quorum_bp"] == 6000


def said(system: System, user: str, *arguments: str, status: int = 0) -> Any:
    """`acgs1 ...` as one of the people."""
    password = "correct horse battery staple" if user == "mo" else system.password(user)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(system.environment, "ACGS_PASSWORD", password)
        done = system.command(*arguments, "--user", user)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def test_a_member_with_a_wallet_of_their_own_votes_from_the_terminal(system: System, tmp_path: Path):
    wallet = Keypair()
    save_keypair(tmp_path / "wallet.json", wallet)
    body = {"username": "mo", "password": "correct horse battery staple", "roles": ["member"]}
    mo = ask(system, "POST", "auth", "/api/v1/users", system.admin(), 201, json=body)
    address = str(wallet.pubkey())
    registering = ("member", "register", mo["id"], "--weight", "2", "--wallet", address, "--title", "Mo joins")
    proposal = said(system, "ines", "proposals", *registering)
    for name in ("ines", "jonas"):
        said(system, name, "vote", proposal["id"], "for")
    assert said(system, "ines", "proposals", "finalize", proposal["id"])["status"] == "enacted"

    draft = tmp_path / "constitution.json"
    text = ask(system, "GET", "constitutional_ai", "/api/v1/constitutions/in-force", system.admin())["constitution"]
    draft.write_text(json.dumps({**text, "preamble": "Written at a terminal."}))
    kept = said(system, "olu", "constitution", "draft", str(draft))
    assert said(system, "olu", "constitution", "difference", kept["hash"])["text"] == ["preamble"]
    made = said(system, "mo", "proposals", "amend", kept["hash"], "--title", "A preamble")
    assert made["status"] == "unsigned"
    refusal = said(system, "mo", "vote", proposal["id"], "for", status=1)
    assert "proposal_not_open" in refusal
    landed = said(system, "mo", "proposals", "open", made["id"], "--keypair", str(tmp_path / "wallet.json"))
    assert landed["status"] == "landed"
    assert said(system, "mo", "proposals", "show", made["id"])["status"] == "open"
    assert "own_wallet" in said(system, "mo", "vote", made["id"], "for", status=1)
    said(system, "mo", "vote", made["id"], "for", "--keypair", str(tmp_path / "wallet.json"))
    assert said(system, "mo", "proposals", "show", made["id"])["for_weight"] == 2
    wallet = ("--keypair", str(tmp_path / "wallet.json"))
    assert "ledger_voting_has_begun" in said(system, "mo", "proposals", "cancel", made["id"], *wallet, status=1)
    again = said(system, "mo", "proposals", "amend", kept["hash"], "--title", "A preamble, once more")
    said(system, "mo", "proposals", "open", again["id"], *wallet)
    said(system, "mo", "proposals", "cancel", again["id"], *wallet)
    closed = said(system, "mo", "proposals", "close", again["id"], *wallet)
    assert closed["status"] == "landed"


def test_the_emergency_authority_is_handed_on_in_two_steps(system: System, tmp_path: Path):
    successor, key = Keypair(), tmp_path / "successor.json"
    save_keypair(key, successor)
    early = system.command("authority", "accept", "emergency", "--keypair", str(key))
    assert early.returncode == 1
    assert "ledger_no_offer" in early.stderr
    offered = system.command("authority", "offer", "emergency", str(successor.pubkey()))
    assert offered.returncode == 0, offered.stderr
    accepted = system.command("authority", "accept", "emergency", "--keypair", str(key))
    assert accepted.returncode == 0, accepted.stderr
    body = {"kind": "freeze_activation", "reason": "Who may?", "seconds": 60}
    refused = ask(system, "POST", "policy_governance", "/api/v1/emergencies", system.admin(), 409, json=body)
    assert refused["code"] == "ledger_unauthorized_emergency_action"
    (system.home / "keys" / "ledger" / "emergency.json").unlink()
    save_keypair(system.home / "keys" / "ledger" / "emergency.json", successor)
    system.back("policy_governance", system.kill("policy_governance"))
    ask(system, "POST", "policy_governance", "/api/v1/emergencies", system.admin(), 201, json=body)
    (action,) = ask(system, "GET", "policy_governance", "/api/v1/emergencies", system.admin())["items"]
    path = f"/api/v1/emergencies/{action['index']}/end"
    assert ask(system, "POST", "policy_governance", path, system.admin(), json={})["status"] == "ended"
