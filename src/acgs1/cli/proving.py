"""Jobs of the prover on one's own machine: input from files, progress as a bar, errors with their place."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import RequestEnvironment
from acgs1.core.clock import SystemClock
from acgs1.core.errors import DomainError, ErrorItem
from acgs1.kit.constitution_file import ConstitutionFile, InvalidConstitutionFile, load_constitution
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
        lines = [f"  {_where(item, files or {})}: {item.detail}" for item in error.items]
        raise Failure("\n".join([f"{error.title}: {error.detail}", *lines])) from error


def _where(item: ErrorItem, files: dict[str, Path]) -> str:
    """`file:line:column` of an error in one of the files."""
    part, _, rest = (item.pointer or "").removeprefix("/").partition("/")
    line, column = item.line or 1, item.column or 1
    file = files.get(part)
    if file is None:
        return f"{item.pointer or 'input'}:{line}:{column}"
    if part == "constitution":
        law = ConstitutionFile(file)
        if rest == "schema_text":
            file = law.schema_path
        else:
            first, column = law.place(rest)
            line += first - 1
    return f"{file}:{line}:{column}"


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
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
    except InvalidConstitutionFile as error:
        raise Failure(f"{error.title}: {error.detail}") from error


def first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def read_text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"`{file}` cannot be read: {error}") from error


def place_of(environment: RequestEnvironment) -> str:
    return f"{environment.principal} / {environment.action} / {environment.resource}"
