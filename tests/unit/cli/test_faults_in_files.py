"""A file that is refused: every fault once, by file, line and column, whoever found it."""

import json
from collections.abc import Generator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from acgs1.cli.main import cli
from acgs1.contracts.constitution import Constitution
from acgs1.core.errors import DomainError
from acgs1.services.constitutional_ai.adapters.checker import KernelChecker
from json_server import JsonHandler, served

SCHEMA = """\
entity Agent;
entity Order = { paid: Bool };
action refund appliesTo { principal: [Agent], resource: [Order], context: {} };
"""
LAW = """\
name: Desk
schema_file: desk.cedarschema
principles:
  - id: paid
    title: Only what was paid
    text: An agent must not refund what is not paid.
    category: money
    priority: 1
    invariants:
      - kind: never
        when: "!resource.paid"
      - kind: never
        when: "!resource.paid"
"""


class Handler(JsonHandler):
    """Auth, and constitutional_ai with its real checker."""

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/api/v1/sessions":
            self.answer(200, {"access_token": "t", "expires_in": 900})
            return
        try:
            KernelChecker().guards(Constitution.model_validate(body))
        except DomainError as error:
            items = [
                {"detail": i.detail, "pointer": i.pointer, "line": i.line, "column": i.column} for i in error.items
            ]
            problem = {"title": error.title, "status": 422, "code": error.code, "detail": error.detail}
            self.answer(422, {**problem, "errors": items})
        else:
            self.answer(201, {"hash": "0"})


@pytest.fixture
def law(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Path]:
    """A constitution's file that is good, beside its schema; the services answer."""
    file = tmp_path / "law.yaml"
    file.write_text(LAW)
    (tmp_path / "desk.cedarschema").write_text(SCHEMA)
    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        monkeypatch.setenv("ACGS_URLS", json.dumps({"auth": url, "constitutional_ai": url}))
        monkeypatch.setenv("ACGS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ACGS_PASSWORD", "secret")
        yield file


def draft(file: Path) -> Result:
    return CliRunner().invoke(cli, ["constitution", "draft", str(file)])


def verify(file: Path, policies: Path) -> Result:
    return CliRunner().invoke(cli, ["verify", "policies", "--constitution", str(file), "--policies", str(policies)])


def test_a_good_constitution_is_drafted(law: Path):
    assert draft(law).exit_code == 0


def test_every_invariant_that_the_service_refuses_is_named_by_its_place_in_the_file(law: Path):
    law.write_text(LAW.replace("!resource.paid", "!resource.payed"))
    refused = draft(law)
    assert refused.exit_code == 1
    lines = refused.output.splitlines()
    assert lines[0] == "Error: The constitution cannot be used as written (invalid_constitution):"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [f"{law}:11:17", f"{law}:13:17"]
    assert all("`payed`" in line for line in lines[1:])


def test_a_schema_that_the_service_refuses_is_named_by_its_own_file(law: Path):
    schema = law.parent / "desk.cedarschema"
    schema.write_text(SCHEMA.replace("Bool", "Bool;"))
    refused = draft(law)
    assert refused.exit_code == 1
    assert f"  {schema}:2:28: " in refused.output, refused.output
    assert str(law) not in refused.output


def test_what_is_found_before_anything_is_sent_is_told_once(law: Path):
    law.write_text(LAW.replace("priority: 1", "priority: zero").replace("id: paid", "id: P!"))
    refused = draft(law)
    assert refused.exit_code == 1
    for place in (f"{law}:4:5", f"{law}:8:5"):
        assert refused.output.count(place) == 1, refused.output


def test_a_policy_that_the_prover_refuses_is_told_once(law: Path):
    policies = law.parent / "desk.cedar"
    policies.write_text('@id("a")\npermit (principal, action, resource)\nwhen { resource.payed };\n')
    refused = verify(law, policies)
    assert refused.exit_code == 2
    lines = refused.output.splitlines()
    assert lines[0] == "Error: The policies are not valid under the schema:"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [f"{policies}:3:8"]


def test_the_schema_of_a_question_is_named_by_its_file(law: Path):
    schema = law.parent / "desk.cedarschema"
    schema.write_text("entity Agent\n")
    policies = law.parent / "desk.cedar"
    policies.write_text("permit (principal, action, resource);\n")
    for command in (
        ["question", "--schema", str(schema), "--policies", str(policies)],
        ["compare", str(policies), str(policies), "--schema", str(schema)],
    ):
        refused = CliRunner().invoke(cli, ["verify", *command])
        assert refused.exit_code == 2
        assert f"  {schema}:" in refused.output, refused.output


def test_a_question_about_nothing_is_an_error_of_the_question(law: Path):
    policies = law.parent / "desk.cedar"
    policies.write_text("")
    schema = str(law.parent / "desk.cedarschema")
    refused = CliRunner().invoke(cli, ["verify", "question", "--schema", schema, "--policies", str(policies)])
    assert refused.exit_code == 2
    assert "the question cannot be put: policies: String should have at least 1 character" in refused.output


def test_a_file_that_is_not_utf_8_is_refused_with_the_place_of_the_byte(law: Path):
    policies = law.parent / "desk.cedar"
    policies.write_bytes("// größer\n// gr".encode() + b"\xf6\xdfer\n")
    refused = verify(law, policies)
    assert refused.exit_code == 2
    assert f"{policies}:2:6: the byte 0xf6 is not UTF-8" in refused.output
    law.write_bytes(LAW.encode("latin-1").replace(b"Desk", b"D\xebsk"))
    for refused in (verify(law, policies), draft(law)):
        assert f"{law}:1:8: the byte 0xeb is not UTF-8" in refused.output
        assert refused.output.count("0xeb") == 1
