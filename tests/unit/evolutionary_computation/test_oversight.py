"""What the oversight of a run withholds, each fault by itself, and that it trusts nothing of the search."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.evolutionary_computation import Candidate, NewRun, OversightCheck, Run
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateBody,
    ObligationEvidence,
    RequestEnvironment,
    VerificationReport,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.clock import SystemClock
from acgs1.core.hashing import sha256_hex, text_hash
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.home import Home
from acgs1.kit.outbox import OUTBOX
from acgs1.kit.reporting import WorkflowRuns
from acgs1.services.evolutionary_computation import app as evolution
from acgs1.services.evolutionary_computation import service as use_cases
from acgs1.services.evolutionary_computation.adapters.bench import KernelBench
from acgs1.services.evolutionary_computation.adapters.overseer import KernelOverseer
from acgs1.services.evolutionary_computation.repository import RunRepository
from acgs1.services.evolutionary_computation.service import EvolutionService
from factories import settings

SCHEMA = """
entity Clerk;
entity Parcel = { weight: Long };
action send appliesTo { principal: [Clerk], resource: [Parcel], context: { approved: Bool } };
"""
POLICIES = """\
permit (principal, action, resource);
// More than 10 kilograms need help.
@id("heavy") forbid (principal, action, resource) when { resource.weight > 10 && 1 < 2 } unless { context.approved };
"""


def _outcome(weight: int, should: str) -> dict[str, Any]:
    request = {
        "subject": {"type": "Clerk", "id": "c"},
        "action": {"name": "send"},
        "resource": {"type": "Parcel", "id": f"p{weight}", "properties": {"weight": weight}},
        "context": {},
    }
    return {"request": request, "should": should}


def _request(policies: str = POLICIES, allow_up_to: int = 30) -> NewRun:
    principle = {"id": "p", "title": "t", "text": "x", "category": "c", "priority": 1, "invariants": []}
    return NewRun.model_validate(
        {
            "policies": policies,
            "constitution": {"name": "c", "schema_text": SCHEMA, "principles": [principle]},
            "tunables": [{"policy_id": "heavy", "attribute": "resource.weight", "minimum": 0, "maximum": 100}],
            "outcomes": [_outcome(w, "allow" if w <= allow_up_to else "deny") for w in (5, 15, 20, 30)],
        }
    )


def _certificate(policies: str, constitution: Constitution, **changes: Any) -> Certificate:
    obligation = ObligationEvidence(
        id="o",
        kind="never",
        principle_id="p",
        environment=RequestEnvironment(principal="Clerk", action='Action::"send"', resource="Parcel"),
        smtlib_sha256=None,
        verdict="proved",
        solver="s",
        second_opinion="not_run",
    )
    fields = {
        "policies_hash": text_hash(policies),
        "schema_hash": text_hash(constitution.schema_text),
        "constitution_hash": constitution.hash,
        "obligations": [obligation],
        "kernel": "k",
        "solver": "s",
        "issued_at": datetime(2026, 1, 1, tzinfo=UTC),
        **changes,
    }
    body = CertificateBody.model_validate(fields)
    digest = sha256_hex(canonical_json(body.model_dump(mode="json")))
    return Certificate(body=body, hash=digest, key_id="k", signature="")


def _candidate(policies: str, limit: int, agreement: float, certificate: Certificate, **changes: Any) -> Candidate:
    fields = {
        "values": {"heavy/resource.weight": limit},
        "policies": policies,
        "policies_hash": text_hash(policies),
        "agreement": agreement,
        "verdict": "proved",
        "certificate_hash": certificate.hash,
        **changes,
    }
    return Candidate.model_validate(fields)


class _Kept:
    def __init__(self, certificate: Certificate | None) -> None:
        self._certificate = certificate

    async def certificate(self, certificate_hash: str) -> Certificate | None:
        return self._certificate


async def _review(
    policies: str = POLICIES.replace("> 10", "> 30"),
    limit: int = 30,
    agreement: float = 1.0,
    *,
    request: NewRun | None = None,
    certified: Callable[[Certificate], Certificate | None] = lambda certificate: certificate,
    **changes: Any,
) -> dict[str, str]:
    """What is found wrong, by the check's name; everything else holds."""
    request = request or _request()
    certificate = _certificate(policies, request.constitution)
    candidate = _candidate(policies, limit, agreement, certificate, **changes)
    checks = await KernelOverseer(_Kept(certified(certificate))).review(request, candidate)
    assert len({check.name for check in checks}) == len(checks) > 1
    return {check.name: check.finding for check in checks if check.finding is not None}


