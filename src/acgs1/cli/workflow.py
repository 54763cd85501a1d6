"""`acgs1 workflow`: policies from sentences into force, started, followed, cancelled and resumed from a terminal."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click
import httpx
from pydantic import JsonValue, ValidationError
from rich.console import Console
from rich.table import Table

from acgs1.cli.person import password_of, user_option
from acgs1.contracts.auth import AccessToken
from acgs1.contracts.common import Page, Problem
from acgs1.contracts.governance_synthesis import NewPolicyCreation, Workflow, WorkflowSummary
from acgs1.kit.settings import PlatformSettings

_out = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
# A terminal may be narrow, a pipe has no width: an id that is cut off is none.
_tables = Console(highlight=False, width=max(Console().width, 160))
_FOLLOW_SECONDS = 1.0
_PATH = "/api/v1/workflows"
_SHOWN = (
    "draft",
    "verdict",
    "refuted",
    "bundle",
    "proposal",
    "status",
    "activated_at",
    "event",
    "leaf_index",
    "outcome",
)


class _Caller:
    """The workflows' API as one person sees it. Signs in again when the token has expired."""

    def __init__(self, http: httpx.Client, settings: PlatformSettings, user: str, password: str) -> None:
        self._http = http
        self._settings = settings
        self._person = {"username": user, "password": password}
        self._token = ""

    def call(self, method: str, path: str, key: str | None = None, **options: Any) -> bytes:
        """The body of a successful answer; raises ClickException with the problem of any other."""
        answer = self._send(method, path, key, options)
        if answer.status_code == 401:
            self._token = ""
            answer = self._send(method, path, key, options)
        return _content(answer)

    def _send(self, method: str, path: str, key: str | None, options: dict[str, Any]) -> httpx.Response:
        if not self._token:
            url = self._settings.url("auth") + "/api/v1/sessions"
            signed_in = _content(self._http.post(url, json=self._person))
            self._token = AccessToken.model_validate_json(signed_in).access_token
        headers = {"Authorization": f"Bearer {self._token}"} | ({"Idempotency-Key": key} if key else {})
        return self._http.request(method, self._settings.url("governance_synthesis") + path, headers=headers, **options)


def _content(answer: httpx.Response) -> bytes:
    if answer.status_code < 400:
        return answer.content
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        raise click.ClickException(f"the answer was {answer.status_code}") from None
    lines = [f"{problem.title}: {problem.detail}", *(f"  {item.detail}" for item in problem.errors)]
    raise click.ClickException("\n".join(lines))


@contextmanager
def _signed_in(user: str) -> Generator[_Caller]:
    settings = PlatformSettings()
    try:
        with httpx.Client(timeout=30.0, trust_env=False) as http:
            yield _Caller(http, settings, user, password_of(user, settings))
    except httpx.HTTPError as error:
        raise click.ClickException(f"the system does not answer ({error}); `acgs1 status` shows it") from None


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("workflow")
def workflow() -> None:
    """Create policies: from sentences to a policy set in force, by itself, over restarts."""


