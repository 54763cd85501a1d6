"""Lists are paged by cursor: what is one takes a cursor of its own and refuses any other; what is none is written out here."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.core.ids import new_id
from apps import PARTS, build
from factories import running, settings

EVERYBODY = (Role.ADMIN, Role.LEGISLATOR, Role.MEMBER, Role.AUDITOR, Role.OPERATOR)
NOT_LISTS = {
    "/api/v1/monitoring/slo": "one for each objective of the code",
    "/api/v1/monitoring/workflows": "the five workflows",
    "/api/v1/monitoring/breakers": "the edges between the processes that report",
    "/api/v1/monitoring/silences": "those in force",
    "/api/v1/monitoring/maintenance": "that in force",
    "/api/v1/traces": "the last ones, at most 300, in memory",
}
"""What is answered whole, because what it shows has a bound of its own."""

parts = pytest.mark.parametrize("part", [part.name for part in PARTS])


def _reads(app: Any) -> dict[str, dict[str, Any]]:
    return {path: item["get"] for path, item in app.openapi()["paths"].items() if "get" in item}


@parts
def test_every_list_is_paged_unless_it_has_a_bound_of_its_own(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    schemas = app.openapi()["components"]["schemas"]
    whole: set[str] = set()
    for path, operation in _reads(app).items():
        answer = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {})
        paged = set(schemas.get(answer.get("$ref", "").rpartition("/")[2], {}).get("properties", {})) == {
            "items",
            "next_cursor",
        }
        parameters = {p["name"] for p in operation.get("parameters", [])}
        assert paged == ({"cursor", "limit"} <= parameters), path
        if answer.get("type") == "array":
            whole.add(path)
    assert whole == {path for path in NOT_LISTS if path in _reads(app)}


@parts
async def test_a_cursor_that_the_list_did_not_give_out_is_refused(part: str, tmp_path: Path):
    module: Any = importlib.import_module(next(p.module for p in PARTS if p.name == part))
    async with running(module.create_app, settings(tmp_path)) as service:
        lists = [
            path
            for path, operation in _reads(service.app).items()
            if "cursor" in {p["name"] for p in operation.get("parameters", [])}
        ]
        for path in lists:
            if path.endswith("/ballots"):
                continue  # of a proposal, and there is none
            filled = path.replace("{target}", "auth")
            for cursor in ("zzz", "!", new_id("xyz"), "-1", "1.5", "9" * 60, ""):
                answer = await service.client.get(
                    filled, params={"cursor": cursor}, headers=service.headers(*EVERYBODY)
                )
                assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), (path, cursor)
                assert answer.json()["errors"][0]["parameter"] == "cursor"
