"""Jobs of the prover on one's own machine: input from files, progress as a bar, errors with their place."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from acgs1.cli.faults import told, unusable
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import RequestEnvironment
from acgs1.core.clock import SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.constitution_file import UnusableFile, load_constitution
from acgs1.kit.constitution_file import read_text as read
from acgs1.services.formal_verification.domain import Job, Plan

if TYPE_CHECKING:
    from acgs1.services.formal_verification.adapters.pool import ProverPool

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SECONDS = click.FloatRange(min=0, min_open=True)
out = Console(highlight=False, soft_wrap=True, emoji=False)


class Failure(click.ClickException):
    """The question could not be put: exit status 2, as for a usage error."""

    exit_code = 2


def run_job(
    job: Job, deadline: float, workers: int, second_opinion: bool, *, files: dict[str, Path] | None = None
) -> tuple[Plan, list[dict[str, Any]]]:
    """Plan and results; `files` says where the parts of the job's input were read, for the positions of errors."""
    try:
        return asyncio.run(_prove(job, deadline, workers, second_opinion))
    except DomainError as error:
        raise Failure(told(error.title, error.detail, error.items, files or {})) from error


async def _prove(job: Job, deadline: float, workers: int, second_opinion: bool) -> tuple[Plan, list[dict[str, Any]]]:
    from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool

    limits = PoolLimits(workers=workers, second_opinion_ms=2000 if second_opinion else 0)
    pool = ProverPool(limits, SystemClock())
    try:
        return await _with_progress(pool, job, deadline)
    finally:
        await pool.close()


async def _with_progress(pool: "ProverPool", job: Job, deadline: float) -> tuple[Plan, list[dict[str, Any]]]:
    columns = (TextColumn("proving"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("proving", total=None)
        plan = await pool.plan(job)
        progress.update(task, total=len(plan.items))
        results: dict[int, dict[str, Any]] = {}
        async with aclosing(pool.run(job, plan, [item.index for item in plan.items], deadline)) as answers:
            async for index, result in answers:
                results[index] = result
                progress.advance(task)
    return plan, [results[item.index] for item in plan.items]


def read_constitution(file: Path) -> Constitution:
    try:
        return load_constitution(file)
    except UnusableFile as error:
        raise Failure(unusable(error)) from error


def first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def read_text(file: Path) -> str:
    try:
        return read(file)
    except UnusableFile as error:
        raise Failure(unusable(error)) from error


def place_of(environment: RequestEnvironment) -> str:
    return f"{environment.principal} / {environment.action} / {environment.resource}"
