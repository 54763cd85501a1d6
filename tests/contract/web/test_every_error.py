"""Every error that the code declares: answered with its status and code, and provoked.

Provoked by a request to the running service (ASKED), or, where that needs other parts, by the test of the rule itself (provoked.yaml). Both
together are all errors that there are, or this file fails.
"""

import ast
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from acgs1.contracts.auth import Role
from acgs1.contracts.topology import SERVICES
from acgs1.core.errors import DomainError
from acgs1.kit.errors import MethodNotAllowed, UpstreamRejected
from acgs1.ledger.errors import ProgramError, RpcFailureError, TransactionFailedError, TransactionUncertainError
from apps import PARTS, build
from factories import Running, running, settings

TESTS = Path(__file__).parents[2]
EVERYBODY = (Role.ADMIN, Role.LEGISLATOR, Role.MEMBER, Role.AUDITOR, Role.OPERATOR)
NONE = "0" * 64


@functools.cache
def _declared() -> dict[str, type[DomainError]]:
    """Every error class, by where it stands: `services.auth.errors.NameTaken`."""
    spec = importlib.util.spec_from_file_location("generate", TESTS.parent / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return {f"{kind.__module__.removeprefix('acgs1.')}.{kind.__name__}": kind for kind in generate.error_classes()}


def _own(service: str) -> dict[str, type[DomainError]]:
    return {name: kind for name, kind in _declared().items() if name.startswith(f"services.{service}.")}


services = pytest.mark.parametrize("service", [part.name for part in SERVICES])

NEVER_ANSWERED = {
    # About a file that somebody verifies offline, with the command line.
    "services.integrity.errors.MalformedEvidence",
    # Ends an adoption, which then says so; the request that began it was answered before.
    "services.constitutional_ai.errors.AdoptionRefused",
    # Ends a run, likewise.
    "services.evolutionary_computation.errors.VerificationFailed",
    # Fails a workflow, likewise.
    "services.governance_synthesis.errors.NotProvable",
}


# --- statuses --------------------------------------------------------------------------------------------------------


@services
def test_every_error_has_a_status(service: str, tmp_path: Path):
    app, _ = build(service, tmp_path)
    own = _own(service)
    assert len(own) > 2
    missing = {name for name, kind in own.items() if not any(base in app.state.statuses for base in kind.__mro__)}
    assert missing == NEVER_ANSWERED & own.keys(), "these would get the status for everything unforeseen"


@services
def test_no_status_is_kept_for_an_error_of_the_service_that_is_gone(service: str, tmp_path: Path):
    app, _ = build(service, tmp_path)
    own = {e for e in app.state.statuses if e.__module__.startswith(f"acgs1.services.{service}.")}
    assert own
    assert own <= set(_own(service).values())


def test_codes_are_stable_words_and_one_app_uses_each_for_one_status(tmp_path: Path):
    for part in PARTS:
        (home := tmp_path / part.name).mkdir()
        app, _ = build(part.name, home)
        statuses: dict[str, int] = {}
        for error, status in app.state.statuses.items():
            assert error.code.replace("_", "").isalnum()
            assert error.code == error.code.lower()
            assert 400 <= status < 600
            assert statuses.setdefault(error.code, status) == status, error.code
            assert error.title != DomainError.title, f"{error.__qualname__} says nothing about itself"


def _made(kind: type[DomainError]) -> DomainError:
    """One of `kind`, with what its constructor asks for."""
    more: dict[type[DomainError], tuple[Any, ...]] = {
        MethodNotAllowed: ("GET",),
        RpcFailureError: (-32601,),
        TransactionUncertainError: ("signature",),
        TransactionFailedError: ("AccountInUse",),
    }
    if kind is UpstreamRejected:
        return UpstreamRejected("d", upstream="x", upstream_code="upstream_rejected", status=418)
    if kind is ProgramError:
        return ProgramError("AlreadyVoted", 6006, "d", "x")
    return kind("d", *more.get(kind, ()))


@pytest.mark.parametrize("part", [part.name for part in PARTS])
async def test_every_error_is_answered_with_its_status_its_code_and_its_title(part: str, tmp_path: Path):
    app, keys = build(part, tmp_path)
    kinds = {kind for kind in _declared().values() if any(base in app.state.statuses for base in kind.__mro__)}
    errors = {f"{kind.__module__}.{kind.__name__}": _made(kind) for kind in kinds}

    @app.get("/api/v1/provoked/{name}")
    async def _provoked(name: str) -> None:
        raise errors[name]

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://part", headers=keys.headers()) as client:
        for name, error in errors.items():
            answer = await client.get(f"/api/v1/provoked/{name}")
            nearest = next(base for base in type(error).__mro__ if base in app.state.statuses)
            status = 418 if isinstance(error, UpstreamRejected) else app.state.statuses[nearest]
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["title"]) == (status, error.code, error.title), name
            assert answer.headers["content-type"] == "application/problem+json"


