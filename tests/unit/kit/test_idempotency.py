"""`Idempotency-Key`: the first answer counts, for as long as the promise holds, and for its caller alone; nothing is carried out twice."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from acgs1.contracts.auth import Role
from acgs1.contracts.events import new_event
from acgs1.core.clock import ManualClock
from acgs1.kit import idempotency
from acgs1.kit.db import Database, Store, joined
from acgs1.kit.errors import DependencyUnavailable, IdempotencyInProgress, IdempotencyMismatch, OutcomeUnknown
from acgs1.kit.idempotency import Claim, IdempotencyRecords, Kept
from acgs1.kit.outbox import OUTBOX, Recorder
from acgs1.services.auth.app import create_app
from factories import Running, running, settings

PASSWORD = "a long enough password"


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}")
    await database.migrate(None)
    yield database
    await database.close()


@pytest.fixture
async def records(database: Database, clock: ManualClock) -> IdempotencyRecords:
    return IdempotencyRecords(database, clock, "secret")


async def begun(records: IdempotencyRecords, caller: str = "ada", digest: str = "d") -> Claim:
    claim = await records.begin(caller, "k", digest)
    assert isinstance(claim, Claim)
    return claim


async def take_effect(records: IdempotencyRecords, claim: Claim, database: Database) -> None:
    """What a use case does: one transaction with an event in it."""
    token = joined.set(lambda session: records.mark(claim, session))
    try:
        async with Store(database, Recorder).transaction() as store:
            event = new_event("tester", "thing.made", ManualClock().now(), actor="ada", subject="thg_1")
            await store.record(event)
    finally:
        joined.reset(token)


async def effects(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(OUTBOX)) or 0


async def test_while_the_first_request_runs_a_repeat_is_told_so(records: IdempotencyRecords):
    claim = await begun(records)
    with pytest.raises(IdempotencyInProgress):
        await begun(records)
    await records.finish(claim, 201, b"{}")
    assert await records.begin("ada", "k", "d") == Kept(201, b"{}", None)


async def test_a_key_stands_for_one_request(records: IdempotencyRecords):
    claim = await begun(records)
    with pytest.raises(IdempotencyMismatch, match="`k`"):
        await begun(records, digest="other")
    await records.finish(claim, 201, b"{}")
    with pytest.raises(IdempotencyMismatch):
        await begun(records, digest="other")


async def test_a_key_belongs_to_its_caller(records: IdempotencyRecords):
    await records.finish(await begun(records), 201, b"ada's")
    await begun(records, caller="bob")


async def test_a_failed_request_may_be_tried_again_under_its_key(records: IdempotencyRecords):
    await records.finish(await begun(records), 503, b"")
    await begun(records)


async def test_a_request_that_was_refused_after_it_kept_its_intent_may_be_tried_again(
    records: IdempotencyRecords, database: Database
):
    claim = await begun(records)
    await take_effect(records, claim, database)
    await records.finish(claim, 409, b"")
    await begun(records)


async def test_a_request_whose_process_died_before_it_took_effect_may_be_repeated_after_a_minute(
    records: IdempotencyRecords, clock: ManualClock
):
    await begun(records)
    clock.advance(59)
    with pytest.raises(IdempotencyInProgress):
        await begun(records)
    clock.advance(2)
    await begun(records)
    with pytest.raises(IdempotencyInProgress):
        await begun(records)


async def test_a_request_whose_process_died_after_it_took_effect_is_never_carried_out_again(
    records: IdempotencyRecords, database: Database, clock: ManualClock
):
    await take_effect(records, await begun(records), database)
    with pytest.raises(IdempotencyInProgress):
        await begun(records)
    clock.advance(3600)
    with pytest.raises(OutcomeUnknown, match=r"`thing\.made` of `thg_1`"):
        await begun(records)
    claim = await records.begin("ada", "k", "d", found_by_key=True)
    assert isinstance(claim, Claim), "an endpoint that finds by the key what it made may answer"


async def test_a_failure_after_it_took_effect_is_never_carried_out_again(
    records: IdempotencyRecords, database: Database
):
    claim = await begun(records)
    await take_effect(records, claim, database)
    await records.finish(claim, 500, b"")
    with pytest.raises(OutcomeUnknown):
        await begun(records)


async def test_a_process_that_was_only_held_still_cannot_commit_what_a_repeat_has_taken_over(
    records: IdempotencyRecords, database: Database, clock: ManualClock
):
    held = await begun(records)
    clock.advance(61)
    repeat = await begun(records)
    with pytest.raises(IdempotencyInProgress):
        await take_effect(records, held, database)
    assert await effects(database) == 0
    await take_effect(records, repeat, database)
    # Neither does its end touch what the repeat keeps.
    await records.finish(held, 500, b"")
    await records.finish(repeat, 201, b"second")
    assert await records.begin("ada", "k", "d") == Kept(201, b"second", "thing.made thg_1")
    assert await effects(database) == 1


async def test_a_request_that_goes_on_for_long_keeps_its_claim(records: IdempotencyRecords, clock: ManualClock):
    claim = await begun(records)
    for _ in range(5):
        clock.advance(50)
        await records.renew(claim)
        with pytest.raises(IdempotencyInProgress):
            await begun(records)


async def test_what_goes_on_in_the_background_after_the_answer_commits_on_its_own(
    records: IdempotencyRecords, database: Database, clock: ManualClock
):
    claim = await begun(records)
    await records.finish(claim, 202, b"{}")
    clock.advance(25 * 3600)
    await records.finish(await begun(records, caller="bob"), 500, b"")  # which sweeps out what is a day old
    await take_effect(records, claim, database)
    assert await effects(database) == 1


async def test_an_answer_is_kept_for_a_day(records: IdempotencyRecords, clock: ManualClock):
    await records.finish(await begun(records), 201, b"{}")
    clock.advance(24 * 3600 - 1)
    assert isinstance(await records.begin("ada", "k", "d"), Kept)
    clock.advance(2)
    await begun(records)


async def test_what_is_kept_of_a_request_is_nothing_to_try_guesses_against(database: Database, clock: ManualClock):
    one, other = (IdempotencyRecords(database, clock, secret) for secret in ("secret", "another"))
    assert one.fingerprint(b"password") == IdempotencyRecords(database, clock, "secret").fingerprint(b"password")
    assert one.fingerprint(b"password") != other.fingerprint(b"password"), "it hangs on a secret outside the database"
    assert one.fingerprint(b"a", b"b") != one.fingerprint(b"b", b"a")


async def test_the_migration_takes_unkeyed_digests_away_and_carries_nothing_out_twice(
    tmp_path: Path, clock: ManualClock
):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'old.sqlite3'}")
    await database.migrate(None)
    async with database.transaction() as session:
        for column in ("claim", "alive_at", "committed", "effect"):
            await session.execute(sa.text(f"ALTER TABLE idempotency DROP COLUMN {column}"))
        await session.execute(sa.text("UPDATE alembic_version SET version_num = 'platform_0001'"))
        at = str(clock.now().replace(tzinfo=None))
        await session.execute(
            sa.text(
                "INSERT INTO idempotency (caller, key, request_digest, created_at) VALUES ('ada', 'k', 'dead', :at)"
            ),
            {"at": at},
        )
    await database.migrate(None)
    async with database.reading() as session:
        assert (await session.execute(sa.text("SELECT request_digest FROM idempotency"))).scalars().all() == [""]
    with pytest.raises(IdempotencyMismatch):
        await begun(IdempotencyRecords(database, clock, "secret"), digest="dead")
    await database.close()


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Running]:
    async with running(create_app, settings(tmp_path)) as service:
        yield service


def kill_before_the_answer(auth: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on requests end as in a process that is killed between the commit and the answer; a minute has passed since."""

    async def never(*_: object) -> None:
        return None

    monkeypatch.setattr(auth.app.state.platform.idempotency, "finish", never)
    monkeypatch.setattr(idempotency, "_ABANDONED", timedelta(0))


