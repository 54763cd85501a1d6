"""`acgs1 verify`: proofs on one's own machine, without the running system."""

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import (
    Certificate,
    EnvironmentAnswer,
    EnvironmentChange,
    Finding,
    NewQuestion,
    Obligation,
    RequestEnvironment,
)
from acgs1.core.clock import SystemClock
from acgs1.core.errors import DomainError, ErrorItem
from acgs1.core.hashing import text_hash
from acgs1.kit.constitution_file import ConstitutionFile, InvalidConstitutionFile, load_constitution
from acgs1.kit.signing import VerifyingKey, base64url_decode
from acgs1.services.formal_verification.domain import (
    Job,
    Plan,
    PolicyFacts,
    certificate_flaws,
    hygiene_findings,
    implied_findings,
    overall_change,
    signed_bytes,
    undecided_facts,
    verdict_of,
)

if TYPE_CHECKING:
    from acgs1.services.formal_verification.adapters.pool import ProverPool

_STYLES = {"proved": "green", "refuted": "red", "unknown": "yellow"}

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0, min_open=True)
_out = Console(highlight=False, soft_wrap=True)


class _Failure(click.ClickException):
    """The question could not be put: exit status 2, as for a usage error."""

    exit_code = 2


@click.group("verify")
def verify() -> None:
    """Prove policies, compare policy sets, check certificates.

    Exit status: 0 when it holds, 1 when it does not or is not known, 2 when the input is not valid.
    """