# --- provoked over HTTP ----------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A request to a service that stands alone: no other part, and no ledger, is there."""

    error: str
    method: str
    path: str
    body: Any = None
    roles: tuple[Role, ...] = EVERYBODY


_USER = {"username": "ada", "password": "a long enough password", "roles": ["member"]}
_PRINCIPLE = {"id": "p", "title": "t", "text": "x", "category": "c", "priority": 1}
_CONSTITUTION = {"name": "c", "schema_text": "no schema", "principles": [_PRINCIPLE]}
_EVALUATION = {
    "subject": {"type": "Agent", "id": "someone-else"},
    "action": {"name": "pay"},
    "resource": {"type": "Account", "id": "a"},
}

ASKED: dict[str, list[Asked]] = {
    "auth": [
        Asked("services.auth.errors.AccountNotFound", "GET", "/api/v1/users/usr_0"),
        Asked("services.auth.errors.NameTaken", "POST", "/api/v1/users", {**_USER, "username": "admin"}),
        Asked("services.auth.errors.InvalidCredentials", "POST", "/api/v1/sessions", {"username": "x", "password": "y"}),
        Asked("kit.errors.Forbidden", "GET", "/api/v1/users", roles=(Role.MEMBER,)),
        Asked("kit.errors.NotFound", "GET", "/api/v1/nothing"),
        Asked("kit.errors.MethodNotAllowed", "PUT", "/api/v1/users"),
        Asked("kit.errors.InvalidRequest", "POST", "/api/v1/users", {**_USER, "roles": ["king"]}),
        Asked("kit.errors.UnknownField", "POST", "/api/v1/users", {**_USER, "rank": 1}),
        Asked("kit.errors.UnknownParameter", "GET", "/api/v1/users?limt=1"),
        Asked("kit.errors.InvalidCursor", "GET", "/api/v1/users?cursor=!"),
    ],
    "constitutional_ai": [
        Asked("services.constitutional_ai.errors.ConstitutionNotFound", "GET", f"/api/v1/constitutions/{NONE}"),
        Asked("services.constitutional_ai.errors.NoConstitutionInForce", "GET", "/api/v1/constitutions/in-force"),
        Asked("services.constitutional_ai.errors.InvalidConstitution", "POST", "/api/v1/constitutions", _CONSTITUTION),
    ],
    "integrity": [
        Asked("services.integrity.errors.AppealNotFound", "GET", "/api/v1/appeals/apl_0"),
        Asked("services.integrity.errors.EntryNotFound", "GET", "/api/v1/entries/999"),
        Asked("services.integrity.errors.TileNotFound", "GET", "/tile/0/999"),
        Asked("services.integrity.errors.InvalidRange", "GET", "/api/v1/proofs/consistency?old_size=9&new_size=99"),
    ],
    "formal_verification": [
        Asked("services.formal_verification.errors.VerificationNotFound", "GET", "/api/v1/verifications/ver_0"),
        Asked("services.formal_verification.errors.CertificateNotFound", "GET", f"/api/v1/certificates/{NONE}"),
    ],
    "governance_synthesis": [
        Asked("services.governance_synthesis.errors.DraftNotFound", "GET", "/api/v1/drafts/drf_0"),
        Asked("services.governance_synthesis.errors.WorkflowNotFound", "GET", "/api/v1/workflows/wfl_0"),
    ],
    "policy_governance": [
        Asked("services.policy_governance.errors.ProposalNotFound", "GET", "/api/v1/proposals/prp_0"),
        Asked("services.policy_governance.errors.BundleNotFound", "GET", f"/api/v1/bundles/{NONE}"),
        Asked("services.policy_governance.errors.NoActiveBundle", "GET", "/api/v1/bundles/active"),
        Asked("services.policy_governance.errors.DecisionNotFound", "GET", "/api/v1/decisions/dec_0"),
        Asked("services.policy_governance.errors.ApprovalNotFound", "GET", "/api/v1/approvals/apr_0"),
        Asked(
            "services.policy_governance.errors.NotTheSubject", "POST", "/access/v1/evaluation", _EVALUATION, (Role.AGENT,)
        ),
        Asked("kit.errors.DependencyUnavailable", "GET", "/api/v1/ledger/state"),
    ],
    "evolutionary_computation": [
        Asked("services.evolutionary_computation.errors.RunNotFound", "GET", "/api/v1/runs/run_0"),
    ],
    "console": [
        Asked("monitoring.service.UnknownTarget", "POST", "/api/v1/monitoring/checks/nobody"),
        Asked("monitoring.alerts.NoSuchAlert", "POST", "/api/v1/monitoring/alerts/alr_0/acknowledgement"),
        Asked("monitoring.traces.NoSuchTrace", "GET", f"/api/v1/traces/{NONE[:32]}"),
        Asked(
            "kit.breaker.UnknownBreaker",
            "POST",
            "/api/v1/monitoring/breakers/none",
            {"action": "open", "reason": "r"},
        ),
        Asked(
            "monitoring.workflows.UnknownWorkflow",
            "POST",
            "/api/v1/monitoring/workflows/executions",
            {"workflow_type": "none", "execution_time": 1},
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("part", list(ASKED))
async def test_a_request_that_breaks_a_rule_is_answered_with_that_rules_code(part: str, tmp_path: Path):
    module: Any = importlib.import_module(next(p.module for p in PARTS if p.name == part))
    async with running(module.create_app, settings(tmp_path)) as service:
        for asked in ASKED[part]:
            await _expect(service, asked)


async def _expect(service: Running, asked: Asked) -> None:
    kind = _declared()[asked.error]
    headers = service.headers(*asked.roles)
    answer = await service.client.request(asked.method, asked.path, json=asked.body, headers=headers)
    nearest = next(base for base in kind.__mro__ if base in service.app.state.statuses)
    found = answer.status_code, answer.json().get("code")
    assert found == (service.app.state.statuses[nearest], kind.code), (asked.error, answer.text)


async def test_where_nothing_watches_the_monitor_says_so(tmp_path: Path):
    app, keys = build("console", tmp_path)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        answer = await client.get("/api/v1/monitoring/status", headers=keys.headers(Role.OPERATOR))
    assert (answer.status_code, answer.json()["code"]) == (503, "not_monitoring")


# --- provoked by a test of the rule ----------------------------------------------------------------------------------

BY_A_TEST: dict[str, dict[str, str]] = yaml.safe_load((Path(__file__).parent / "provoked.yaml").read_text())
"""Test file -> error -> the test in it that has a rule raise that error."""

_NAMED = [(file, error, test) for file, tests in BY_A_TEST.items() for error, test in tests.items()]


@pytest.mark.parametrize(("file", "error", "test"), _NAMED)
def test_the_named_test_expects_that_very_error(file: str, error: str, test: str):
    text = (TESTS / file).read_text()
    kind = _declared()[error]
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    (found,) = [node for node in functions if node.name == test]
    source = "\n".join(ast.get_source_segment(text, part) or "" for part in (*found.decorator_list, found))
    assert re.search(rf'raises\([^)]*\b{kind.__name__}\b|"{kind.code}"', source), (
        f"{test} does not expect `{kind.code}`"
    )
    # Two rooms may use one code, each for a rule of its own.
    same = [other for other in _declared().values() if other.code == kind.code and ".services." in other.__module__]
    assert len(same) < 2 or f"/{kind.__module__.split('.')[2]}/" in file


def test_every_declared_error_is_provoked():
    over_http = {asked.error for part in ASKED.values() for asked in part}
    by_a_test = {error for _, error, _ in _NAMED}
    assert over_http | by_a_test == _declared().keys()
    assert not over_http & by_a_test, "once is enough"
