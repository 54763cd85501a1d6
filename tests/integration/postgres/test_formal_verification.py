"""The records of formal_verification: one suite that SQLite and PostgreSQL pass alike."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import acgs1
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Certificate, Obligation, RequestEnvironment, VerificationReport
from acgs1.core.hashing import text_hash
from acgs1.core.ids import new_id
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import InvalidCursor
from acgs1.services.formal_verification.domain import (
    StoredAnalysis,
    StoredVerification,
    certificate_body,
    sign_certificate,
)
from acgs1.services.formal_verification.models import Base
from acgs1.services.formal_verification.repository import VerificationRepository

OpenDatabase = Callable[[str], Database]
Records = Store[VerificationRepository]
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SCHEMA = "entity A; entity B; action x appliesTo { principal: [A], resource: [B] };"


@pytest.fixture
async def store(open_database: OpenDatabase) -> Records:
    database = open_database("formal_verification")
    await database.migrate(Path(acgs1.__file__).parent / "services" / "formal_verification" / "migrations")
    return Store(database, VerificationRepository)


def verification(text: str = "permit(principal, action, resource);", **changes: Any) -> StoredVerification:
    # A constitution that only an exact store gives back: its hash is over every character of it.
    principle = {
        "id": "p",
        "title": "Größe",
        "text": "None\u0000\u2028 at all\t",
        "category": "c",
        "priority": 1,
        "invariants": [{"kind": "never", "when": "true"}],
    }
    law = Constitution.model_validate({"name": "c", "schema_text": SCHEMA, "principles": [principle]})
    stored = StoredVerification(
        id=new_id("ver"),
        status="running",
        policies=text,
        constitution=law,
        constitution_hash=law.hash,
        deadline_seconds=1.5,
        requested_by="usr_1",
        created_at=NOW,
    )
    return replace(stored, **changes)


def report(stored: StoredVerification, verdict: Any = "proved") -> VerificationReport:
    obligation = Obligation(
        id="o",
        kind="never",
        principle_id="p",
        invariant_index=0,
        environment=RequestEnvironment(principal="A", action='Action::"x"', resource="B"),
        verdict=verdict,
        # A solver's counterexample may hold any character.
        reason="\u0000 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        smtlib_sha256=None,
        solver="s",
        milliseconds=0.1,
    )
    return VerificationReport(
        id=stored.id,
        policies_hash=text_hash(stored.policies),
        schema_hash=text_hash(SCHEMA),
        constitution_hash=stored.constitution_hash,
        verdict=verdict,
        obligations=[obligation],
        principles_without_invariants=[],
        certificate_hash=None,
        started_at=NOW,
        milliseconds=2.5,
    )


def certified(done: VerificationReport) -> Certificate:
    return sign_certificate(certificate_body(done, "kernel", NOW), "key", lambda data: text_hash(str(len(data))))


async def test_the_migrated_tables_are_those_of_the_models(store: Records, open_database: OpenDatabase):
    def columns(connection: sa.Connection) -> dict[str, dict[str, bool]]:
        inspector = sa.inspect(connection)
        return {name: {c["name"]: c["nullable"] for c in inspector.get_columns(name)} for name in Base.metadata.tables}

    async with store.reading() as records:
        connection = await records.session.connection()
        found = await connection.run_sync(columns)
    expected = {name: {c.name: bool(c.nullable) for c in table.columns} for name, table in Base.metadata.tables.items()}
    assert found == expected


async def test_a_verification_comes_back_exactly_as_it_was_kept(store: Records):
    stored = verification(proofs=True)
    async with store.transaction() as records:
        await records.add_verification(stored)
    async with store.reading() as records:
        assert await records.verification(stored.id) == stored
        assert await records.running() == [stored]
        assert await records.verification("ver_other") is None
    done = report(stored)
    async with store.transaction() as records:
        await records.finish(stored.id, "done", NOW, done)
    async with store.reading() as records:
        kept = await records.verification(stored.id)
        assert kept is not None
        assert (kept.status, kept.finished_at, kept.report) == ("done", NOW, done)
        assert kept.constitution.hash == stored.constitution_hash
        assert await records.running() == []


async def test_verifications_are_listed_newest_first_in_pages(store: Records):
    made = [verification(f"permit(principal, action, resource); // {n}") for n in range(5)]
    async with store.transaction() as records:
        for each in made:
            await records.add_verification(each)
        await records.finish(made[0].id, "failed", NOW, detail="why")
    async with store.reading() as records:
        first, cursor = await records.verifications(None, 2)
        rest, end = await records.verifications(cursor, 10)
        assert [v.id for v in (*first, *rest)] == [v.id for v in reversed(made)]
        assert (cursor is not None, end) == (True, None)
        assert [v.status for v in rest[-1:]] == ["failed"]
        with pytest.raises(InvalidCursor):
            await records.verifications("'; drop table verifications; --", 2)


async def test_many_results_are_cached_at_once_and_a_key_keeps_its_first(store: Records):
    # More keys than one statement takes parameters (32766 in SQLite, 32767 in asyncpg).
    results = {text_hash(str(n)): {"id": str(n), "reason": "\u0000"} for n in range(33_000)}
    async with store.transaction() as records:
        await records.cache(results, NOW)
        await records.cache({}, NOW)
    key = text_hash("7")
    async with store.transaction() as records:
        await records.cache({key: {"id": "another"}, "f" * 64: {"id": "new"}}, NOW)
    async with store.reading() as records:
        assert await records.cached([*results, "0" * 64]) == results
        assert await records.cached(["f" * 64]) == {"f" * 64: {"id": "new"}}


async def test_two_verifications_that_prove_the_same_at_once_both_end(store: Records):
    stored = [verification(), verification()]
    results = {text_hash(str(n)): {"id": str(n)} for n in range(200)}

    async def end(each: StoredVerification, order: int) -> None:
        async with store.transaction() as records:
            await records.add_verification(each)
            await records.cache(dict(list(results.items())[::order]), NOW)
            await records.keep_texts({text_hash("script"): "script"}, NOW)
            await records.finish(each.id, "done", NOW, report(each))

    # In the same order: PostgreSQL makes the second writer of a key wait for the first.
    await asyncio.gather(end(stored[0], 1), end(stored[1], 1))
    async with store.reading() as records:
        assert await records.running() == []
        assert await records.cached(list(results)) == results


async def test_a_certificate_comes_back_with_its_verification_and_its_texts(store: Records):
    stored = verification()
    certificate = certified(report(stored))
    texts = {text_hash(text): text for text in ("(assert false)", "\u0000 proof " * 200_000)}
    async with store.transaction() as records:
        await records.add_verification(stored)
        await records.add_certificate(certificate, stored.id, NOW)
        await records.add_certificate(certificate, stored.id, NOW)
        await records.keep_texts(texts, NOW)
        await records.keep_texts(texts, NOW)
    async with store.reading() as records:
        assert await records.certificate(certificate.hash) == (certificate, stored.id)
        assert await records.certificate("0" * 64) is None
        assert {digest: await records.text(digest) for digest in texts} == texts
        assert await records.text("0" * 64) is None


async def test_an_analysis_comes_back_until_it_has_ended_and_with_its_result(store: Records):
    made = StoredAnalysis(new_id("ana"), "compare", {"old": "\u0000"}, "running", "usr_1", NOW)
    async with store.transaction() as records:
        await records.add_analysis(made)
    async with store.reading() as records:
        assert await records.analysis(made.id) == made
        assert await records.running_analyses() == [made]
        assert await records.analysis("ana_none") is None
    async with store.transaction() as records:
        await records.finish_analysis(made.id, "done", NOW, result={"change": "both"})
    async with store.reading() as records:
        assert await records.running_analyses() == []
        assert await records.analysis(made.id) == replace(made, status="done", result={"change": "both"})


async def test_a_certificate_needs_its_verification(store: Records):
    with pytest.raises(sa.exc.IntegrityError):
        await _orphan(store, certified(report(verification())))


async def _orphan(store: Records, certificate: Certificate) -> None:
    async with store.transaction() as records:
        await records.add_certificate(certificate, "ver_none", NOW)
