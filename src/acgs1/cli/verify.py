"""`acgs1 verify`: proofs on one's own machine, without the running system."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.markup import escape

from acgs1.cli.proving import FILE, SECONDS, Failure, first_error, out, place_of, read_constitution, read_text, run_job
from acgs1.contracts.formal_verification import (
    Counterexample,
    EnvironmentChange,
    NewQuestion,
    Obligation,
    Suggestion,
)
from acgs1.services.formal_verification.domain import (
    INFORMATIONAL,
    Job,
    answer_of,
    constitution_outcome,
    hygiene_outcome,
    overall_change,
    verdict_of,
)

_STYLES = {"proved": "green", "refuted": "red", "unknown": "yellow"}
_EVIDENCE = {
    "identity": "with nothing to ask, because no policy reads the attributes",
    "compiled": "decided by the compiler",
    "earlier_proof": "resting on an earlier proof",
    "one_solver": "proved by cvc5 alone",
    "two_solvers": "proved by cvc5, z3 agrees",
    "checked_proof": "and checked by another checker",
}


@click.group("verify")
def verify() -> None:
    """Prove policies, compare policy sets, check certificates.

    Exit status: 0 when it holds, 1 when it does not or is not known, 2 when the input is not valid.
    """


@verify.command("policies")
@click.option("--constitution", "law", type=FILE, required=True, help="The constitution (YAML or JSON).")
@click.option("--policies", "file", type=FILE, required=True, help="The policy set (Cedar).")
@click.option("--deadline", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Prover processes.")
@click.option("--second-opinion/--no-second-opinion", default=True, help="Ask z3 about what cvc5 proved.")
@click.option(
    "--proofs",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the solver's scripts and proof objects there, for `acgs1 verify proof`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the obligations as JSON.")
def policies(
    law: Path, file: Path, deadline: float, workers: int, second_opinion: bool, folder: Path | None, as_json: bool
) -> None:
    """Prove that the policies keep every principle of the constitution."""
    constitution = read_constitution(law)
    data = {"policies": read_text(file), "constitution": constitution.model_dump(mode="json"), "warnings": True}
    files = {"constitution": law, "policies": file}
    job = Job("cli", "verify" if folder is None else "proofs", data)
    plan, results = run_job(job, deadline, workers, second_opinion, files=files)
    if folder is not None:
        _write_proofs(folder, results)
    obligations = [Obligation.model_validate(result) for result in results]
    verdict = verdict_of(obligations)
    if as_json:
        found = {"verdict": verdict, "obligations": results, "findings": plan.facts["findings"]}
        click.echo(json.dumps(found, indent=2))
    else:
        _show_obligations(obligations)
        for finding in plan.facts["findings"]:
            out.print(f"[yellow]{finding['kind']}[/]  {escape(finding['detail'])}")
        for principle_id in plan.facts["principles_without_invariants"]:
            out.print(f"[yellow]not proved[/]  principle `{principle_id}` has no invariant: people judge it")
        _show_evidence(obligations)
        counted = {v: sum(o.verdict == v for o in obligations) for v in _STYLES}
        out.print(
            f"[bold {_STYLES[verdict]}]{verdict}[/]: {len(obligations)} obligations, "
            + ", ".join(f"{count} {name}" for name, count in counted.items())
        )
    sys.exit(0 if verdict == "proved" else 1)


def _write_proofs(folder: Path, results: list[dict[str, Any]]) -> None:
    """Scripts and proof objects by their hashes, and an index of which belong to which obligation."""
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    for result in results:
        texts: dict[str, str] = result.pop("texts", {})
        entry = {"obligation_id": result["id"]} | {
            name: result.get(name) for name in ("smtlib_sha256", "strength", "proofs")
        }
        for proof in entry["proofs"] or ():
            for digest, suffix in ((proof["smtlib_sha256"], "smt2"), (proof["proof_sha256"], "cpc")):
                if digest is not None:
                    (folder / f"{digest}.{suffix}").write_text(texts[digest])
        index.append({**entry, "proofs": entry["proofs"] or []})
    (folder / "index.json").write_text(json.dumps({"format": "cpc", "obligations": index}, indent=1) + "\n")


def _show_obligations(obligations: list[Obligation]) -> None:
    for obligation in obligations:
        if obligation.verdict == "proved":
            continue
        subject = obligation.principle_id or obligation.policy_id
        place = place_of(obligation.environment)
        out.print(f"[{_STYLES[obligation.verdict]}]{obligation.verdict}[/]  {obligation.kind} `{subject}` in {place}")
        if obligation.counterexample is not None:
            out.print(f"         {obligation.counterexample.explanation}", markup=False)
            _show_request(obligation.counterexample)
        elif obligation.reason is not None:
            out.print(f"         {obligation.reason}", markup=False)
        if obligation.suggestion is not None:
            what = _edit_words(obligation.suggestion)
            out.print(f"         proved to mend it: {what}", markup=False)
        elif obligation.verdict == "refuted":
            out.print("         no edit was found that is proved to mend it", markup=False)


def _edit_words(suggestion: Suggestion) -> str:
    edit = " ".join(suggestion.add.split())
    ids = ", ".join(f"`{policy_id}`" for policy_id in suggestion.policy_ids)
    match suggestion.edit:
        case "append":
            return f"in {ids}, write `{edit}` at the end"
        case "prepend":
            return f"in {ids}, write `{edit}` before the other conditions"
        case "policy":
            return f"add `{edit}`"
        case "replace":
            return f"write `{edit}` instead of {ids}" if edit else f"leave out {ids}"


def _show_request(shown: Counterexample) -> None:
    for run in (shown, shown.paired):
        if run is not None:
            request = f"{run.principal} {run.action} {run.resource} {json.dumps(run.context)}"
            out.print(f"         request   {request}", markup=False)
            out.print(f"         entities  {json.dumps(run.entities)}", markup=False)


def _show_evidence(obligations: list[Obligation]) -> None:
    counted = Counter(o.strength for o in obligations if o.verdict == "proved")
    parts = [f"{counted[strength]} {words}" for strength, words in _EVIDENCE.items() if counted[strength]]
    if parts:
        out.print(f"[dim]evidence[/]    {', '.join(parts)}")
    proofs = [proof for obligation in obligations for proof in obligation.proofs]
    if proofs:
        kept = sum(proof.proof_sha256 is not None for proof in proofs)
        out.print(f"[dim]evidence[/]    {len(proofs)} scripts, {kept} with a proof object that cvc5 has checked itself")
        for reason in sorted({proof.reason for proof in proofs if proof.reason is not None}):
            out.print(f"            no proof object: {reason}", markup=False)


@verify.command("compare")
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--schema", type=FILE, required=True, help="The schema (Cedar) of both sets.")
@click.option("--deadline", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def compare(old: Path, new: Path, schema: Path, deadline: float, as_json: bool) -> None:
    """What changes, in meaning, from the policies in OLD to those in NEW.

    Exit status: 0 when nothing is newly allowed, 1 when something is or that is not known.
    """
    data = {"schema_text": read_text(schema), "old": read_text(old), "new": read_text(new)}
    _, results = run_job(
        Job("cli", "compare", data),
        deadline,
        1,
        second_opinion=False,
        files={"old": old, "new": new, "schema_text": schema},
    )
    changes = [EnvironmentChange.model_validate(result) for result in results]
    change = overall_change(c.change for c in changes)
    if as_json:
        click.echo(json.dumps({"change": change, "environments": results}, indent=2))
    else:
        for one in changes:
            if one.change == "unchanged":
                continue
            out.print(f"[bold]{one.change}[/]  {place_of(one.environment)}")
            for mark, witness in (("+", one.newly_allowed), ("-", one.newly_denied)):
                if witness is not None:
                    out.print(f"  {mark} {witness.explanation}", markup=False)
            if one.reason is not None:
                out.print(f"    {one.reason}", markup=False)
        out.print(f"[bold]{change}[/]: {len(changes)} request environments")
    sys.exit(0 if change in {"unchanged", "narrows"} else 1)


@verify.command("question")
@click.option("--schema", type=FILE, required=True, help="The schema (Cedar).")
@click.option("--policies", "file", type=FILE, required=True, help="The policy set (Cedar).")
@click.option("--constitution", "law", type=FILE, help="Count its guards, too; it must be under the same schema.")
@click.option("--when", default="true", show_default=True, metavar="CONDITION", help="What the request is like.")
@click.option("--assume", multiple=True, metavar="CONDITION", help="What may be taken for granted; repeatable.")
@click.option("--denied", is_flag=True, help="Ask whether it can be denied rather than allowed.")
@click.option("--principal", metavar="TYPE")
@click.option("--action", "actions", multiple=True, metavar="NAME")
@click.option("--resource", metavar="TYPE")
@click.option("--deadline", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
def question(
    schema: Path,
    file: Path,
    law: Path | None,
    when: str,
    assume: tuple[str, ...],
    denied: bool,
    principal: str | None,
    actions: tuple[str, ...],
    resource: str | None,
    deadline: float,
    as_json: bool,
) -> None:
    """Can a request like that ever be allowed?

    Exit status: 0 when that is proved impossible, 1 when there is one (it is shown) or that is not known.
    """
    try:
        asked = NewQuestion(
            schema_text=read_text(schema),
            policies=read_text(file),
            constitution=read_constitution(law) if law is not None else None,
            decision="deny" if denied else "allow",
            when=when,
            assume=assume,
            principal=principal,
            actions=actions,
            resource=resource,
        )
    except ValidationError as error:
        raise Failure(f"the question cannot be put: {first_error(error)}") from error
    _, results = run_job(
        Job("cli", "question", asked.model_dump(mode="json")),
        deadline,
        1,
        second_opinion=False,
        files={"policies": file, "schema_text": schema, **({"constitution": law} if law is not None else {})},
    )
    answer = answer_of(results)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=2))
    else:
        for one in answer.environments:
            out.print(f"[bold]{one.answer}[/]  {place_of(one.environment)}")
            if one.example is not None:
                out.print(f"     {one.example.explanation}", markup=False)
            elif one.reason:
                out.print(f"     {one.reason}", markup=False)
    sys.exit(0 if answer.answer == "no" else 1)


@verify.command("hygiene")
@click.option("--constitution", "law", type=FILE, required=True, help="The constitution (YAML or JSON).")
@click.option(
    "--policies", "file", type=FILE, help="The policy set (Cedar); without it, the constitution is looked at."
)
@click.option("--overrides", is_flag=True, help="Also list which forbids limit which permits; that is no fault.")
@click.option("--deadline", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def hygiene(law: Path, file: Path | None, overrides: bool, deadline: float, as_json: bool) -> None:
    """Policies that can fail, do nothing or too much; without --policies, principles that contradict or imply one another, or never apply.

    Exit status: 0 when there is nothing to mend, 1 otherwise.
    """
    data: dict[str, Any] = {"constitution": read_constitution(law).model_dump(mode="json")}
    if file is not None:
        _, results = run_job(
            Job("cli", "hygiene", {**data, "policies": read_text(file), "overrides": overrides}),
            deadline,
            1,
            second_opinion=False,
            files={"constitution": law, "policies": file},
        )
        outcome = hygiene_outcome(results)
    else:
        _, results = run_job(
            Job("cli", "constitution", data), deadline, 1, second_opinion=False, files={"constitution": law}
        )
        outcome = constitution_outcome(results)
    to_mend = sum(finding.kind not in INFORMATIONAL for finding in outcome.findings)
    if as_json:
        click.echo(json.dumps(outcome.model_dump(mode="json"), indent=2))
    else:
        for finding in outcome.findings:
            style = "dim" if finding.kind in INFORMATIONAL else "yellow"
            out.print(f"[{style}]{finding.kind}[/]  {escape(finding.detail)}")
        for unanswered in outcome.unanswered:
            out.print(f"[yellow]unknown[/]  {escape(unanswered)}")
        out.print(f"{to_mend} findings, {outcome.undecided} questions without an answer")
    sys.exit(1 if to_mend or outcome.undecided else 0)


@verify.command("ledger")
@click.option("--steps", type=click.IntRange(1, 6), default=4, show_default=True, help="Actions of the state machine.")
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
        out.print(f"{marks[result.holds]} {escape(name)} ({result.paths} paths)")
        if result.example is not None:
            out.print(f"          {result.example}", markup=False)
    for name, program in LIMITS:
        out.print(f"[dim]limit[/]    {escape(name)}: no; {escape(walk(name, program).example or '')}")
    sys.exit(0 if good else 1)