async def test_a_password_in_a_request_leaves_no_digest_of_it(auth: Running):
    import hashlib

    headers = {**auth.headers(Role.ADMIN), "Idempotency-Key": "k"}
    request = auth.client.build_request(
        "POST", "/api/v1/users", headers=headers, json={"username": "ada", "password": PASSWORD, "roles": ["member"]}
    )
    body = await request.aread()
    assert (await auth.client.send(request)).status_code == 201
    platform = auth.app.state.platform
    async with platform.database.reading() as session:
        (kept,) = (await session.execute(sa.text("SELECT request_digest FROM idempotency"))).scalars()
    assert kept != hashlib.sha256(b"POST /api/v1/users?\n" + body).hexdigest()
    same = IdempotencyRecords(platform.database, platform.clock, platform.home.service_secret("auth"))
    assert kept == same.fingerprint(b"POST /api/v1/users?", body), "every process of the service agrees"


async def test_a_user_whose_answer_was_lost_is_not_created_again_and_named_to_the_repeat(
    auth: Running, monkeypatch: pytest.MonkeyPatch
):
    kill_before_the_answer(auth, monkeypatch)
    headers = {**auth.headers(Role.ADMIN, subject="usr_1"), "Idempotency-Key": "k"}
    body = {"username": "ada", "password": PASSWORD, "roles": ["member"]}
    made = await auth.client.post("/api/v1/users", json=body, headers=headers)
    again = await auth.client.post("/api/v1/users", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "outcome_unknown")
    assert f"`user.created` of `{made.json()['id']}`" in again.json()["detail"]