@workflow.command("start")
@click.argument("name")
@click.option("--instruction", "-i", "instructions", multiple=True, help="A rule in controlled English; repeatable.")
@click.option(
    "--strategy",
    type=click.Choice(["literal", "permissive"]),
    default="literal",
    help="How to draft.",
    show_default=True,
)
@click.option("--repairs", type=int, default=4, show_default=True, help="How often a refuted draft may be repaired.")
@click.option("--voting-hours", type=float, default=72.0, show_default=True, help="How long the vote is open.")
@click.option("--key", help="Starting again with the same key shows the workflow that is there.")
@click.option("--follow", is_flag=True, help="Show each step until it ends.")
@user_option
@_json
def start(
    name: str,
    instructions: tuple[str, ...],
    strategy: str,
    repairs: int,
    voting_hours: float,
    key: str | None,
    follow: bool,
    user: str,
    as_json: bool,
) -> None:
    """Start the creation of a policy set called NAME from the constitution in force and the instructions.

    With --follow, the exit status is 1 when it fails.
    """
    try:
        request = NewPolicyCreation.model_validate(
            {
                "name": name,
                "instructions": instructions,
                "strategy": strategy,
                "repairs": repairs,
                "voting_seconds": round(voting_hours * 3600),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise click.ClickException(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    with _signed_in(user) as caller:
        body = request.model_dump(mode="json")
        found = Workflow.model_validate_json(caller.call("POST", _PATH, key, json=body))
        if follow:
            found = _follow(caller, found, as_json)
    _show(found, as_json, steps=not follow)
    sys.exit(1 if found.status == "failed" else 0)


@workflow.command("list")
@click.option("--status", type=click.Choice(["running", "completed", "failed", "cancelled"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@user_option
@_json
def list_workflows(status: str | None, limit: int, user: str, as_json: bool) -> None:
    """List workflows, newest first."""
    params: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
    with _signed_in(user) as caller:
        page = Page[WorkflowSummary].model_validate_json(caller.call("GET", _PATH, params=params))
    if as_json:
        click.echo(page.model_dump_json(indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "name", "status", "step", "since"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column("waits for", overflow="fold")
    for item in page.items:
        status_text = f"{item.status}: {item.outcome}" if item.outcome else item.status
        since = item.started_at.isoformat(timespec="seconds")
        table.add_row(item.id, item.name, status_text, item.step or "", since, item.waiting_for or "")
    _tables.print(table)


@workflow.command("show")
@click.argument("workflow_id")
@click.option("--follow", is_flag=True, help="Show each step until it ends.")
@user_option
@_json
def show(workflow_id: str, follow: bool, user: str, as_json: bool) -> None:
    """Show a workflow with its steps. Exit status 1 when it has failed."""
    with _signed_in(user) as caller:
        found = _get(caller, workflow_id)
        if follow:
            found = _follow(caller, found, as_json)
    _show(found, as_json, steps=not follow)
    sys.exit(1 if found.status == "failed" else 0)


@workflow.command("cancel")
@click.argument("workflow_id")
@user_option
@_json
def cancel(workflow_id: str, user: str, as_json: bool) -> None:
    """Stop a workflow where it is. What its steps have done stays done."""
    with _signed_in(user) as caller:
        found = Workflow.model_validate_json(caller.call("POST", f"{_PATH}/{workflow_id}/cancellation"))
    _show(found, as_json)


@workflow.command("resume")
@click.argument("workflow_id")
@user_option
@_json
def resume(workflow_id: str, user: str, as_json: bool) -> None:
    """Go on with a workflow that failed or was cancelled, from the last step that is done."""
    with _signed_in(user) as caller:
        found = Workflow.model_validate_json(caller.call("POST", f"{_PATH}/{workflow_id}/resumption"))
    _show(found, as_json)


def _get(caller: _Caller, workflow_id: str) -> Workflow:
    return Workflow.model_validate_json(caller.call("GET", f"{_PATH}/{workflow_id}"))


def _follow(caller: _Caller, found: Workflow, quiet: bool) -> Workflow:
    said, waiting = 0, None
    while True:
        if not quiet:
            for step in found.steps[said:]:
                _out.print(_line(step.name, step.result))
            said = max(said, len(found.steps))
            if found.waiting_for != waiting and found.waiting_for is not None:
                _out.print(f"  waiting for {found.waiting_for}")
            waiting = found.waiting_for
        if found.status != "running":
            return found
        time.sleep(_FOLLOW_SECONDS)
        found = _get(caller, found.id)


def _show(found: Workflow, as_json: bool, *, steps: bool = True) -> None:
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    _out.print(f"{found.id}  {found.name}")
    _out.print(f"status: {found.status}" + (f", {found.outcome}" if found.outcome else ""))
    if found.status == "running" and found.step:
        _out.print(f"step:   {found.step}" + (f", waiting for {found.waiting_for}" if found.waiting_for else ""))
    for step in found.steps if steps else []:
        _out.print(_line(step.name, step.result))
    if found.problem is not None:
        _out.print(f"failed at {found.problem.step}: {found.problem.detail} ({found.problem.code})")
        for item in found.problem.errors:
            _out.print(f"  {item.detail}")


def _line(name: str, result: JsonValue) -> str:
    facts = result if isinstance(result, dict) else {}
    shown = (f"{key} {facts[key]}" for key in _SHOWN if facts.get(key) not in (None, []))
    return f"  {name:<16}{', '.join(shown)}".rstrip()
