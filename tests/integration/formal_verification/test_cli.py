"""`acgs1 verify`: proofs without the running system."""

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from acgs1.cli.groups import verify
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import CertificateBody, ObligationEvidence, RequestEnvironment
from acgs1.core.clock import ManualClock
from acgs1.core.hashing import text_hash
from acgs1.kit.signing import SigningKey, base64url_encode
from acgs1.services.formal_verification.adapters.kernel.prover import kernel_identity
from acgs1.services.formal_verification.domain import sign_certificate

SCHEMA = "entity A; entity B { n: Long }; action x appliesTo { principal: [A], resource: [B], context: { m: Long } };"
GOOD = '@id("p") permit(principal, action, resource) when { resource.n >= 0 };'
LAW = """
name: law
schema_file: schema.cedarschema
principles:
  - {id: positive, title: Positive, text: Never below zero., category: c, priority: 1,
     invariants: [{kind: never, when: "resource.n < 0"}]}
  - {id: kind, title: Kind, text: Be kind., category: c, priority: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schema.cedarschema").write_text(SCHEMA)
    (tmp_path / "law.yaml").write_text(LAW)
    (tmp_path / "good.cedar").write_text(GOOD)
    (tmp_path / "bad.cedar").write_text(GOOD.replace(">= 0", "> -2"))
    (tmp_path / "wrong.cedar").write_text(GOOD.replace("resource.n", "resource.k"))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(verify, [str(argument) for argument in arguments])


def policies(folder: Path, name: str, *more: str) -> Result:
    return run("policies", "--constitution", folder / "law.yaml", "--policies", folder / name, *more)


def test_compliant_policies_end_with_status_0_and_name_what_only_people_can_judge(folder: Path):
    result = policies(folder, "good.cedar")
    assert result.exit_code == 0, result.output
    assert "proved: 3 obligations, 3 proved, 0 refuted, 0 unknown" in result.output
    assert "principle `kind` has no invariant" in result.output


def test_a_broken_principle_ends_with_status_1_and_a_request_that_shows_it(folder: Path):
    result = policies(folder, "bad.cedar")
    assert result.exit_code == 1
    assert "with resource.n = -1, which principle `positive` forbids: let through by policy `p`." in result.output


def test_an_invariant_that_never_applies_is_warned_of(folder: Path):
    empty = LAW.replace("resource.n < 0", "resource.n < 0 && resource.n > 5")
    (folder / "law.yaml").write_text(empty)
    result = policies(folder, "good.cedar")
    assert result.exit_code == 0
    assert "vacuous  invariant 0 of principle `positive` never applies" in result.output
    findings = json.loads(policies(folder, "good.cedar", "--json").output)["findings"]
    assert [finding["kind"] for finding in findings] == ["vacuous"]


def test_invalid_policies_end_with_status_2_and_the_position(folder: Path):
    result = policies(folder, "wrong.cedar")
    assert result.exit_code == 2
    assert f"{folder / 'wrong.cedar'}:1:" in result.output.replace("\n", "")


def test_an_invalid_invariant_is_named_by_its_place_in_the_constitution_file(folder: Path):
    (folder / "law.yaml").write_text(LAW.replace("resource.n < 0", "resource.k < 0"))
    result = policies(folder, "good.cedar")
    assert result.exit_code == 2
    assert f"{folder / 'law.yaml'}:6:" in result.output
    (folder / "law.yaml").write_text(LAW.replace("priority: 1,", "priority: zero,"))
    result = policies(folder, "good.cedar")
    assert (result.exit_code, "priority" in result.output) == (2, True)


def test_json_output_holds_every_obligation(folder: Path):
    result = policies(folder, "good.cedar", "--json", "--no-second-opinion")
    report = json.loads(result.stdout)
    assert report["verdict"] == "proved"
    assert {o["second_opinion"] for o in report["obligations"]} == {"not_run"}


def test_a_comparison_that_widens_ends_with_status_1(folder: Path):
    schema = folder / "schema.cedarschema"
    wider = run("compare", folder / "good.cedar", folder / "bad.cedar", "--schema", schema)
    assert wider.exit_code == 1
    assert "widens: 1 request environments" in wider.output
    narrower = run("compare", folder / "bad.cedar", folder / "good.cedar", "--schema", schema)
    assert (narrower.exit_code, "narrows" in narrower.output) == (0, True)


@pytest.fixture
def certified(folder: Path) -> tuple[Path, SigningKey]:
    key = SigningKey.generate()
    constitution = Constitution.model_validate(
        {
            "name": "law",
            "schema_text": SCHEMA,
            "principles": [
                {
                    "id": "positive",
                    "title": "Positive",
                    "text": "Never below zero.",
                    "category": "c",
                    "priority": 1,
                    "invariants": [{"kind": "never", "when": "resource.n < 0"}],
                },
                {"id": "kind", "title": "Kind", "text": "Be kind.", "category": "c", "priority": 2},
            ],
        }
    )
    environment = RequestEnvironment(principal="A", action='Action::"x"', resource="B")
    evidence = ObligationEvidence(
        id='never:positive:0@A/Action::"x"/B',
        kind="never",
        principle_id="positive",
        environment=environment,
        smtlib_sha256=None,
        verdict="proved",
        solver="s",
        second_opinion="not_run",
    )
    body = CertificateBody(
        policies_hash=text_hash(GOOD),
        schema_hash=text_hash(SCHEMA),
        constitution_hash=constitution.hash,
        obligations=[evidence],
        kernel="k",
        solver="s",
        issued_at=ManualClock().now(),
    )
    certificate = sign_certificate(body, key.key_id, lambda data: base64url_encode(key.sign(data)))
    file = folder / "certificate.json"
    file.write_text(certificate.model_dump_json())
    return file, key


def check(folder: Path, file: Path, key: SigningKey, *more: str, policies: str = "good.cedar") -> Result:
    inputs = ("--policies", folder / policies, "--constitution", folder / "law.yaml")
    return run("certificate", file, "--key", key.public.base64url, *inputs, *more)


def test_a_certificate_is_checked_against_key_and_inputs_and_proved_again(
    folder: Path, certified: tuple[Path, SigningKey]
):
    result = check(folder, *certified, "--recheck")
    assert result.exit_code == 0, result.output
    assert "proved again: 3 obligations" in result.output
    assert "FAILED" not in result.output
    assert "not checked  with another kernel: signed `k`, here `acgs1_kernel" in result.output


def test_a_recheck_compares_the_scripts_with_those_that_were_signed(folder: Path, certified: tuple[Path, SigningKey]):
    file, key = certified
    body = CertificateBody.model_validate(json.loads(file.read_text())["body"])

    def signed(kernel: str, script: str | None) -> Result:
        evidence = body.obligations[0].model_copy(update={"smtlib_sha256": script})
        made = body.model_copy(update={"kernel": kernel, "obligations": [evidence]})
        file.write_text(
            sign_certificate(made, key.key_id, lambda data: base64url_encode(key.sign(data))).model_dump_json()
        )
        return check(folder, file, key, "--recheck")

    same = signed(kernel_identity(), None)
    assert (same.exit_code, "with the same kernel" in same.output) == (0, True)
    assert "hashes of the 0 scripts are those that were signed" in same.output
    other = signed(kernel_identity(), "0" * 64)
    assert other.exit_code == 1
    assert "FAILED       1 of 1 scripts differ from those that were signed: `never:positive" in other.output
    elsewhere = signed("another", "0" * 64)
    assert (elsewhere.exit_code, "not checked  1 of 1 scripts differ" in elsewhere.output) == (0, True)


def test_a_certificate_signed_by_another_key_fails(folder: Path, certified: tuple[Path, SigningKey]):
    result = check(folder, certified[0], SigningKey.generate())
    assert result.exit_code == 1
    assert "FAILED       signed by" in result.output


def test_a_certificate_for_other_policies_fails(folder: Path, certified: tuple[Path, SigningKey]):
    result = check(folder, *certified, policies="bad.cedar")
    assert result.exit_code == 1
    assert "FAILED       it is for the policies" in result.output


@pytest.mark.parametrize(
    ("old", "new"), [('"verdict":"proved"', '"verdict":"unknown"'), ('"kernel":"k"', '"kernel":"l"')]
)
def test_a_changed_certificate_fails(folder: Path, certified: tuple[Path, SigningKey], old: str, new: str):
    file, key = certified
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    result = check(folder, file, key)
    assert result.exit_code == 1
    assert "the hash is not that of the body" in result.output


def test_a_certificate_that_claims_what_cannot_be_proved_fails_the_recheck(
    folder: Path, certified: tuple[Path, SigningKey]
):
    file, key = certified
    found = json.loads(file.read_text())
    body = CertificateBody.model_validate(
        {**found["body"], "policies_hash": text_hash((folder / "bad.cedar").read_text())}
    )
    forged = sign_certificate(body, key.key_id, lambda data: base64url_encode(key.sign(data)))
    file.write_text(forged.model_dump_json())
    result = check(folder, file, key, "--recheck", policies="bad.cedar")
    assert result.exit_code == 1
    assert "FAILED       proved again, except" in result.output


def test_a_file_that_is_no_certificate_is_a_usage_error(folder: Path):
    assert run("certificate", folder / "law.yaml").exit_code == 2


def test_a_question_ends_with_status_0_only_when_it_can_never_happen(folder: Path):
    about = ("question", "--schema", folder / "schema.cedarschema", "--policies", folder / "good.cedar")
    ever = run(*about, "--when", "context.m > 5", "--action", "x")
    assert ever.exit_code == 1
    assert "with context.m = 6" in ever.output
    never = run(*about, "--when", "context.m > 5", "--assume", "resource.n < 0")
    assert (never.exit_code, never.output.split()[0]) == (0, "no")
    assert run(*about, "--when", "context.k > 5").exit_code == 2


def test_a_question_counts_the_guards_of_a_constitution_that_is_given(folder: Path):
    about = ("--schema", folder / "schema.cedarschema", "--policies", folder / "bad.cedar", "--when", "resource.n < 0")
    without = run("question", *about, "--json")
    found = json.loads(without.stdout)
    assert (without.exit_code, found["answer"]) == (1, "yes")
    assert found["environments"][0]["example"]["decisions"] == ["allow"]
    guarded = run("question", *about, "--constitution", folder / "law.yaml", "--json")
    assert (guarded.exit_code, json.loads(guarded.stdout)["answer"]) == (0, "no")


def test_hygiene_names_the_questions_that_it_could_not_answer(folder: Path):
    about = ("--constitution", folder / "law.yaml", "--policies", folder / "good.cedar")
    late = run("hygiene", *about, "--deadline", "0.000001")
    assert late.exit_code == 1
    assert "unknown  whatever there is to ask about policy `p` in A" in late.output
    assert "1e-06 s passed before this was attempted" in late.output
    found = json.loads(run("hygiene", *about, "--json").stdout)
    assert found == {"findings": [], "undecided": 0, "unanswered": []}


def test_hygiene_reports_policies_and_without_them_the_constitution(folder: Path):
    text = GOOD + '@id("narrow") permit(principal, action, resource) when { resource.n > 7 };'
    (folder / "idle.cedar").write_text(text)
    idle = run("hygiene", "--constitution", folder / "law.yaml", "--policies", folder / "idle.cedar")
    assert idle.exit_code == 1
    assert "shadowed  policy `narrow` is shadowed by `p`" in idle.output
    assert run("hygiene", "--constitution", folder / "law.yaml").exit_code == 0


SOLVED = GOOD.replace("resource.n >= 0", "context.m < resource.n && context.m > 7")


@pytest.fixture
def proved(folder: Path) -> tuple[Path, Result]:
    (folder / "solver.cedar").write_text(SOLVED)
    inputs = ("--constitution", folder / "law.yaml", "--policies", folder / "solver.cedar")
    return folder / "proofs", run("policies", *inputs, "--proofs", folder / "proofs")


def test_scripts_and_proofs_are_written_under_their_hashes(folder: Path, proved: tuple[Path, Result]):
    out, result = proved
    assert result.exit_code == 0, result.output
    assert "with a proof object that cvc5 has checked itself" in result.output
    index = json.loads((out / "index.json").read_text())["obligations"]
    held = {o["obligation_id"]: [p["smtlib_sha256"] for p in o["proofs"]] for o in index}
    assert any(held.values())
    for proof in (proof for o in index for proof in o["proofs"]):
        assert text_hash((out / f"{proof['smtlib_sha256']}.smt2").read_text()) == proof["smtlib_sha256"]
        text = (out / f"{proof['proof_sha256']}.cpc").read_text()
        assert text_hash(text) == proof["proof_sha256"]
        assert "(step" in text
    inputs = ("--constitution", folder / "law.yaml", "--policies", folder / "solver.cedar")
    report = json.loads(run("policies", *inputs, "--json").stdout)
    assert {o["id"]: o["smtlib_sha256"] for o in report["obligations"]} == {
        name: (hashes[0] if hashes else None) for name, hashes in held.items()
    }


CHECKER = """#!{python}
import sys
assert sys.argv[1].startswith("--include="), sys.argv
given = open(sys.argv[2]).read()
assert "(assume" in given and given.rstrip().splitlines()[-1].split()[2] == "false"
{answer}
"""


def external_checker(folder: Path, answer: str) -> tuple[str | Path, ...]:
    """A program with the manners of Ethos, and something to stand for its rules."""
    program = folder / "ethos"
    program.write_text(CHECKER.format(python=sys.executable, answer=answer))
    program.chmod(0o755)
    (folder / "Cpc.eo").write_text("; rules")
    return "--checker", program, "--rules", folder / "Cpc.eo"


def test_an_external_checker_goes_over_every_proof(folder: Path, proved: tuple[Path, Result]):
    result = run("proof", proved[0], *external_checker(folder, "print('correct')"))
    assert result.exit_code == 0, result.output
    assert "1 of 1 proof objects are correct, says ethos " in result.output
    assert "2 obligations were decided without a solver" in result.output


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("print('incomplete')", "incomplete, it trusts a step"),
        ("sys.exit('no such rule')", "failed, no such rule"),
        ("print('correct'); sys.exit(3)", "failed"),
        ("import os; os.abort()", "failed"),
    ],
)
def test_what_the_checker_does_not_find_correct_fails(
    folder: Path, proved: tuple[Path, Result], answer: str, says: str
):
    result = run("proof", proved[0], *external_checker(folder, answer))
    assert (result.exit_code, says in result.output) == (1, True), result.output


@pytest.mark.parametrize("suffix", ["smt2", "cpc"])
def test_a_changed_script_or_proof_fails_whatever_the_checker_says(
    folder: Path, proved: tuple[Path, Result], suffix: str
):
    (file,) = proved[0].glob(f"*.{suffix}")
    file.write_text(file.read_text() + "; more")
    result = run("proof", proved[0], *external_checker(folder, "print('correct')"))
    assert (result.exit_code, "is missing or another" in result.output) == (1, True), result.output


@pytest.mark.skipif(
    not {"ACGS_PROVER_ETHOS", "ACGS_PROVER_CPC_SIGNATURE"} <= set(os.environ),
    reason="needs the proof checker Ethos: ACGS_PROVER_ETHOS and ACGS_PROVER_CPC_SIGNATURE",
)
def test_ethos_finds_the_proofs_of_the_shipped_example_correct(tmp_path: Path):
    example = Path(__file__).parents[3] / "examples" / "airline"
    inputs = ("--constitution", example / "constitution.yaml", "--policies", example / "policies.cedar")
    assert run("policies", *inputs, "--proofs", tmp_path).exit_code == 0
    result = run("proof", tmp_path)
    assert result.exit_code == 0, result.output
    assert "17 of 17 proof objects are correct" in result.output
