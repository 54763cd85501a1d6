"""`Idempotency-Key`: the first answer counts, for as long as the promise holds, and for its caller alone."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from acgs1.contracts.auth import Role
from acgs1.core.clock import ManualClock
from acgs1.kit.db import Database
from acgs1.kit.errors import IdempotencyInProgress, IdempotencyMismatch
from acgs1.kit.idempotency import IdempotencyRecords
from acgs1.services.auth.app import create_app
from factories import running, settings


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def records(tmp_path: Path, clock: ManualClock) -> AsyncGenerator[IdempotencyRecords]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}")
    await database.migrate(None)
    yield IdempotencyRecords(database, clock)
    await database.close()


async def test_while_the_first_request_runs_a_repeat_is_told_so(records: IdempotencyRecords):
    assert await records.begin("ada", "k", "d") is None
    with pytest.raises(IdempotencyInProgress):
        await records.begin("ada", "k", "d")
    await records.finish("ada", "k", 201, b"{}")
    assert await records.begin("ada", "k", "d") == (201, b"{}")


async def test_a_key_stands_for_one_request(records: IdempotencyRecords):
    await records.begin("ada", "k", "d")
    with pytest.raises(IdempotencyMismatch, match="`k`"):
        await records.begin("ada", "k", "other")
    await records.finish("ada", "k", 201, b"{}")
    with pytest.raises(IdempotencyMismatch):
        await records.begin("ada", "k", "other")


async def test_a_key_belongs_to_its_caller(records: IdempotencyRecords):
    await records.begin("ada", "k", "d")
    await records.finish("ada", "k", 201, b"ada's")
    assert await records.begin("bob", "k", "d") is None


async def test_a_failed_request_may_be_tried_again_under_its_key(records: IdempotencyRecords):
    await records.begin("ada", "k", "d")
    await records.finish("ada", "k", 503, b"")
    assert await records.begin("ada", "k", "d") is None


async def test_a_request_whose_process_died_may_be_repeated_after_a_minute(
    records: IdempotencyRecords, clock: ManualClock
):
    await records.begin("ada", "k", "d")
    clock.advance(59)
    with pytest.raises(IdempotencyInProgress):
        await records.begin("ada", "k", "d")
    clock.advance(2)
    assert await records.begin("ada", "k", "d") is None
    with pytest.raises(IdempotencyInProgress):
        await records.begin("ada", "k", "d")


async def test_an_answer_is_kept_for_a_day(records: IdempotencyRecords, clock: ManualClock):
    await records.begin("ada", "k", "d")
    await records.finish("ada", "k", 201, b"{}")
    clock.advance(24 * 3600 - 1)
    assert await records.begin("ada", "k", "d") == (201, b"{}")
    clock.advance(2)
    assert await records.begin("ada", "k", "d") is None


async def test_signing_in_with_a_key_gives_a_token_and_keeps_none(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as auth:
        password = (tmp_path / "admin-password").read_text().strip()
        body = {"username": "admin", "password": password}
        for _ in range(2):
            answer = await auth.client.post("/api/v1/sessions", json=body, headers={"Idempotency-Key": "k"})
            assert answer.status_code == 200, answer.text
            assert "idempotency-replayed" not in answer.headers
        for key in ("", "x" * 129, "a\tb"):
            headers = {**auth.headers(Role.ADMIN), "Idempotency-Key": key}
            answer = await auth.client.post("/api/v1/keys/rotation", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_body_that_grows_over_the_limit_while_it_arrives_is_refused(tmp_path: Path):
    async def endless():
        for _ in range(1000):
            yield b"x" * 1024

    async with running(create_app, settings(tmp_path, max_body_bytes=4096)) as auth:
        for headers in (auth.headers(Role.ADMIN), {**auth.headers(Role.ADMIN), "Idempotency-Key": "k"}):
            answer = await auth.client.post("/api/v1/users", content=endless(), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
