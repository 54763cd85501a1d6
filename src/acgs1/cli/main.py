"""`acgs1`: every command, loaded when it is used."""

import importlib
import sys
from typing import Any

import click
import structlog
from pydantic import ValidationError

from acgs1 import __version__

_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("acgs1.cli.system", "up"),
    "status": ("acgs1.cli.system", "status"),
    "demo": ("acgs1.cli.system", "demo"),
    "backup": ("acgs1.cli.system", "backup"),
    "restore": ("acgs1.cli.system", "restore"),
    "constitution": ("acgs1.cli.governance", "constitution"),
    "proposals": ("acgs1.cli.governance", "proposals"),
    "vote": ("acgs1.cli.governance", "vote"),
    "approvals": ("acgs1.cli.governance", "approvals"),
    "authority": ("acgs1.cli.governance", "authority"),
    "verify": ("acgs1.cli.groups", "verify"),
    "log": ("acgs1.cli.evidence", "log"),
    "ledger": ("acgs1.cli.ledger", "ledger"),
    "workflow": ("acgs1.cli.workflow", "workflow"),
    "benchmark": ("acgs1.cli.groups", "benchmark"),
}


class _Lazy(click.Group):
    """Imports a command's module when the command is asked for: `acgs1 --help` should not load a solver."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base names it
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the base names it
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: Any = getattr(importlib.import_module(module), name)
        return command


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="acgs1")
def cli() -> None:
    """Constitutional governance for AI agents: proved policies, votes on a ledger, enforced decisions, verifiable evidence."""


def main() -> None:
    """Entry point. Settings that cannot be used end it with status 2 and one line each."""
    # Standard output is for results; a part that is started here sends its log there itself.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        cli()
    except ValidationError as error:
        if not error.title.endswith("Settings"):
            raise
        for item in error.errors():
            name = "_".join(str(part) for part in item["loc"]).upper()
            click.echo(
                f"acgs1: setting ACGS_{name}: {item['msg']}" if name else f"acgs1: settings: {item['msg']}", err=True
            )
        sys.exit(2)