@verify.command("policies")
@click.option("--constitution", "law", type=_File, required=True, help="The constitution (YAML or JSON).")
@click.option("--policies", "file", type=_File, required=True, help="The policy set (Cedar).")
@click.option("--deadline", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Prover processes.")
@click.option("--second-opinion/--no-second-opinion", default=True, help="Ask z3 about what cvc5 proved.")
@click.option("--json", "as_json", is_flag=True, help="Print the obligations as JSON.")
def policies(law: Path, file: Path, deadline: float, workers: int, second_opinion: bool, as_json: bool) -> None:
    """Prove that the policies keep every principle of the constitution."""
    constitution = _constitution(law)
    data = {"policies": _text(file), "constitution": constitution.model_dump(mode="json")}
    files = {"constitution": law, "policies": file}
    plan, results = _run(Job("cli", "verify", data), deadline, workers, second_opinion, files=files)
    obligations = [Obligation.model_validate(result) for result in results]
    verdict = verdict_of(obligations)
    if as_json:
        click.echo(json.dumps({"verdict": verdict, "obligations": results}, indent=2))
    else:
        _show_obligations(obligations)
        for principle_id in plan.facts["principles_without_invariants"]:
            _out.print(f"[yellow]not proved[/]  principle `{principle_id}` has no invariant: people judge it")
        counted = {v: sum(o.verdict == v for o in obligations) for v in _STYLES}
        _out.print(
            f"[bold {_STYLES[verdict]}]{verdict}[/]: {len(obligations)} obligations, "
            + ", ".join(f"{count} {name}" for name, count in counted.items())
        )
    sys.exit(0 if verdict == "proved" else 1)


def _show_obligations(obligations: list[Obligation]) -> None:
    for obligation in obligations:
        if obligation.verdict == "proved":
            continue
        subject = obligation.principle_id or obligation.policy_id
        place = _place(obligation.environment)
        _out.print(f"[{_STYLES[obligation.verdict]}]{obligation.verdict}[/]  {obligation.kind} `{subject}` in {place}")
        if obligation.counterexample is not None:
            _out.print(f"         {obligation.counterexample.explanation}", markup=False)
        elif obligation.reason is not None:
            _out.print(f"         {obligation.reason}", markup=False)


@verify.command("compare")
@click.argument("old", type=_File)
@click.argument("new", type=_File)
@click.option("--schema", type=_File, required=True, help="The schema (Cedar) of both sets.")
@click.option("--deadline", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def compare(old: Path, new: Path, schema: Path, deadline: float, as_json: bool) -> None:
    """What changes, in meaning, from the policies in OLD to those in NEW.

    Exit status: 0 when nothing is newly allowed, 1 when something is or that is not known.
    """
    data = {"schema_text": _text(schema), "old": _text(old), "new": _text(new)}
    _, results = _run(Job("cli", "compare", data), deadline, 1, second_opinion=False, files={"old": old, "new": new})
    changes = [EnvironmentChange.model_validate(result) for result in results]
    change = overall_change(c.change for c in changes)
    if as_json:
        click.echo(json.dumps({"change": change, "environments": results}, indent=2))
    else:
        for one in changes:
            if one.change == "unchanged":
                continue
            _out.print(f"[bold]{one.change}[/]  {_place(one.environment)}")
            for mark, witness in (("+", one.newly_allowed), ("-", one.newly_denied)):
                if witness is not None:
                    _out.print(f"  {mark} {witness.explanation}", markup=False)
        _out.print(f"[bold]{change}[/]: {len(changes)} request environments")
    sys.exit(0 if change in {"unchanged", "narrows"} else 1)


@verify.command("question")
@click.option("--schema", type=_File, required=True, help="The schema (Cedar).")
@click.option("--policies", "file", type=_File, required=True, help="The policy set (Cedar).")
@click.option("--when", default="true", show_default=True, metavar="CONDITION", help="What the request is like.")
@click.option("--assume", multiple=True, metavar="CONDITION", help="What may be taken for granted; repeatable.")
@click.option("--denied", is_flag=True, help="Ask whether it can be denied rather than allowed.")
@click.option("--principal", metavar="TYPE")
@click.option("--action", "actions", multiple=True, metavar="NAME")
@click.option("--resource", metavar="TYPE")
@click.option("--deadline", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS")
def question(
    schema: Path,
    file: Path,
    when: str,
    assume: tuple[str, ...],
    denied: bool,
    principal: str | None,
    actions: tuple[str, ...],
    resource: str | None,
    deadline: float,
) -> None:
    """Can a request like that ever be allowed?

    Exit status: 0 when that is proved impossible, 1 when there is one (it is shown) or that is not known.
    """
    asked = NewQuestion(
        schema_text=_text(schema),
        policies=_text(file),
        decision="deny" if denied else "allow",
        when=when,
        assume=assume,
        principal=principal,
        actions=actions,
        resource=resource,
    )
    _, results = _run(
        Job("cli", "question", asked.model_dump(mode="json")),
        deadline,
        1,
        second_opinion=False,
        files={"policies": file},
    )
    answers = [EnvironmentAnswer.model_validate(result) for result in results]
    for answer in answers:
        _out.print(f"[bold]{answer.answer}[/]  {_place(answer.environment)}")
        if answer.example is not None:
            _out.print(f"     {answer.example.explanation}", markup=False)
        elif answer.reason:
            _out.print(f"     {answer.reason}", markup=False)
    sys.exit(0 if all(answer.answer == "no" for answer in answers) else 1)


@verify.command("hygiene")
@click.option("--constitution", "law", type=_File, required=True, help="The constitution (YAML or JSON).")
@click.option(
    "--policies", "file", type=_File, help="The policy set (Cedar); without it, the constitution is looked at."
)
@click.option("--deadline", type=_SECONDS, default=60.0, show_default=True, metavar="SECONDS")
def hygiene(law: Path, file: Path | None, deadline: float) -> None:
    """Policies that do nothing or too much; without --policies, principles that contradict or imply one another.

    Exit status: 0 when there is nothing to report, 1 otherwise.
    """
    data: dict[str, Any] = {"constitution": _constitution(law).model_dump(mode="json")}
    if file is not None:
        _, results = _run(
            Job("cli", "hygiene", {**data, "policies": _text(file)}),
            deadline,
            1,
            second_opinion=False,
            files={"constitution": law, "policies": file},
        )
        facts = [PolicyFacts(**result) for result in results if "undecided" not in result]
        findings = hygiene_findings(facts)
        undecided = len(results) - len(facts) + undecided_facts(facts)
    else:
        _, results = _run(
            Job("cli", "constitution", data), deadline, 1, second_opinion=False, files={"constitution": law}
        )
        findings = [Finding.model_validate(finding) for result in results for finding in result["findings"]]
        findings += implied_findings(result["implied"] for result in results)
        undecided = sum(result["undecided"] for result in results)
    for finding in findings:
        _out.print(f"[yellow]{finding.kind}[/]  {escape(finding.detail)}")
    _out.print(f"{len(findings)} findings, {undecided} questions without an answer")
    sys.exit(1 if findings or undecided else 0)


@verify.command("proofs")
@click.option("--constitution", "law", type=_File, required=True, help="The constitution (YAML or JSON).")
@click.option("--policies", "file", type=_File, required=True, help="The policy set (Cedar).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to write them.")
@click.option("--format", "form", type=click.Choice(["cpc", "alethe"]), default="cpc", show_default=True)
@click.option("--deadline", type=_SECONDS, default=600.0, show_default=True, metavar="SECONDS")
def proofs(law: Path, file: Path, out: Path, form: str, deadline: float) -> None:
    """Write each obligation's SMT-LIB script and cvc5's proof of it, for a checker that trusts neither.

    Ethos checks CPC proofs, Carcara Alethe ones. Files are named by the script's SHA-256, as certificates name it. Exit
    status: 0 when every script has a proof, 1 otherwise.
    """
    data = {"policies": _text(file), "constitution": _constitution(law).model_dump(mode="json"), "format": form}
    _, results = _run(
        Job("cli", "proofs", data), deadline, 1, second_opinion=False, files={"constitution": law, "policies": file}
    )
    out.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    without = 0
    for result in results:
        for script in result["scripts"]:
            (out / f"{script['sha256']}.smt2").write_text(script["smtlib"])
            if script["proof"] is None:
                without += 1
            else:
                (out / f"{script['sha256']}.{form}").write_text(script["proof"])
        scripts = [script["sha256"] for script in result["scripts"]]
        index.append({"id": result["id"], "verdict": result["verdict"], "scripts": scripts})
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    count = sum(len(entry["scripts"]) for entry in index)
    folded = sum(entry["verdict"] == "proved" and not entry["scripts"] for entry in index)
    unproved = sum(entry["verdict"] != "proved" for entry in index)
    _out.print(
        f"{count} scripts, {count - without} with a proof; {folded} obligations needed no solver; {unproved} are not proved"
    )
    sys.exit(1 if without or unproved else 0)


@verify.command("ledger")
@click.option("--steps", type=click.IntRange(1, 6), default=3, show_default=True, help="Actions of the state machine.")
def ledger(steps: int) -> None:
    """Check the vote's rules on the model of the ledger program, for all weights and every sequence of so many actions.

    Exit status: 0 when every rule holds, 1 otherwise.
    """
    from acgs1.services.formal_verification.adapters.kernel.ledger_rules import LIMITS, rules, walk

    marks = {True: "[green]holds[/]   ", False: "[red]fails[/]   ", None: "[yellow]unknown[/] "}
    good = True
    for name, program in rules(steps):
        result = walk(name, program)
        good = good and result.holds is True
        _out.print(f"{marks[result.holds]} {escape(name)} ({result.paths} paths)")
        if result.example is not None:
            _out.print(f"          {result.example}", markup=False)
    for name, program in LIMITS:
        _out.print(f"[dim]limit[/]    {escape(name)}: no; {escape(walk(name, program).example or '')}")
    sys.exit(0 if good else 1)


@verify.command("certificate")
@click.argument("file", type=_File)
@click.option("--key", "public_key", metavar="KEY", help="The verifier key (base64url), from where you trust it.")
@click.option("--recheck", is_flag=True, help="Prove it again; needs --policies and --constitution.")
@click.option("--policies", "policies_file", type=_File, help="The policies that it was issued for.")
@click.option("--constitution", "law", type=_File, help="The constitution that it was issued for.")
@click.option("--deadline", type=_SECONDS, default=600.0, show_default=True, metavar="SECONDS")
def certificate(
    file: Path, public_key: str | None, recheck: bool, policies_file: Path | None, law: Path | None, deadline: float
) -> None:
    """Check the certificate in FILE: its hash, its signature, its inputs, and with --recheck its proofs."""
    try:
        found = Certificate.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise _Failure(f"`{file}` is no certificate: {_first_error(error)}") from error
    if recheck and (policies_file is None or law is None):
        raise click.UsageError("--recheck needs --policies and --constitution")
    checks: list[tuple[str, bool | None]] = [(flaw, False) for flaw in certificate_flaws(found)]
    if not checks:
        checks.append((f"the hash is that of the body, with {len(found.body.obligations)} obligations proved", True))
    checks.append(_signature_check(found, public_key))
    constitution = _constitution(law) if law is not None else None
    if policies_file is not None:
        same = text_hash(_text(policies_file)) == found.body.policies_hash
        checks.append((f"it is for the policies in `{policies_file}`", same))
    if constitution is not None:
        same = constitution.hash == found.body.constitution_hash
        same = same and text_hash(constitution.schema_text) == found.body.schema_hash
        checks.append((f"it is for the constitution in `{law}`", same))
    if recheck and policies_file is not None and constitution is not None:
        checks.append(_recheck(found, _text(policies_file), constitution, deadline))
    marks = {True: "[green]ok[/]           ", False: "[red]FAILED[/]       ", None: "[yellow]not checked[/]  "}
    for words, good in checks:
        _out.print(f"{marks[good]}{words}")
    sys.exit(1 if any(good is False for _, good in checks) else 0)


def _signature_check(found: Certificate, public_key: str | None) -> tuple[str, bool | None]:
    if public_key is None:
        return "the signature: give --key to check it", None
    try:
        key = VerifyingKey.from_base64url(public_key)
        signature = base64url_decode(found.signature)
    except ValueError as error:
        raise _Failure(f"the key or the signature is not base64url: {error}") from error
    return f"signed by {key.key_id}", key.key_id == found.key_id and key.verify(signature, signed_bytes(found.body))


def _recheck(found: Certificate, policies_text: str, constitution: Constitution, deadline: float) -> tuple[str, bool]:
    """Proves every obligation again, from nothing, and looks for each of the certificate's among them."""
    data = {"policies": policies_text, "constitution": constitution.model_dump(mode="json")}
    _, results = _run(Job("cli", "verify", data), deadline, 1, second_opinion=True)
    proved = {result["id"] for result in results if result["verdict"] == "proved"}
    missing = [result["id"] for result in results if result["verdict"] != "proved"]
    missing += [obligation.id for obligation in found.body.obligations if obligation.id not in proved]
    if missing:
        return f"proved again, except {len(missing)}, such as `{missing[0]}`", False
    return f"proved again: {len(proved)} obligations", True


def _run(
    job: Job, deadline: float, workers: int, second_opinion: bool, *, files: dict[str, Path] | None = None
) -> tuple[Plan, list[dict[str, Any]]]:
    """Plan and results; `files` says where the parts of the job's input were read, for the positions of errors."""
    try:
        return asyncio.run(_prove(job, deadline, workers, second_opinion))
    except DomainError as error:
        lines = [f"  {_where(item, files or {})}: {item.detail}" for item in error.items]
        raise _Failure("\n".join([f"{error.title}: {error.detail}", *lines])) from error


def _where(item: ErrorItem, files: dict[str, Path]) -> str:
    """`file:line:column` of an error in one of the files."""
    part, _, rest = (item.pointer or "").removeprefix("/").partition("/")
    line, column = item.line or 1, item.column or 1
    file = files.get(part)
    if file is None:
        return f"{item.pointer or 'input'}:{line}:{column}"
    if part == "constitution":
        law = ConstitutionFile(file)
        if rest == "schema_text":
            file = law.schema_path
        else:
            first, column = law.place(rest)
            line += first - 1
    return f"{file}:{line}:{column}"


async def _prove(job: Job, deadline: float, workers: int, second_opinion: bool) -> tuple[Plan, list[dict[str, Any]]]:
    from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool

    limits = PoolLimits(workers=workers, second_opinion_ms=2000 if second_opinion else 0)
    pool = ProverPool(limits, SystemClock())
    try:
        return await _with_progress(pool, job, deadline)
    finally:
        await pool.close()


async def _with_progress(pool: "ProverPool", job: Job, deadline: float) -> tuple[Plan, list[dict[str, Any]]]:
    columns = (TextColumn("proving"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("proving", total=None)
        plan = await pool.plan(job)
        progress.update(task, total=len(plan.items))
        results: dict[int, dict[str, Any]] = {}
        async with aclosing(pool.run(job, plan, [item.index for item in plan.items], deadline)) as answers:
            async for index, result in answers:
                results[index] = result
                progress.advance(task)
    return plan, [results[item.index] for item in plan.items]


def _constitution(file: Path) -> Constitution:
    try:
        return load_constitution(file)
    except InvalidConstitutionFile as error:
        raise _Failure(f"{error.title}: {error.detail}") from error


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _Failure(f"`{file}` cannot be read: {error}") from error


def _place(environment: RequestEnvironment) -> str:
    return f"{environment.principal} / {environment.action} / {environment.resource}"
