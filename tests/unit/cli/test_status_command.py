"""`acgs1 status` tells everything, to people and to programs."""

import json
from collections.abc import Generator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from acgs1.cli.main import cli
from acgs1.contracts.topology import PARTS
from json_server import JsonHandler, served

DEPENDENCIES = {"auth": "ok", "formal_verification": "circuit open", "database": "ok"}


class Handler(JsonHandler):
    status = "healthy"

    def do_GET(self) -> None:
        self.answer(200, {"status": self.status, "dependencies": DEPENDENCIES})


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[str]:
    """Where every part answers."""
    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        monkeypatch.setenv("ACGS_URLS", json.dumps({part.name: url for part in PARTS}))
        monkeypatch.setenv("ACGS_HOME", str(tmp_path))
        monkeypatch.setenv("COLUMNS", "80")
        yield url


def status(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments])


def test_names_addresses_and_dependencies_are_whole_where_lines_are_narrow(url: str):
    shown = status()
    assert shown.exit_code == 0
    header, *lines = shown.output.splitlines()
    assert header.split() == ["part", "address", "pids", "restarts", "health", "depends", "on"]
    assert [line.split()[:2] for line in lines] == [[part.name, url] for part in PARTS]
    assert all(line.endswith("healthy  auth ok, formal_verification circuit open, database ok") for line in lines)


def test_programs_get_json(url: str):
    shown = json.loads(status("--json").output)
    assert shown["healthy"] is True
    assert [part["part"] for part in shown["parts"]] == [part.name for part in PARTS]
    assert shown["parts"][0] == {
        "part": "ledger",
        "address": url,
        "pids": [],
        "restarts": None,
        "health": "healthy",
        "dependencies": DEPENDENCIES,
    }


def test_one_that_is_not_healthy_makes_the_exit_status_1(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Handler, "status", "degraded")
    assert status().exit_code == 1
    shown = status("--json")
    assert (shown.exit_code, json.loads(shown.output)["healthy"]) == (1, False)


def test_one_that_does_not_answer_is_down(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("ACGS_URLS", json.dumps({part.name: "http://127.0.0.1:9" for part in PARTS}))
    shown = status()
    assert shown.exit_code == 1
    assert shown.output.count("down") == len(PARTS)
