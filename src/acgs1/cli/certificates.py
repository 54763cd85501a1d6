"""`acgs1 verify certificate` and `acgs1 verify proof`: certificates without the running system, proofs without the solver."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.markup import escape

from acgs1.cli.proving import FILE, SECONDS, Failure, first_error, out, read_constitution, read_text, run_job
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateInputs,
    CertificateProofs,
    ObligationProofs,
    ProofCheck,
    ScriptProof,
)
from acgs1.core.errors import DomainError
from acgs1.core.hashing import text_hash
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.signing import VerifyingKey, base64url_decode
from acgs1.services.formal_verification.archive import CertificateArchive, InvalidArchive, texts_of, unpack
from acgs1.services.formal_verification.domain import Job, certificate_flaws, script_digest, signed_bytes

_MARKS = {True: "[green]ok[/]           ", False: "[red]FAILED[/]       ", None: "[yellow]not checked[/]  "}

Check = tuple[str, bool | None]


@click.command("certificate")
@click.argument("file", type=FILE)
@click.option("--key", "public_key", metavar="KEY", help="The verifier key (base64url), from where you trust it.")
@click.option("--recheck", is_flag=True, help="Prove it again from its inputs.")
@click.option("--policies", "policies_file", type=FILE, help="The policies that it was issued for.")
@click.option("--constitution", "law", type=FILE, help="The constitution that it was issued for.")
@click.option("--deadline", type=SECONDS, default=600.0, show_default=True, metavar="SECONDS")
def certificate(
    file: Path, public_key: str | None, recheck: bool, policies_file: Path | None, law: Path | None, deadline: float
) -> None:
    """Check the certificate in FILE: its hash, its signature, its inputs, and with --recheck its proofs.

    FILE is a certificate or an archive of one (`/api/v1/certificates/HASH/archive`). The inputs are those of --policies and
    --constitution, else those of the archive, else those that the service has archived in this machine's data directory.

    Exit status: 0 when nothing fails, 1 when something does, 2 when there is nothing to check it with.
    """
    found, archived = _read(file)
    checks: list[Check] = [(flaw, False) for flaw in certificate_flaws(found)]
    if not checks:
        checks.append((f"the hash is that of the body, with {len(found.body.obligations)} obligations proved", True))
    checks.append(_signature_check(found, public_key))
    inputs = _inputs(found, archived, policies_file, law, wanted=recheck)
    if inputs.policies is not None:
        same = text_hash(inputs.policies) == found.body.policies_hash
        checks.append((f"it is for the policies in {inputs.policies_from}", same))
    if inputs.constitution is not None:
        same = inputs.constitution.hash == found.body.constitution_hash
        same = same and text_hash(inputs.constitution.schema_text) == found.body.schema_hash
        checks.append((f"it is for the constitution in {inputs.constitution_from}", same))
    if recheck and inputs.policies is not None and inputs.constitution is not None:
        data = {"policies": inputs.policies, "constitution": inputs.constitution.model_dump(mode="json")}
        checks += _recheck(found, data, deadline)
    _show(checks)


def _show(checks: list[Check]) -> None:
    for words, good in checks:
        out.print(f"{_MARKS[good]}{words}")
    sys.exit(1 if any(good is False for _, good in checks) else 0)


def _read(file: Path) -> tuple[Certificate, CertificateArchive | None]:
    data = file.read_bytes()
    try:
        if data.startswith(b"PK"):
            archive = unpack(data)
            return archive.certificate, archive
        return Certificate.model_validate_json(data), None
    except InvalidArchive as error:
        raise Failure(f"`{file}` is no archive of a certificate: {error}") from error
    except ValidationError as error:
        raise Failure(f"`{file}` is no certificate: {first_error(error)}") from error


@dataclass(frozen=True)
class _Inputs:
    policies: str | None
    policies_from: str
    constitution: Any
    constitution_from: str


def _inputs(
    found: Certificate,
    archived: CertificateArchive | None,
    policies_file: Path | None,
    law: Path | None,
    *,
    wanted: bool,
) -> _Inputs:
    kept = archived.inputs if archived is not None else None
    source = "the archive"
    if kept is None and wanted and (policies_file is None or law is None):
        kept, source = asyncio.run(_from_data_directory(found.hash)), "this machine's data directory"
    return _Inputs(
        policies=read_text(policies_file) if policies_file is not None else kept.policies if kept else None,
        policies_from=f"`{policies_file}`" if policies_file is not None else source,
        constitution=read_constitution(law) if law is not None else kept.constitution if kept else None,
        constitution_from=f"`{law}`" if law is not None else source,
    )


async def _from_data_directory(digest: str) -> CertificateInputs:
    from acgs1.kit.db import Database, Store
    from acgs1.kit.home import Home
    from acgs1.services.formal_verification.repository import VerificationRepository

    missing = "give --policies and --constitution, or an archive of the certificate"
    settings = PlatformSettings()
    file = settings.home / "db" / "formal_verification.sqlite3"
    if settings.database_url is None and not file.is_file():
        raise Failure(f"--recheck needs the inputs, and there are none at `{file}`: {missing}")
    database = Database.for_service("formal_verification", settings, Home(settings.home))
    try:
        async with Store(database, VerificationRepository).reading() as records:
            kept = await records.certificate(digest)
            stored = await records.verification(kept[1]) if kept is not None else None
    except DomainError as error:
        raise Failure(f"{error.title}: {error.detail}") from error
    finally:
        await database.close()
    if stored is None:
        raise Failure(f"--recheck needs the inputs, and this machine issued no certificate `{digest}`: {missing}")
    return CertificateInputs(policies=stored.policies, constitution=stored.constitution)


def _signature_check(found: Certificate, public_key: str | None) -> Check:
    if public_key is None:
        return "the signature: give --key to check it", None
    try:
        key = VerifyingKey.from_base64url(public_key)
        signature = base64url_decode(found.signature)
    except ValueError as error:
        raise Failure(f"the key or the signature is not base64url: {error}") from error
    return f"signed by {key.key_id}", key.key_id == found.key_id and key.verify(signature, signed_bytes(found.body))


def _recheck(found: Certificate, data: dict[str, Any], deadline: float) -> list[Check]:
    """Proves every obligation again, from nothing, looks for each of the certificate's among them, and compares the evidence."""
    plan, results = run_job(Job("cli", "verify", data), deadline, 1, second_opinion=True)
    again = {result["id"]: result for result in results if result["verdict"] == "proved"}
    missing = [result["id"] for result in results if result["verdict"] != "proved"]
    missing += [obligation.id for obligation in found.body.obligations if obligation.id not in again]
    checks: list[Check] = []
    if missing:
        checks.append((f"proved again, except {len(missing)}, such as `{missing[0]}`", False))
    else:
        checks.append((f"proved again: {len(again)} obligations", True))
    same_kernel = plan.facts["kernel"] == found.body.kernel
    checks.append(_compared("kernel", found.body.kernel, plan.facts["kernel"]))
    asked = {_solver_name(result["solver"]) for result in again.values()} - {""}
    signed = {_solver_name(obligation.solver) for obligation in found.body.obligations} - {""}
    checks.append(_compared("solver", ", ".join(sorted(signed)), ", ".join(sorted(asked))))
    return [*checks, *_scripts_compared(found, again, same_kernel=same_kernel)]