async def test_a_repeated_registration_makes_one_agent_and_keeps_no_secret(auth: Running):
    owner = await auth.client.post(
        "/api/v1/users",
        json={"username": "olga", "password": PASSWORD, "roles": ["operator"]},
        headers=auth.headers(Role.ADMIN),
    )
    operator = auth.headers(Role.OPERATOR, subject=owner.json()["id"])
    headers = {**operator, "Idempotency-Key": "k"}
    made = await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=headers)
    again = await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=headers)
    assert (made.status_code, again.status_code, again.json()["code"]) == (201, 409, "secret_given_once")
    agent, secret = made.json()["client_id"], made.json()["client_secret"]
    assert f"`agent.registered` of `{agent}`" in again.json()["detail"]
    assert len((await auth.client.get("/api/v1/agents", headers=operator)).json()["items"]) == 1
    async with auth.app.state.platform.database.reading() as session:
        kept = (await session.execute(sa.text("SELECT * FROM idempotency"))).mappings().all()
    assert secret not in str(kept)
    # What the refusal says to do.
    renewed = await auth.client.post(f"/api/v1/agents/{agent}/secret", headers=operator)
    assert renewed.status_code == 200
    form = {"grant_type": "client_credentials"}
    granted = [
        (await auth.client.post("/oauth2/token", data=form, auth=(agent, which))).status_code
        for which in (secret, renewed.json()["client_secret"])
    ]
    assert granted == [401, 200]
    nobody = await auth.client.post("/api/v1/agents/agt_0/secret", headers=operator)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "account_not_found")


async def test_a_long_request_shows_signs_of_life(auth: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idempotency, "_SIGN_OF_LIFE_SECONDS", 0.0)
    renewed, go_on = asyncio.Event(), asyncio.Event()
    records = auth.app.state.platform.idempotency
    renew = records.renew

    async def seen(claim: Claim) -> None:
        await renew(claim)
        renewed.set()

    service = auth.app.state.service
    rotate = service.rotate_key

    async def slow(*arguments: Any) -> Any:
        await go_on.wait()
        return await rotate(*arguments)

    monkeypatch.setattr(records, "renew", seen)
    monkeypatch.setattr(service, "rotate_key", slow)
    headers = {**auth.headers(Role.ADMIN), "Idempotency-Key": "k"}
    asked = asyncio.create_task(auth.client.post("/api/v1/keys/rotation", headers=headers))
    await renewed.wait()
    go_on.set()
    assert (await asked).status_code == 201


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(auth: Running, monkeypatch: pytest.MonkeyPatch):
    async def away(*_: object) -> None:
        raise DependencyUnavailable("the connection to the database was lost")

    monkeypatch.setattr(auth.app.state.platform.idempotency, "finish", away)
    headers = {**auth.headers(Role.ADMIN), "Idempotency-Key": "k"}
    assert (await auth.client.post("/api/v1/keys/rotation", headers=headers)).status_code == 201


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
