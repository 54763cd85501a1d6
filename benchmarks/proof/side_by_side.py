"""The same checks by our prover and by the official command line, one after the other in one run.

    python benchmarks/proof/side_by_side.py --cedar PATH --cvc5 PATH --out benchmarks/proof/results

`PATH` of `cedar`: `cargo install cedar-policy-cli --version ~4.14 --features analyze`; of `cvc5`: the executable, as Debian
packages it. Each check is "this policy set implies this ceiling" in one request environment: first with the compliant
workload, then with everything permitted. The command line starts anew for each check, as its users run it; ours is a fresh
session whose schema and policies are read once, its time per check the whole session's divided by its checks.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import record
import render
import workload
from run import SEED

from acgs1.contracts.constitution import Constitution, Never
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment, Slice
from acgs1.services.formal_verification.adapters.kernel.guess import conditions_of, guess
from acgs1.services.formal_verification.adapters.kernel.law import Claim, Vocabularies, Vocabulary
from acgs1.services.formal_verification.adapters.kernel.obligations import PERMITS_TRIED, VerificationSession
from acgs1.services.formal_verification.adapters.kernel.prover import Provers

VERDICTS = {"VERIFIED": "proved", "DOES NOT HOLD": "refuted"}


def ours(policies: str, constitution: Constitution) -> tuple[dict[str, str], float]:
    """Verdict by obligation, and seconds from the texts to the last verdict."""
    started = time.perf_counter()
    session = VerificationSession(policies, constitution, Vocabularies(), Provers())
    verdicts = {
        planned.id: session.prove(i).verdict for i, planned in enumerate(session.planned) if planned.kind == "never"
    }
    return verdicts, time.perf_counter() - started


def verdicts_alone(policies: str, constitution: Constitution) -> float:
    """Seconds for the same checks without what the command line does not do: no smallest counterexample, no proved edit.

    As the prover does it: a request is guessed first, and the solver asked where the evaluator does not confirm one.
    """
    started = time.perf_counter()
    vocabulary, provers = Vocabularies().of(constitution.schema_text), Provers()
    texts = vocabulary.policies(policies)
    for claim in vocabulary.law(constitution).claims:
        if isinstance(claim.invariant, Never):
            inside, bound = texts.in_environment(claim.environment), ceiling(claim)
            if _refuted_by_a_guess(vocabulary, claim.environment, inside, bound):
                continue
            answer = provers.ask("implies", constitution.schema_text, claim.environment, inside.text, bound)
            if answer.verdict == "unknown":
                raise SystemExit(f"not decided: {answer.reason}")
    return time.perf_counter() - started


def _refuted_by_a_guess(vocabulary: Vocabulary, environment: Environment, inside: Slice, bound: str) -> bool:
    forbidden = [(body, not value) for body, value in conditions_of(bound)]
    for permit in [policy for policy in inside.policies if policy.effect == "permit"][:PERMITS_TRIED]:
        case = guess(vocabulary.view, environment, [*forbidden, *conditions_of(permit.text)])
        if case is not None:
            allowed, within = (vocabulary.evaluator.decide(text, "", case) for text in (inside.text, bound))
            if allowed is not None and within is not None and allowed.allowed and not within.allowed:
                return True
    return False


def ceiling(claim: Claim) -> str:
    principal, action, resource = claim.environment
    if not isinstance(claim.invariant, Never):
        raise TypeError("a ceiling is of a `never`")
    head = f"principal is {principal}, action == {action}, resource is {resource}"
    return f"permit ({head}) unless {{ {claim.invariant.when} }};"


def theirs(cedar: Path, cvc5: Path, folder: Path, environment: tuple[str, str, str], bound: str) -> tuple[str, float]:
    principal, action, resource = environment
    (folder / "ceiling.cedar").write_text(bound)
    command = [
        str(cedar), "symcc", "--cvc5-path", str(cvc5), "--schema", str(folder / "schema.cedarschema"),
        "--principal-type", principal, "--action", action, "--resource-type", resource,
        "implies", "--policies1", str(folder / "policies.cedar"), "--policies2", str(folder / "ceiling.cedar"),
    ]  # fmt: skip
    started = time.perf_counter()
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    seconds = time.perf_counter() - started
    found = [verdict for words, verdict in VERDICTS.items() if words in answer.stdout.upper()]
    if len(found) != 1:
        raise SystemExit(f"cannot read the answer of {' '.join(command)}:\n{answer.stdout}\n{answer.stderr}")
    return found[0], seconds


def compare(name: str, policies: str, constitution: Constitution, cedar: Path, cvc5: Path) -> dict[str, Any]:
    verdicts, total = ours(policies, constitution)
    # Once more with nothing remembered but the loaded libraries: as in a worker that has done other jobs before.
    _, again = ours(policies, constitution)
    alone = verdicts_alone(policies, constitution)
    vocabulary = Vocabularies().of(constitution.schema_text)
    seconds: list[float] = []
    differing: list[str] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "schema.cedarschema").write_text(constitution.schema_text)
        (folder / "policies.cedar").write_text(policies)
        for claim in vocabulary.law(constitution).claims:
            if not isinstance(claim.invariant, Never):
                continue
            principal, action, resource = claim.environment
            verdict, took = theirs(cedar, cvc5, folder, claim.environment, ceiling(claim))
            seconds.append(took)
            place = f"never:{claim.principle_id}:{claim.index}@{principal}/{action}/{resource}"
            if verdicts[place] != verdict:
                differing.append(place)
    per_check = total / len(verdicts)
    return {
        "set": name,
        "checks": len(verdicts),
        "verdicts_that_differ": differing,
        "ours_ms_per_check": round(per_check * 1000, 2),
        "ours_libraries_loaded_ms_per_check": round(again / len(verdicts) * 1000, 2),
        "cedar_symcc_ms_per_check": round(statistics.mean(seconds) * 1000, 2),
        "cedar_symcc_median_ms": round(statistics.median(seconds) * 1000, 2),
        "ours_verdict_alone_ms_per_check": round(alone / len(verdicts) * 1000, 2),
        "times_faster_verdict_alone": round(statistics.mean(seconds) / (alone / len(verdicts)), 2),
        "times_faster": round(statistics.mean(seconds) / per_check, 2),
        "times_faster_libraries_loaded": round(statistics.mean(seconds) / (again / len(verdicts)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--cedar", "--cvc5", "--out"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for principles, count in ((10, 10), (10, 100), (30, 100)):
        constitution = workload.constitution(principles)
        rules = "\n".join(workload.policies(count, principles, SEED))
        name = f"{principles} principles, {count} compliant policies"
        results.append(compare(name, rules, constitution, options.cedar, options.cvc5))
        print(json.dumps(results[-1]), flush=True)
    everything = '@id("all") permit (principal, action, resource);'
    constitution = workload.constitution(30)
    results.append(
        compare(
            "30 principles, everything permitted (ours with minimal examples and edits)",
            everything,
            constitution,
            options.cedar,
            options.cvc5,
        )
    )
    print(json.dumps(results[-1]), flush=True)
    versions = {
        "cedar": _version(options.cedar),
        "cvc5 of cedar symcc": _version(options.cvc5),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"context": record.context(SEED), "versions": versions, "results": results}
    (options.out / "side_by_side.json").write_text(json.dumps(result, indent=1) + "\n")
    render.write(options.out)


def _version(program: Path) -> str:
    return subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[
        0
    ]


if __name__ == "__main__":
    main()
