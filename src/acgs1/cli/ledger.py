"""`acgs1 ledger`: deploy, status, airdrop, show, verify."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from acgs1.ledger.client import LedgerClient

T = TypeVar("T")


def _amount(_context: click.Context, _parameter: click.Parameter, text: str) -> Decimal:
    """An amount of SOL, exact to the lamport."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not (amount.is_finite() and 0 < amount < 2**64 // 10**9) or amount * 10**9 % 1:
        raise click.BadParameter(f"`{text}` is not an amount of SOL: expected a number above 0 with at most 9 decimals")
    return amount


def _own_node() -> str:
    """Where the other parts of this installation reach the ledger (ACGS_URLS, ACGS_HOST, ACGS_PORT_OFFSET)."""
    from acgs1.kit.settings import PlatformSettings

    return PlatformSettings().url("ledger")


@click.group()
@click.option(
    "--url",
    envvar="ACGS_LEDGER_URL",
    default=_own_node,
    show_default="this installation's node",
    help="JSON-RPC endpoint.",
)
@click.option("--program", help="Program id (default: ACGS_LEDGER_PROGRAM_ID, else where the embedded node has it).")
@click.pass_context
def ledger(context: click.Context, url: str, program: str | None) -> None:
    """The governance program and the ledger it runs on."""
    context.obj = (url, program)


def _run(
    context: click.Context, work: "Callable[[LedgerClient], Awaitable[T]]", fees: Mapping[str, int] | None = None
) -> T:
    from acgs1.kit.settings import PlatformSettings
    from acgs1.ledger.client import ledger_client
    from acgs1.ledger.errors import LedgerError

    url, program = context.obj

    async def go() -> T:
        settings = PlatformSettings().model_copy(update=fees or {})
        async with ledger_client(settings, url=url, program_id=program) as client:
            return await work(client)

    try:
        return asyncio.run(go())
    except LedgerError as error:
        raise click.ClickException(error.detail) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _print(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


@ledger.command()
@click.pass_context
def status(context: click.Context) -> None:
    """The node's version and slot, and what the governance account says."""

    async def work(client: "LedgerClient") -> dict[str, object]:
        governance = await client.get_governance()
        anchor = await client.get_anchor()
        return {
            "url": client.rpc.url,
            "program": str(client.program),
            "version": (await client.rpc.read("getVersion"))["solana-core"],
            "slot": await client.rpc.read("getSlot"),
            "governance": None if governance is None else dataclasses.asdict(governance),
            "anchor": None if anchor is None else dataclasses.asdict(anchor),
        }

    _print(_run(context, work))


@ledger.command()
@click.argument("address")
@click.argument("sol", callback=_amount)
@click.pass_context
def airdrop(context: click.Context, address: str, sol: Decimal) -> None:
    """Ask the faucet for SOL (the embedded node, devnet, testnet)."""
    from acgs1.ledger.keys import parse_address

    try:
        to = parse_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ADDRESS") from None
    click.echo(_run(context, lambda client: client.airdrop(to, int(sol * 10**9))))


@ledger.command()
@click.argument(
    "what",
    type=click.Choice(["principles", "members", "proposals", "policies", "attestations", "emergencies", "events"]),
)
@click.pass_context
def show(context: click.Context, what: str) -> None:
    """A register as the ledger has it, as JSON."""

    async def work(client: "LedgerClient") -> list[dict[str, object]]:
        if what == "events":
            return [
                {"signature": e.signature, "slot": e.slot, "event": type(e.body).__name__, **dataclasses.asdict(e.body)}
                async for e in client.events()
            ]
        registers: dict[str, Callable[[], Awaitable[list[object]]]] = {
            "principles": client.list_principles,
            "members": client.list_members,
            "proposals": client.list_proposals,
            "policies": client.list_policies,
            "attestations": client.list_attestations,
            "emergencies": client.list_emergencies,
        }  # pyright: ignore[reportAssignmentType]
        rows: list[dict[str, object]] = []
        for value in await registers[what]():
            row: dict[str, object] = dataclasses.asdict(value)  # pyright: ignore[reportArgumentType]
            rows.append({k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()})
        return rows

    _print(_run(context, work))


@ledger.command()
@click.pass_context
def verify(context: click.Context) -> None:
    """Compare the deployed program's bytes with the shipped ones. Exit status 1 where they differ."""
    from acgs1.core.hashing import sha256_hex
    from acgs1.ledger.deployment import deployed_elf
    from acgs1.ledger.program import shipped

    program = shipped()
    if program is None:
        raise click.ClickException("the ledger program is not in this installation")
    elf = _run(context, lambda client: deployed_elf(client.rpc, client.program))
    # An upgradeable program's account may be longer than the program: the rest is zeros.
    same = elf[: len(program.elf)] == program.elf and not any(elf[len(program.elf) :])
    click.echo(f"shipped   {program.sha256}  {len(program.elf)} bytes")
    if not same:
        click.echo(f"deployed  {sha256_hex(elf)}  {len(elf)} bytes")
        raise click.ClickException("the deployed program differs from the shipped one")
    click.echo("deployed program is the shipped one")


@ledger.command()
@click.option(
    "--payer",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Keypair file that pays and may upgrade.",
)
@click.option(
    "--program-keypair", type=click.Path(path_type=Path), required=True, help="Keypair file of the program's address."
)
@click.option(
    "--priority-percentile",
    type=click.IntRange(0, 100),
    help="Offer this percentile of recent priority fees (default: ACGS_LEDGER_PRIORITY_PERCENTILE, else none).",
)
@click.option(
    "--priority-cap",
    type=click.IntRange(min=0),
    help="Micro-lamports a compute unit to offer at most (default: ACGS_LEDGER_PRIORITY_CAP).",
)
@click.option(
    "--abandon",
    "abandoned",
    is_flag=True,
    help="Give up a deployment that was cut off; the rent of its buffer comes back.",
)
@click.pass_context
def deploy(
    context: click.Context,
    payer: Path,
    program_keypair: Path,
    priority_percentile: int | None,
    priority_cap: int | None,
    abandoned: bool,
) -> None:
    """Deploy the shipped program through the upgradeable loader at the address of a keypair, or upgrade the one there.

    Repeat a deployment that was cut off: it goes on where it stopped. The key of its buffer is in the data directory until it is done.
    """
    from acgs1.kit.home import Home
    from acgs1.kit.settings import PlatformSettings
    from acgs1.ledger.deployment import abandon, deploy_program
    from acgs1.ledger.keys import load_keypair, load_or_create_keypair
    from acgs1.ledger.program import shipped

    program = shipped()
    if program is None:
        raise click.ClickException("the ledger program is not in this installation")

    async def work(client: "LedgerClient") -> str:
        address, paying = load_or_create_keypair(program_keypair), load_keypair(payer)
        key_file = Home(PlatformSettings().home).keys("ledger") / f"buffer-{address.pubkey()}.json"
        buffer = load_or_create_keypair(key_file)
        if abandoned:
            done = f"{await abandon(client, paying, buffer.pubkey())} lamports came back"
        else:
            done = await deploy_program(client, paying, address, program.elf, buffer)
        key_file.unlink()  # the account is gone, so the key is of no use any more
        return done

    fees = {"ledger_priority_percentile": priority_percentile, "ledger_priority_cap": priority_cap}
    click.echo(_run(context, work, {name: value for name, value in fees.items() if value is not None}))
