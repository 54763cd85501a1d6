"""`acgs1 up`, `status`, `demo`, `backup`, `restore`: the system as a whole."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console

from acgs1.cli.person import given_password
from acgs1.contracts.topology import PARTS
from acgs1.core.clock import format_instant
from acgs1.core.errors import DomainError
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.scaling import BadWorkers, parse
from acgs1.runtime.supervisor import CannotStart, Supervisor, expect_ports, is_healthy, supervised

_START_SECONDS = 60.0
_out = Console(highlight=False, soft_wrap=True, emoji=False)


@click.command()
@click.option("--quiet", is_flag=True, help="Say only what goes wrong.")
@click.option(
    "--workers",
    multiple=True,
    metavar="auto|SERVICE=N|SERVICE=N-M",
    help="How many processes a service has: a fixed number, bounds to scale between by measured utilisation, or `auto` for"
    " 1 to the number of cores wherever that is safe. May be given several times. Default: one each.",
)
def up(quiet: bool, workers: tuple[str, ...]) -> None:
    """Start every part and keep it running until Ctrl-C."""
    settings = PlatformSettings()
    try:
        bounds = parse(workers, os.cpu_count() or 1)
    except BadWorkers as error:
        raise click.BadParameter(str(error), param_hint="--workers") from None
    started = time.monotonic()
    ready = 0

    def report(part: str, what: str) -> None:
        nonlocal ready
        if what == "healthy":
            ready += 1
            if not quiet:
                _out.print(
                    f"  [{ready:>2}/{len(PARTS)}] {part:<26} {settings.url(part)}  {time.monotonic() - started:.1f} s"
                )
            return
        _out.print(f"  {part}: {what}")

    supervisor = Supervisor(settings, report, workers=bounds)
    try:
        if not quiet:
            _out.print(f"starting {len(PARTS)} parts on {settings.home}")
        supervisor.start()
    except CannotStart as error:
        raise click.ClickException(str(error)) from None
    unhealthy = supervisor.wait_until_healthy(_START_SECONDS)
    if supervisor.asked_to_stop:
        supervisor.stop()
        return
    if unhealthy:
        _out.print(f"not healthy yet: {', '.join(unhealthy)}; their logs are in {settings.home / 'logs'}")
    elif not quiet:
        _out.print(f"all parts are healthy after {time.monotonic() - started:.1f} s")
    supervisor.run()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Show every part: its address, processes, restarts, health and what it depends on. Exit status 1 when one is not healthy."""
    settings = PlatformSettings()
    parts: dict[str, dict[str, Any]] = (supervised(settings.home) or {"parts": {}})["parts"]
    shown = [_shown(part.name, settings, parts.get(part.name, {})) for part in PARTS]
    healthy = all(part["health"] == "healthy" for part in shown)
    if as_json:
        click.echo(json.dumps({"healthy": healthy, "parts": shown}, indent=2))
    else:
        rows = [("part", "address", "pids", "restarts", "health", "depends on"), *(_row(part) for part in shown)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            # Whole, however narrow the terminal: a name or a port that is cut helps nobody.
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.exit(0 if healthy else 1)


def _shown(name: str, settings: PlatformSettings, known: dict[str, Any]) -> dict[str, Any]:
    """What is known of one part: from its supervisor, and from its own word."""
    url = settings.url(name)
    workers: dict[str, int | None] = known.get("workers", {})
    answer: dict[str, Any]
    try:
        answer = httpx.get(f"{url}/health", timeout=3.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        answer = {"status": "down"}
    return {
        "part": name,
        "address": url,
        "pids": [pid for pid in workers.values() if pid],
        "restarts": known.get("restarts"),
        "health": str(answer.get("status", "unknown")),
        "dependencies": answer.get("dependencies", {}),
    }


def _row(part: dict[str, Any]) -> tuple[str, ...]:
    pids = " ".join(str(pid) for pid in part["pids"])
    restarts = "-" if part["restarts"] is None else str(part["restarts"])
    dependencies = ", ".join(f"{name} {how}" for name, how in part["dependencies"].items())
    return part["part"], part["address"], pids or "-", restarts, part["health"], dependencies


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop the system again and leave with status 0 or 1.")
@click.option(
    "--again", is_flag=True, help="Do the job although it was done or another bundle is active, and activate the job's."
)
def demo(leave: bool, again: bool) -> None:
    """Start the system if it is not running and govern the airline example, from constitution to evidence.

    The job is done once: afterwards, and on a system that governs something else, this only starts the system and says so. A job that
    was cut off goes on. It needs the administrator's password: ACGS_PASSWORD, or the file that the first start wrote.
    """
    settings = PlatformSettings()
    home = Home(settings.home)
    # The system is a process of its own, which nobody but this one would stop: SIGTERM ends both, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    system: subprocess.Popen[bytes] | None = None
    try:
        if supervised(settings.home) is None:
            system = start(settings)
        else:
            _await_health(settings, lambda: supervised(settings.home) is not None)
        failed = not _main_job(settings, home, again)
        if leave or system is None:
            sys.exit(1 if failed else 0)
        _where(settings, home)
        system.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if system is not None:
            stop(system)


def start(settings: PlatformSettings) -> subprocess.Popen[bytes]:
    """Start the system as a process of its own and wait until every part is ready. End it with `stop`."""
    # Here and not only in the process: whoever answers on these ports before it does would be taken for it.
    try:
        expect_ports(settings)
    except CannotStart as error:
        raise click.ClickException(str(error)) from None
    _out.print(f"[bold]Starting {len(PARTS)} parts[/bold] on {settings.home}")
    started = time.monotonic()
    env = {**os.environ, "ACGS_HOME": str(settings.home), "ACGS_PORT_OFFSET": str(settings.port_offset)}
    system = subprocess.Popen([sys.executable, "-m", "acgs1", "up", "--quiet"], env=env, start_new_session=True)

    def ours() -> bool:
        state = supervised(settings.home)
        return state is not None and state["pid"] == system.pid

    try:
        _await_health(settings, lambda: system.poll() is None, begun=ours)
        # In here, because who reads this may end the command at once.
        _out.print(f"all parts are healthy after {time.monotonic() - started:.1f} s\n")
    except BaseException:
        stop(system)
        raise
    return system


def _await_health(
    settings: PlatformSettings, alive: Callable[[], bool], begun: Callable[[], bool] = lambda: True
) -> None:
    """Wait until every part is healthy, asking none before `begun`."""
    deadline = time.monotonic() + _START_SECONDS
    waiting = {part.name for part in PARTS}
    with _out.status("") as display:
        while waiting:
            if not alive():
                raise click.ClickException("the system did not start")
            if time.monotonic() > deadline:
                raise click.ClickException(f"not healthy after {_START_SECONDS:g} s: {', '.join(sorted(waiting))}")
            if begun():
                waiting -= {name for name in waiting if is_healthy(settings.host, settings.port(name))}
            if waiting:
                display.update(f"waiting for {', '.join(sorted(waiting))}")
                time.sleep(0.1)


def stop(system: subprocess.Popen[bytes]) -> None:
    """End a system that `start` began."""
    if system.poll() is None:
        os.kill(system.pid, signal.SIGTERM)
        try:
            system.wait(10)
        except subprocess.TimeoutExpired:
            system.kill()


def _main_job(settings: PlatformSettings, home: Home, again: bool) -> bool:
    """Do the main job with a transcript, unless it was done or is not for this system; False when a step failed."""
    from acgs1.runtime.api import ApiProblem
    from acgs1.runtime.demo import Demo, NotOurs
    from acgs1.runtime.founding import FoundingFailed, Narrator
    from acgs1.runtime.notes import UnreadableNotes, read_notes

    started = time.monotonic()
    number = 0

    def step(title: str) -> None:
        nonlocal number
        number += 1
        _out.print(f"[bold]{number}. {title}[/bold]  ({time.monotonic() - started:.1f} s)")

    def say(line: str) -> None:
        _out.print(f"   {line}", markup=False)

    try:
        done_at = read_notes(home).done_at
        if done_at is not None and not again:
            _out.print(f"The main job was done at {format_instant(done_at)}; `acgs1 demo --again` does it again.")
            return True
        asyncio.run(Demo(settings, Narrator(step, say), password=given_password()).run(replace=again))
    except NotOurs as error:
        _out.print(f"The main job was not run: {error}.", markup=False)
        return True
    except (FoundingFailed, UnreadableNotes, ApiProblem, DomainError, httpx.HTTPError, OSError) as error:
        _out.print(
            f"[bold red]step {number} failed:[/bold red] " if number else "[bold red]not begun:[/bold red] ", end=""
        )
        _out.print(str(error) or type(error).__name__, markup=False)
        return False
    _out.print(
        f"\n[bold]done[/bold] in {time.monotonic() - started:.1f} s: constitution, proof, vote, decisions, evidence"
    )
    return True


def _where(settings: PlatformSettings, home: Home) -> None:
    _out.print(f"\nThe system keeps running; Ctrl-C stops it. The console is at {settings.url('console')}")
    _out.print(f"AuthZEN:  {settings.url('policy_governance')}/access/v1/evaluation")
    _out.print(f"ledger:   {settings.url('ledger')} (Solana JSON-RPC)")
    if home.admin_password.exists():
        _out.print(f"password: {home.admin_password} (user `admin`)")
    _out.print(f"logs:     {home.logs}")


@click.command()
@click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))
def backup(archive: Path) -> None:
    """Write all state into ARCHIVE (.tar.gz, 0600). The system may be running."""
    from acgs1.runtime.backup import BackupError
    from acgs1.runtime.backup import backup as make

    settings = PlatformSettings()
    if settings.database_url is not None:
        raise click.ClickException("the databases are in PostgreSQL: back them up with pg_dump")
    try:
        count = make(Home(settings.home), archive)
    except BackupError as error:
        raise click.ClickException(str(error)) from None
    _out.print(f"{count} files in {archive}; it holds private keys: keep it like one")


@click.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(archive: Path) -> None:
    """Unpack ARCHIVE into the data directory, which must be empty or absent."""
    from acgs1.runtime.backup import BackupError
    from acgs1.runtime.backup import restore as unpack

    settings = PlatformSettings()
    if supervised(settings.home) is not None:
        raise click.ClickException(f"the system is running on {settings.home}; stop it first")
    try:
        count = unpack(archive, settings.home)
    except BackupError as error:
        raise click.ClickException(str(error)) from None
    _out.print(f"{count} files restored to {settings.home}")
