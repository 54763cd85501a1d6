"""`acgs1 workflow` against a server of the test's own."""

import json
from collections.abc import Generator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from acgs1.cli.workflow import workflow
from json_server import JsonHandler, served

AT = "2026-01-01T00:00:00Z"


def document(status: str = "running", steps: int = 1, **more: Any) -> dict[str, Any]:
    names = ["request", "draft", "vote"][:steps]
    return {
        "id": "wfl_1", "type": "policy_creation", "name": "parcels", "status": status, "step": "vote", "waiting_for": None,
        "outcome": None, "started_by": "usr_ines", "started_at": AT, "finished_at": None, "request": {"name": "parcels"},
        "steps": [{"name": n, "started_at": AT, "finished_at": AT, "result": {"status": "enacted"}} for n in names],
        "problem": None, **more,
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    """Auth and governance_synthesis: answers from a list, and what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.sessions = 0


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/api/v1/sessions":
            self.server.sessions += 1
            assert body == {"username": "ines", "password": "secret"}
            self.answer(200, {"access_token": f"token-{self.server.sessions}", "expires_in": 900})
            return
        self._serve(body)

    def do_GET(self) -> None:
        self._serve(None)

    def _serve(self, body: Any) -> None:
        assert self.headers["Authorization"] == f"Bearer token-{self.server.sessions}"
        self.server.asked.append((self.command, self.path, self.headers.get("Idempotency-Key"), body))
        self.answer(*self.server.answers.pop(0))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Server]:
    server = Server()
    with served(server) as url:
        monkeypatch.setenv("ACGS_URLS", json.dumps({"auth": url, "governance_synthesis": url}))
        monkeypatch.setenv("ACGS_HOME", str(tmp_path))
        monkeypatch.setenv("ACGS_PASSWORD", "secret")
        monkeypatch.setattr("acgs1.cli.workflow._FOLLOW_SECONDS", 0)
        yield server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(workflow, [*arguments, "--user", "ines"])


def test_start_sends_the_request_under_its_key_and_follows_to_the_end(server: Server):
    server.answers = [
        (201, document()),
        (401, {"title": "t", "status": 401, "code": "token_expired", "detail": "d"}),
        (200, document(steps=2, waiting_for="the vote")),
        (200, document("completed", steps=3, outcome="activated")),
    ]
    result = run("start", "parcels", "-i", "A rule.", "--voting-hours", "24", "--key", "k1", "--follow")
    assert result.exit_code == 0, result.output
    method, path, key, body = server.asked[0]
    assert (method, path, key) == ("POST", "/api/v1/workflows", "k1")
    assert body == {
        "name": "parcels", "instructions": ["A rule."], "strategy": "literal", "repairs": 4, "voting_seconds": 86400,
    }  # fmt: skip
    assert server.sessions == 2, "it signed in again when the token had expired"
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["request", "draft", "waiting", "vote"]
    assert lines[-1] == "status: completed, activated"


def test_a_failure_is_shown_with_its_reasons_and_ends_with_status_1(server: Server):
    problem = {
        "step": "draft",
        "code": "instruction_not_read",
        "detail": "1 sentence",
        "errors": [{"detail": "`x`: no"}],
    }
    server.answers = [(200, document("failed", problem=problem))]
    result = run("show", "wfl_1")
    assert result.exit_code == 1
    assert "failed at draft: 1 sentence (instruction_not_read)\n  `x`: no" in result.output


def test_a_problem_ends_with_its_words(server: Server):
    server.answers = [(404, {"title": "There is no such workflow", "status": 404, "code": "c", "detail": "`wfl_9`"})]
    result = run("cancel", "wfl_9")
    assert (result.exit_code, result.output) == (1, "Error: There is no such workflow: `wfl_9`\n")
    assert server.asked[0][1] == "/api/v1/workflows/wfl_9/cancellation"


def test_a_list_shows_whole_ids(server: Server):
    summary = {k: v for k, v in document().items() if k not in {"request", "steps", "problem"}}
    server.answers = [(200, {"items": [{**summary, "id": "wfl_" + "0" * 36}], "next_cursor": None})]
    result = run("list", "--status", "running")
    assert "wfl_" + "0" * 36 in result.output
    assert server.asked[0][1] == "/api/v1/workflows?limit=50&status=running"


def test_what_cannot_be_a_request_is_refused_before_anything_is_sent(server: Server):
    result = run("start", "parcels", "--repairs", "99")
    assert result.exit_code == 1
    assert "repairs" in result.output
    assert not server.sessions


def test_a_system_that_is_not_there_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch, server: Server):
    monkeypatch.setenv("ACGS_URLS", json.dumps({"auth": "http://127.0.0.1:9"}))
    result = run("list")
    assert result.exit_code == 1
    assert "the system does not answer" in result.output