def _compared(what: str, signed: str, here: str) -> Check:
    """Another version than the one that was signed proves as much; only, its scripts need not be the same."""
    if signed == here:
        return f"with the same {what}: {escape(here) or 'none was needed'}", True
    return f"with another {what}: signed `{escape(signed)}`, here `{escape(here)}`", None


def _solver_name(solver: str) -> str:
    """Who was asked, without how; nothing where nobody was."""
    return solver.partition(",")[0] if solver.startswith("cvc5") else ""


def _scripts_compared(found: Certificate, again: dict[str, dict[str, Any]], *, same_kernel: bool) -> list[Check]:
    """Whether the scripts that were put to the solver are those whose hashes were signed."""
    both = [obligation for obligation in found.body.obligations if obligation.id in again]
    other = [o.id for o in both if o.smtlib_sha256 != again[o.id]["smtlib_sha256"]]
    signed = sum(obligation.smtlib_sha256 is not None for obligation in both)
    if not other:
        return [(f"the hashes of the {signed} scripts are those that were signed", True)]
    named = ", ".join(f"`{name}`" for name in other[:5]) + (" and more" if len(other) > 5 else "")
    # The same kernel writes the same script; what differs then was signed about something else.
    return [
        (
            f"{len(other)} of {len(both)} scripts differ from those that were signed: {named}",
            False if same_kernel else None,
        )
    ]