async def test_a_candidate_that_is_what_it_says_has_no_finding():
    assert await _review() == {}


async def test_the_baseline_itself_is_in_order_however_its_threshold_is_written():
    spaced = POLICIES.replace("> 10", "> - 10")
    request = _request(spaced, allow_up_to=-11)
    assert await _review(spaced.replace("- 10", "-10"), -10, 1.0, request=_bounds(request, -50)) == {}
    assert await _review(spaced.replace("- 10", "7"), 7, 0.75, request=_bounds(request, -50)) == {
        "agreement": "it agrees with 75.0000% of the labels, the present thresholds with 100.0000%"
    }


def _bounds(request: NewRun, minimum: int) -> NewRun:
    (tunable,) = request.tunables
    return request.model_copy(update={"tunables": [tunable.model_copy(update={"minimum": minimum})]})


TUNED = POLICIES.replace("> 10", "> 30")


@pytest.mark.parametrize(
    ("policies", "finding"),
    [
        (TUNED.replace("1 < 2", "1 < 3"), "more than a tunable threshold has changed in `heavy`"),
        (TUNED.replace("weight > 30", "weight >= 30"), "there is no whole number at `heavy/resource.weight`"),
        (TUNED.replace("unless { context.approved }", ""), "more than a tunable threshold has changed in `heavy`"),
        (TUNED.replace("permit", "forbid"), "more than a tunable threshold has changed in `policy0`"),
        (TUNED + "permit (principal, action, resource);", "the policies are `heavy`, `policy0`, `policy2`"),
        (TUNED.replace("permit (principal, action, resource);\n", ""), "the policies are `heavy`, not `heavy`, `policy0`"),
        (TUNED.replace("resource.weight > 30", "true"), "there is no whole number at `heavy/resource.weight`"),
        (TUNED.replace("10 kilograms", "30 kilograms"), "the text around the thresholds has changed"),
        (TUNED.replace("need help", "are fine"), "the text around the thresholds has changed"),
    ],
)  # fmt: skip
async def test_a_candidate_that_differs_in_more_than_the_thresholds_is_found_out(policies: str, finding: str):
    assert finding in (await _review(policies))["only_thresholds"]


async def test_a_candidate_that_says_other_thresholds_than_stand_in_its_text_is_found_out():
    assert set(await _review(limit=29)) == {"only_thresholds"}
    assert set(await _review(values={"heavy/resource.weight": 30, "other/context.x": 1})) == {"only_thresholds"}
    assert set(await _review(policies_hash="0" * 64)) == {"only_thresholds"}


@pytest.mark.parametrize("limit", [-1, 101])
async def test_a_threshold_outside_of_its_range_is_found_out(limit: int):
    agreement = 0.0 if limit < 0 else 1.0
    found = await _review(POLICIES.replace("> 10", f"> {limit}"), limit, agreement)
    assert found["within_bounds"] == f"`heavy/resource.weight` is {limit}, outside of 0..100"
    assert "only_thresholds" not in found


async def test_policies_that_do_not_load_are_a_finding_and_not_a_fault():
    assert "cannot be loaded" in (await _review("permit (principal"))["only_thresholds"]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"policies_hash": "0" * 64}, "it is about another policies"),
        ({"schema_hash": "0" * 64}, "it is about another schema"),
        ({"constitution_hash": "0" * 64}, "it is about another constitution"),
        ({"obligations": []}, "it proves nothing"),
    ],
)
async def test_a_certificate_about_something_else_is_found_out(change: dict[str, Any], finding: str):
    request = _request()
    certificate = _certificate(TUNED, request.constitution, **change)
    found = await _review(certified=lambda _: certificate, certificate_hash=certificate.hash)
    assert set(found) == {"certificate"}
    assert finding in found["certificate"]


async def test_a_certificate_that_is_not_there_or_not_the_one_named_is_found_out():
    assert await _review(certified=lambda _: None) == {"certificate": "formal verification has no such certificate"}
    assert set(await _review(certificate_hash="0" * 64)) == {"certificate"}
    # Right by its name, changed in its content.
    altered = await _review(
        certified=lambda c: c.model_copy(update={"body": c.body.model_copy(update={"kernel": "x"})})
    )
    assert set(altered) == {"certificate"}


