"""Slow statements on both databases: captured once each, with a plan and without parameters, within bounds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from acgs1.kit.db import Database
from polling import eventually_async

TABLE = sa.Table(
    "parcel", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("owner", sa.String(40))
)


@pytest.fixture
async def database(open_database: Callable[..., Database]) -> Database:
    # Every statement counts as slow: what is tested is the capture and not a machine's speed.
    database = open_database("slow", slow_query_seconds=1e-9)
    async with database.transaction() as session:
        if database.schema:
            await session.execute(sa.text(f'CREATE SCHEMA "{database.schema}"'))
        await (await session.connection()).run_sync(TABLE.metadata.create_all)
        await session.execute(TABLE.insert(), [{"id": n, "owner": f"owner-{n % 7}"} for n in range(50)])
    return database


async def captured(database: Database, containing: str) -> Any:
    """The statement with its plan, once it is there."""

    async def found() -> Any:
        return next(
            (
                query
                for query in database.slow_queries.report().queries
                if containing in query.statement and query.plan_missing != "not explained yet"
            ),
            None,
        )

    return await eventually_async(found, f"a captured statement with `{containing}`")


async def test_a_slow_statement_is_captured_once_with_its_plan_and_without_its_parameters(database: Database):
    for owner in ("secret-one", "secret-two", "secret-three"):
        async with database.reading() as session:
            await session.execute(sa.select(TABLE.c.id).where(TABLE.c.owner == owner))
    query = await captured(database, "parcel.owner = ")
    assert query.count == 3
    assert query.plan_missing is None
    assert any("parcel" in line for line in query.plan), query.plan
    assert "SCAN" in query.plan[0].upper()
    assert 0 < query.longest_seconds <= query.total_seconds
    assert "secret" not in database.slow_queries.report().model_dump_json()


async def test_lists_of_any_length_are_one_statement(database: Database):
    for length in (1, 2, 9):
        async with database.reading() as session:
            await session.execute(sa.select(TABLE.c.owner).where(TABLE.c.id.in_(range(length))))
    matching = [q for q in database.slow_queries.report().queries if "parcel.id IN" in q.statement]
    assert len(matching) <= 2, [q.statement for q in matching]
    assert sum(q.count for q in matching) == 3


async def test_a_change_is_explained_and_not_carried_out(database: Database):
    async with database.transaction() as session:
        await session.execute(TABLE.delete().where(TABLE.c.id == 3))
        await session.execute(TABLE.update().where(TABLE.c.id == 4).values(owner="new"))
    for what in ("DELETE FROM parcel", "UPDATE parcel"):
        query = await captured(database, what)
        assert query.plan_missing is None, query
        assert query.plan
    async with database.reading() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(TABLE)) == 49
        assert await session.scalar(sa.select(TABLE.c.owner).where(TABLE.c.id == 4)) == "new"


async def test_what_cannot_be_explained_says_so(database: Database):
    query = await captured(database, "CREATE TABLE parcel")
    assert (query.plan, query.plan_missing) == ([], "a statement of this kind has no plan")


async def test_explaining_is_not_captured_itself_and_leaves_the_connections_usable(database: Database):
    async with database.reading() as session:
        await session.execute(sa.select(TABLE))
    await captured(database, "FROM parcel")
    assert not [
        q for q in database.slow_queries.report().queries if "EXPLAIN" in q.statement or "PREPARE" in q.statement
    ]
    await asyncio.gather(*(database.ping() for _ in range(16)))


async def test_memory_is_bounded_and_the_costliest_stay(database: Database):
    async with database.reading() as session:
        for number in range(130):
            await session.execute(sa.text(f"SELECT {number} AS n{number}"))
    report = database.slow_queries.report()
    assert len(report.queries) == 100
    assert report.forgotten >= 30
    totals = [query.total_seconds for query in report.queries]
    assert totals == sorted(totals, reverse=True)
