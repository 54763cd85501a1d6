"""Proof objects kept with a certificate on request."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from acgs1.cli.groups import verify as verify_command
from acgs1.contracts.auth import Role
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.app import create_app
from acgs1.services.formal_verification.archive import InvalidArchive, unpack
from factories import Running, running, settings

SCHEMA = """
entity Agent { trust: Long };
entity Account { limit: Long };
action pay appliesTo { principal: [Agent], resource: [Account], context: { amount: Long } };
"""
POLICIES = (
    '@id("pay") permit(principal, action, resource) when { context.amount <= resource.limit && resource.limit < 9 };'
)
LAW = {
    "name": "Bank",
    "schema_text": SCHEMA,
    "principles": [
        {
            "id": "small",
            "title": "Small",
            "text": "No large payment.",
            "category": "money",
            "priority": 1,
            "invariants": [{"kind": "never", "when": "context.amount > 100"}],
        }
    ],
}


@pytest.fixture(autouse=True)
def _no_checker_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACGS_PROVER_ETHOS", "ACGS_PROVER_CPC_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)


def checker(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    program = folder / "ethos"
    program.write_text(f"#!{sys.executable}\n{answer}\n")
    program.chmod(0o755)
    (folder / "Cpc.eo").write_text("; rules")
    monkeypatch.setenv("ACGS_PROVER_ETHOS", str(program))
    monkeypatch.setenv("ACGS_PROVER_CPC_SIGNATURE", str(folder / "Cpc.eo"))


async def prove(room: Running, query: str = "?wait=60&proofs=true") -> dict[str, Any]:
    body = {"policies": POLICIES, "constitution": LAW}
    answer = await room.client.post(f"/api/v1/verifications{query}", json=body, headers=room.headers(Role.LEGISLATOR))
    assert answer.status_code == 201, answer.text
    return answer.json()


def solved(report: dict[str, Any]) -> dict[str, Any]:
    (obligation,) = [o for o in report["obligations"] if o["smtlib_sha256"] is not None]
    return obligation


async def test_without_being_asked_no_proof_is_kept_and_the_report_says_how_strong_the_evidence_is(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as room:
        report = await prove(room, "?wait=60")
        obligation = solved(report)
        assert (obligation["strength"], obligation["proofs"]) == ("two_solvers", [])
        assert {o["strength"] for o in report["obligations"]} == {"two_solvers", "compiled"}
        # Asked later, everything is proved anew, whatever is in the cache.
        assert solved(await prove(room))["proofs"] != []


async def test_proofs_are_served_by_their_hashes_and_bound_to_the_certificate_by_the_signed_script(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as room:
        report = await prove(room)
        headers = room.headers(Role.AUDITOR)
        (kept,) = solved(report)["proofs"]
        assert [check["result"] for check in kept["checks"]] == ["correct"]
        assert kept["checks"][0]["checker"].endswith("--check-proofs")
        # cvc5's check of its own proof is no independent one.
        assert solved(report)["strength"] == "two_solvers"
        for digest in (kept["smtlib_sha256"], kept["proof_sha256"]):
            text = (await room.client.get(f"/api/v1/proof-texts/{digest}", headers=headers)).text
            assert text_hash(text) == digest
        path = f"/api/v1/certificates/{report['certificate_hash']}"
        listed = (await room.client.get(f"{path}/proofs", headers=headers)).json()
        certificate = (await room.client.get(path, headers=headers)).json()
        signed = {o["id"]: o["smtlib_sha256"] for o in certificate["body"]["obligations"]}
        assert {o["obligation_id"]: o["smtlib_sha256"] for o in listed["obligations"]} == signed
        assert kept["smtlib_sha256"] in signed.values()
        missing = await room.client.get(f"/api/v1/proof-texts/{'0' * 64}", headers=headers)
        assert (missing.status_code, missing.json()["code"]) == (404, "proof_text_not_found")


async def test_an_archive_holds_all_that_a_check_on_another_machine_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(create_app, settings(tmp_path / "home")) as room:
        report = await prove(room)
        path = f"/api/v1/certificates/{report['certificate_hash']}/archive"
        answer = await room.client.get(path, headers=room.headers(Role.AUDITOR))
        assert answer.headers["content-type"] == "application/zip"
        assert (await room.client.get(path, headers=room.headers(Role.AUDITOR))).content == answer.content
    file = tmp_path / "certificate.zip"
    file.write_bytes(answer.content)
    key = unpack(answer.content).key.public_key
    arguments = ["certificate", str(file), "--key", key, "--recheck"]
    checked = await asyncio.to_thread(CliRunner().invoke, verify_command, arguments)
    assert checked.exit_code == 0, checked.output
    assert "it is for the policies in the archive" in checked.output
    assert "proved again: 3 obligations" in checked.output
    checker(tmp_path, monkeypatch, "print('correct')")
    proofs = await asyncio.to_thread(CliRunner().invoke, verify_command, ["proof", str(file)])
    assert proofs.exit_code == 0, proofs.output
    assert "the 1 scripts are those that the certificate signs" in proofs.output
    with pytest.raises(InvalidArchive):
        unpack(answer.content[:200])


async def test_a_certificate_alone_is_proved_again_from_the_inputs_in_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(create_app, settings(tmp_path / "home")) as room:
        report = await prove(room, "?wait=60")
        path = f"/api/v1/certificates/{report['certificate_hash']}"
        (tmp_path / "certificate.json").write_bytes(
            (await room.client.get(path, headers=room.headers(Role.AUDITOR))).content
        )
    arguments = ["certificate", str(tmp_path / "certificate.json"), "--recheck"]
    monkeypatch.setenv("ACGS_HOME", str(tmp_path / "home"))
    checked = await asyncio.to_thread(CliRunner().invoke, verify_command, arguments)
    assert checked.exit_code == 0, checked.output
    assert "in this machine's data directory" in checked.output
    assert "proved again: 3 obligations" in checked.output
    monkeypatch.setenv("ACGS_HOME", str(tmp_path / "elsewhere"))
    lost = await asyncio.to_thread(CliRunner().invoke, verify_command, arguments)
    assert (lost.exit_code, "give --policies and --constitution" in lost.output) == (2, True)


async def test_with_a_checker_installed_the_report_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checker(tmp_path, monkeypatch, "print('correct')")
    async with running(create_app, settings(tmp_path / "home")) as room:
        obligation = solved(await prove(room))
    assert obligation["strength"] == "checked_proof"
    own, other = obligation["proofs"][0]["checks"]
    assert (own["result"], other["result"], other["checker"].split()[0]) == ("correct", "correct", "ethos")


async def test_a_proof_that_trusts_a_step_is_not_called_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checker(tmp_path, monkeypatch, "print('incomplete')")
    async with running(create_app, settings(tmp_path / "home")) as room:
        report = await prove(room)
    assert (report["verdict"], solved(report)["strength"]) == ("proved", "two_solvers")


async def test_a_proof_that_the_checker_rejects_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checker(tmp_path, monkeypatch, "raise SystemExit('no such rule')")
    async with running(create_app, settings(tmp_path / "home")) as room:
        report = await prove(room)
    obligation = solved(report)
    assert (obligation["verdict"], obligation["strength"]) == ("unknown", None)
    assert obligation["reason"] == "a checker rejects cvc5's proof"
    assert report["certificate_hash"] is None
