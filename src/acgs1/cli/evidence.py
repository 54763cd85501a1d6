"""`acgs1 verify evidence` and `acgs1 log`: what an auditor does without asking the running system."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from acgs1.contracts.integrity import EvidenceBundle
from acgs1.core.errors import DomainError
from acgs1.kit.home import Home
from acgs1.kit.notes import NoteError, NoteVerifier
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.signing import KeyFileError, SigningKey
from acgs1.services.integrity.domain import Check, parse_evidence, verified, verify_evidence
from acgs1.services.integrity.ports import Records

if TYPE_CHECKING:
    from acgs1.services.integrity.audit import AuditReport

_MARKS = {True: "ok          ", False: "FAILED      ", None: "not compared"}


@click.command("evidence")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--log-key", metavar="VKEY", help="The log's verifier key, from where you trust it (the log serves it at /log-key)."
)
@click.option(
    "--authority", metavar="ADDRESS", help="The log authority's address on the ledger, from where you trust it."
)
@click.option(
    "--program-id", metavar="ADDRESS", help="The governance program's address on the ledger, from where you trust it."
)
@click.option("--ledger", "ledger_url", metavar="URL", help="Ask this Solana node, too, whether the anchor landed.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def evidence(
    file: BinaryIO,
    log_key: str | None,
    authority: str | None,
    program_id: str | None,
    ledger_url: str | None,
    as_json: bool,
) -> None:
    """Verify the evidence bundle in FILE (`-` for standard input), offline unless --ledger is given.

    Exit status: 0 when every check holds, 1 when one fails, 2 when FILE is no evidence bundle or the node does not answer.
    """
    try:
        bundle = parse_evidence(file.read())
        checks = verify_evidence(bundle, log_key, authority=authority, program_id=program_id)
        if ledger_url is not None:
            checks += asyncio.run(_ask_ledger(bundle, ledger_url, program_id))
    except DomainError as error:
        raise _Failure(f"{error.title}: {error.detail}") from error
    good = verified(checks)
    if as_json:
        click.echo(json.dumps(_report(bundle, checks, good), indent=2))
    else:
        _print_checks(bundle, checks, good)
    sys.exit(0 if good else 1)


async def _ask_ledger(bundle: EvidenceBundle, url: str, program_id: str | None) -> list[Check]:
    from acgs1.ledger.client import LedgerClient
    from acgs1.services.integrity.adapters.ledger import verify_on_ledger

    try:
        client = LedgerClient(url, program_id=program_id or bundle.anchor.program_id)
    except ValueError as error:
        return [Check("ledger transaction", False, f"`{bundle.anchor.program_id}` is not an address: {error}")]
    async with client:
        return await verify_on_ledger(bundle, client)


def _report(bundle: EvidenceBundle, checks: list[Check], good: bool) -> dict[str, object]:
    return {
        "event": bundle.entry.event.id,
        "verified": good,
        "checks": [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in checks],
    }


def _print_checks(bundle: EvidenceBundle, checks: list[Check], good: bool) -> None:
    event = bundle.entry.event
    click.echo(f"{event.id}  {event.type}  by {event.actor} on {event.subject}  at {event.time.isoformat()}")
    for check in checks:
        click.echo(f"  {_MARKS[check.passed]}  {check.name}: {check.detail}")
    click.echo("verified" if good else "NOT VERIFIED")


@click.group("log")
def log() -> None:
    """The transparency log in this machine's data directory."""


@log.command("fsck")
@click.option(
    "--log-key", metavar="VKEY", help="The log's verifier key; by default that of the key in the data directory."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def _fsck(log_key: str | None, as_json: bool) -> None:
    """Recompute the whole log from its entries and compare it with every tile, checkpoint and anchor.

    Exit status: 0 when all agrees, 1 when something does not, 2 when there is no log to read.
    """
    report = asyncio.run(_audit(log_key))
    if as_json:
        fields = {
            name: getattr(report, name) for name in ("entries", "checkpoints", "tiles", "anchors", "root", "findings")
        }
        click.echo(json.dumps({"ok": report.ok, **fields}, indent=2))
    else:
        counts = f"{report.entries} entries, {report.tiles} tiles, {report.checkpoints} checkpoints, {report.anchors} anchors"
        click.echo(f"{counts}; root {report.root}")
        for finding in report.findings:
            click.echo(f"  {finding}")
        click.echo("the log is sound" if report.ok else f"{len(report.findings)} findings: the log is NOT sound")
    sys.exit(0 if report.ok else 1)


@log.command("checkpoint")
@click.option("--size", type=click.IntRange(min=0), help="The checkpoint of this many leaves; by default the newest.")
def _checkpoint(size: int | None) -> None:
    """Print a signed checkpoint: keep it, and the log cannot be changed behind your back."""

    async def read() -> str:
        async with _records() as records:
            signed = await records.head() if size is None else await records.checkpoint(size)
            if signed is None:
                raise _Failure("the log signed no such checkpoint")
            return signed.note

    click.echo(asyncio.run(read()), nl=False)


@log.command("show")
@click.argument("event_id", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many entries to list.")
def _show(event_id: str | None, limit: int) -> None:
    """Print the entry of EVENT_ID as JSON, or list the newest entries."""

    async def read() -> None:
        from acgs1.services.integrity.ports import EntryFilter

        async with _records() as records:
            if event_id is not None:
                leaf = await records.leaf(event_id)
                if leaf is None:
                    raise _Failure(f"no entry records the event `{event_id}`")
                click.echo(leaf.entry().model_dump_json(indent=2))
                return
            leaves, _ = await records.leaves(EntryFilter(), None, limit)
            for leaf in leaves:
                event = leaf.event
                click.echo(
                    f"{leaf.index:>8}  {event.time.isoformat()}  {event.type:<32} {event.id}  {event.actor} -> {event.subject}"
                )

    asyncio.run(read())


async def _audit(log_key: str | None) -> "AuditReport":
    from acgs1.services.integrity.adapters.memory import CheckpointFile
    from acgs1.services.integrity.audit import audit

    keys = PlatformSettings().home / "keys" / "integrity"
    # Before the log is read: a running service may grow both in between.
    remembered = await CheckpointFile(keys / "last-checkpoint").recall()
    async with _records() as records:
        head = await records.head()
        if head is None:
            raise _Failure("the log has not begun yet")
        try:
            if log_key is None:
                # The log's name is in its checkpoints; whether the key signed them is what the audit finds out.
                verifier = NoteVerifier(head.note.split("\n", 1)[0], SigningKey.load(keys / "log.pem").public)
            else:
                verifier = NoteVerifier.from_vkey(log_key)
        except (NoteError, KeyFileError, FileNotFoundError) as error:
            raise _Failure(f"the log's key cannot be used: {error}") from error
        return await audit(records, verifier, remembered)


@asynccontextmanager
async def _records() -> AsyncGenerator[Records]:
    """One consistent view of the log's tables. The running service is not disturbed."""
    from acgs1.kit.db import Database
    from acgs1.services.integrity.repository import IntegrityRepository

    settings = PlatformSettings()
    file = settings.home / "db" / "integrity.sqlite3"
    if settings.database_url is None and not os.path.isfile(file):  # noqa: PTH113, ASYNC240 - nothing else runs in this loop
        raise _Failure(f"there is no log at `{file}`; set ACGS_HOME to its data directory")
    database = Database.for_service("integrity", settings, Home(settings.home))
    try:
        async with database.reading() as session:
            yield IntegrityRepository(session)
    finally:
        await database.close()


class _Failure(click.ClickException):
    """Nothing could be checked, which is not the same as a check that failed."""

    exit_code = 2