@click.command("proof")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--checker",
    type=FILE,
    envvar="ACGS_PROVER_ETHOS",
    required=True,
    help="The program of the proof checker Ethos. [env ACGS_PROVER_ETHOS]",
)
@click.option(
    "--rules",
    type=FILE,
    envvar="ACGS_PROVER_CPC_SIGNATURE",
    required=True,
    help="The rules of the proofs: `proofs/eo/cpc/Cpc.eo` of cvc5's sources. [env ACGS_PROVER_CPC_SIGNATURE]",
)
@click.option("--certificate", "certificate_file", type=FILE, help="Look for each of its obligations among the proofs.")
@click.option("--json", "as_json", is_flag=True, help="Print what the checker said as JSON.")
def proof(source: Path, checker: Path, rules: Path, certificate_file: Path | None, as_json: bool) -> None:
    """Have an external checker go over proof objects: those of an archive, or of a folder from `verify policies --proofs`.

    Exit status: 0 when every script's proof is found correct, 1 otherwise, 2 when there is no checker or no proof.
    """
    proofs, texts, found = _proofs(source, certificate_file)
    said = asyncio.run(_check_all(proofs, texts, checker, rules))
    bad = [(name, words) for name, words in said.items() if words.result != "correct"]
    bare = [p for o in proofs.obligations for p in o.proofs if p.proof_sha256 is None]
    checks: list[Check] = [(f"proof `{name[:16]}`: {words.result}, {words.detail}", False) for name, words in bad]
    checks += [(f"script `{p.smtlib_sha256[:16]}` has no proof object: {p.reason}", False) for p in bare]
    if len(bad) < len(said):
        name = next(iter(said.values())).checker
        checks.append((f"{len(said) - len(bad)} of {len(said)} proof objects are correct, says {name}", True))
    alone = [o for o in proofs.obligations if o.strength in {"compiled", "identity"}]
    if alone:
        checks.append((f"{len(alone)} obligations were decided without a solver: there is no proof to check", None))
    if found is not None:
        checks.append(_covers(found, proofs))
    if as_json:
        click.echo(json.dumps({name: words.model_dump() for name, words in said.items()}, indent=2))
        sys.exit(1 if bad or bare else 0)
    _show(checks)


def _proofs(
    source: Path, certificate_file: Path | None
) -> tuple[CertificateProofs, dict[str, str], Certificate | None]:
    found = _read(certificate_file)[0] if certificate_file is not None else None
    try:
        if source.is_dir():
            index: dict[str, Any] = json.loads(read_text(source / "index.json"))
            proofs = CertificateProofs.model_validate({"certificate_hash": "0" * 64, **index})
            files = {f"proofs/{each.name}": read_text(each) for each in source.iterdir() if each.suffix != ".json"}
            texts = texts_of(files)
        else:
            archive = unpack(source.read_bytes())
            proofs, texts, found = archive.proofs, archive.texts, found or archive.certificate
    except (InvalidArchive, ValidationError, json.JSONDecodeError) as error:
        raise Failure(f"`{source}` holds no proofs: {error}") from error
    if not any(obligation.proofs for obligation in proofs.obligations):
        raise Failure(f"`{source}` holds no proof object; prove with `?proofs=true`, or `verify policies --proofs`")
    return proofs, texts, found


async def _check_all(
    proofs: CertificateProofs, texts: dict[str, str], program: Path, rules: Path
) -> dict[str, ProofCheck]:
    """What the checker says, by the hash of the proof object."""
    from acgs1.services.formal_verification.adapters.ethos import CheckerUnusable, EthosChecker

    try:
        checker = EthosChecker(program, rules)
    except CheckerUnusable as error:
        raise Failure(str(error)) from error
    said: dict[str, ProofCheck] = {}
    for each in (each for obligation in proofs.obligations for each in obligation.proofs):
        if each.proof_sha256 is not None and each.proof_sha256 not in said:
            said[each.proof_sha256] = await _check_one(checker, each, texts)
    return said


async def _check_one(checker: Any, each: ScriptProof, texts: dict[str, str]) -> ProofCheck:
    for digest in (each.smtlib_sha256, each.proof_sha256):
        if digest is not None and (digest not in texts or text_hash(texts[digest]) != digest):
            return ProofCheck(
                checker=checker.name, result="failed", detail=f"the text of `{digest}` is missing or another"
            )
    return await checker.check(texts[each.smtlib_sha256], texts[each.proof_sha256 or ""])


def _covers(found: Certificate, proofs: CertificateProofs) -> Check:
    """Whether the scripts of each obligation that needed a solver are those whose hash the certificate signs."""
    by_id: dict[str, ObligationProofs] = {each.obligation_id: each for each in proofs.obligations}
    missing: list[str] = []
    for obligation in found.body.obligations:
        held = by_id.get(obligation.id)
        digests = [each.smtlib_sha256 for each in held.proofs] if held is not None else []
        if obligation.smtlib_sha256 is not None and script_digest(digests) != obligation.smtlib_sha256:
            missing.append(obligation.id)
    signed = sum(obligation.smtlib_sha256 is not None for obligation in found.body.obligations)
    if missing:
        return (
            f"the certificate signs {signed} scripts; {len(missing)} are not here, such as that of `{missing[0]}`",
            False,
        )
    return f"the {signed} scripts are those that the certificate signs", True