async def test_an_agreement_that_the_evaluator_does_not_come_to_is_found_out():
    found = await _review(POLICIES.replace("> 10", "> 20"), 20, 1.0)
    assert found == {"agreement": "it agrees with 75.0000% of the labels, not with 100.0000% as the search says"}


# --- a run, whose search errs ---


class _Proves:
    """Proves whatever it is given and certifies it."""

    def __init__(self) -> None:
        self._kept: dict[str, Certificate] = {}

    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        certificate = _certificate(policies, constitution)
        self._kept[certificate.hash] = certificate
        fields = {"verdict": "proved", "policies_hash": text_hash(policies), "constitution_hash": constitution.hash}
        return VerificationReport.model_construct(**fields, certificate_hash=certificate.hash)

    async def certificate(self, certificate_hash: str) -> Certificate | None:
        return self._kept.get(certificate_hash)


class _Erring:
    """The real bench, except that it writes another policy into each candidate."""

    async def prepare(self, request: NewRun) -> Any:
        experiment = await KernelBench().prepare(request)
        right = experiment.policies
        experiment.policies = lambda genome: right(genome) + "permit (principal, action, resource);\n"
        return experiment


class _Away:
    async def review(self, request: NewRun, candidate: Candidate) -> list[OversightCheck]:
        raise DependencyUnavailable("`formal_verification` is not available")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    config = settings(tmp_path)
    database = Database.for_service("evolutionary_computation", config, Home(config.home))
    await database.migrate(Path(evolution.__file__).parent / "migrations")
    yield database
    await database.close()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> WorkflowRuns:
    runs = WorkflowRuns(SystemClock())
    monkeypatch.setattr(use_cases, "workflow_runs", lambda: runs)
    return runs


async def _carried_out(database: Database, bench: Any, overseer: Any = None) -> tuple[Run, dict[str, Any]]:
    """The run as it is read afterwards, and what the log is told of its end."""
    verifier = _Proves()
    clock = SystemClock()
    runs = EvolutionService(
        Store(database, RunRepository), bench, verifier, overseer or KernelOverseer(verifier), clock
    )
    started = await runs.start(_request(), Identity(id="usr_1", name="t", roles=(Role.LEGISLATOR,)))
    assert started.oversight is None
    assert await runs.carry_out_next()
    async with database.reading() as session:
        event = (
            await session.scalars(OUTBOX.select().with_only_columns(OUTBOX.c.event).order_by(OUTBOX.c.sequence))
        ).all()[-1]
    return await runs.get(started.id), event["data"]


async def test_a_candidate_in_order_is_approved_shown_logged_and_reported(database: Database, reported: WorkflowRuns):
    run, data = await _carried_out(database, KernelBench())
    assert run.best is not None
    assert run.best.values == {"heavy/resource.weight": 30}
    assert run.oversight is not None
    assert (run.oversight.outcome, run.oversight.policies_hash) == ("approved", run.best.policies_hash)
    names = ["only_thresholds", "within_bounds", "agreement", "certificate"]
    assert [check.name for check in run.oversight.checks] == names
    assert (data["oversight"], data["oversight_findings"]) == ("approved", [])
    _, (finished,) = reported.waiting()
    assert (finished.workflow_type, finished.success, finished.compliance_score) == ("wina_oversight", True, 1.0)


async def test_a_candidate_with_a_finding_is_withheld_everywhere(database: Database, reported: WorkflowRuns):
    run, data = await _carried_out(database, _Erring())
    assert (run.status, run.best) == ("done", None)
    assert run.oversight is not None
    assert run.oversight.outcome == "withheld"
    assert "permit (principal" not in run.model_dump_json()
    assert "withheld by the oversight: the policies are" in (run.detail or "")
    assert (data["best_policies_hash"], data["oversight"]) == (None, "withheld")
    assert (data["oversight_findings"], data["overseen_policies_hash"]) == (
        ["only_thresholds"],
        run.oversight.policies_hash,
    )
    _, (finished,) = reported.waiting()
    assert (finished.success, finished.compliance_score) == (True, 0.75)


async def test_without_oversight_nothing_is_shown(database: Database, reported: WorkflowRuns):
    run, data = await _carried_out(database, KernelBench(), _Away())
    assert (run.status, run.best, run.oversight) == ("failed", None, None)
    assert "formal_verification" in (run.detail or "")
    assert data["oversight"] is None
    _, (finished,) = reported.waiting()
    assert (finished.workflow_type, finished.success, finished.compliance_score) == ("wina_oversight", False, None)
