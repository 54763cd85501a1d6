"""Writes what is read off the code into docs/reference, and the measured figures into the README.

Run `.venv/bin/python docs/generate.py` after a change of a route, an error, a command or a benchmark's result;
`tests/docs` fails until that is done.
What stands outside the two markers of a file is written by hand and stays.
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from fastapi import FastAPI
from fastapi.routing import APIRoute

import acgs1
from acgs1.cli.main import cli
from acgs1.contracts.auth import Role
from acgs1.contracts.topology import CONSOLE, SERVICES, Part
from acgs1.core.errors import DomainError
from acgs1.kit.errors import STATUS
from acgs1.kit.settings import PlatformSettings
from acgs1.ledger.errors import LedgerError, LedgerUnavailableError, snake_case

REFERENCE = Path(__file__).parent / "reference"
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
# Answered by the app factory itself, for what no rule of a service foresaw.
_FACTORY = {"internal_error": ("500", "The service failed")}


def apps() -> dict[str, FastAPI]:
    """Every application of the system, built and not started."""
    with TemporaryDirectory() as home:
        settings = PlatformSettings(home=Path(home))
        return {part.name: _create(part, settings) for part in (*SERVICES, CONSOLE)}


def _create(part: Part, settings: PlatformSettings) -> FastAPI:
    module: Any = importlib.import_module(part.module)
    return module.create_app(settings)


# --- errors ---


def error_classes() -> list[type[DomainError]]:
    """Every error that the code declares, by code; bases that no module raises are left out."""
    for module in pkgutil.walk_packages(acgs1.__path__, "acgs1."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    return sorted(set(_subclasses(DomainError)), key=lambda kind: (kind.code, kind.__module__))


def _subclasses(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("acgs1."):
            yield child
            yield from _subclasses(child)


def errors_table() -> str:
    everyone = {name: app.state.statuses for name, app in apps().items()}
    lines = ["| code | status | title | from |", "|---|---|---|---|"]
    for kind in error_classes():
        if kind.__name__ == "ProgramError":
            continue  # one code per error of the program, below
        lines.append(f"| `{kind.code}` | {_status(kind, everyone)} | {kind.title} | {_origin(kind)} |")
    lines += [f"| `{code}` | {status} | {title} | every service |" for code, (status, title) in _FACTORY.items()]
    lines += ["", "### Refusals of the on-chain program", "", "| code | number | meaning |", "|---|---|---|"]
    idl = json.loads((Path(acgs1.__file__).parent / "ledger/artifacts/quantumagi_core.json").read_text())
    lines += [f"| `ledger_{snake_case(e['name'])}` | {e['code']} | {e['msg']} |" for e in idl["errors"]]
    return "\n".join(lines)


def _status(kind: type[DomainError], everyone: dict[str, dict[type[DomainError], int]]) -> str:
    if kind.__name__ == "UpstreamRejected":
        return "as the other service answered"
    room = kind.__module__.split(".")[2] if ".services." in kind.__module__ else None
    tables = [everyone[room]] if room else [STATUS, *everyone.values()]
    found = {table[base] for table in tables for base in kind.__mro__ if base in table}
    if issubclass(kind, LedgerError):
        found = {503 if issubclass(kind, LedgerUnavailableError) else 409}
    # The nearest base wins, as in the app factory.
    for table in tables:
        nearest = next((table[base] for base in kind.__mro__ if base in table), None)
        if nearest is not None and not issubclass(kind, LedgerError):
            found = {nearest}
            break
    return ", ".join(str(status) for status in sorted(found)) or "not over HTTP"


def _origin(kind: type[DomainError]) -> str:
    parts = kind.__module__.split(".")
    return parts[2] if parts[1] == "services" else {"kit": "every service"}.get(parts[1], parts[1])


# --- commands ---


def walk(command: click.Command, path: tuple[str, ...] = ("acgs1",)) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `command`, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from walk(child, (*path, name))
    else:
        yield path, command


def commands_text() -> str:
    return "\n\n".join(_command(path, command) for path, command in walk(cli))


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{' '.join(path)}`", "", f"`{' '.join(path)} {usage}`", "", inspect.cleandoc(command.help or "")]
    records = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
    rows = [f"| `{_cell(flags)}` | {_cell(text)} |" for flags, text in filter(None, records)]
    return "\n".join([*lines, *(["", "| option | |", "|---|---|", *rows] if rows else [])])


def _cell(text: str) -> str:
    """Text as it stands in a table of Markdown."""
    return text.replace("|", "\\|")


# --- roles and endpoints ---


def endpoints_text() -> str:
    sections: list[str] = []
    shared = {"/health", "/health/live", "/health/ready", "/metrics"}
    for part in (*SERVICES, CONSOLE):
        app = _APPS[part.name]
        lines = [f"## {part.name} (port {part.port})", "", "| method and path | does | who |", "|---|---|---|"]
        for path, route in routes(app):
            if path not in shared:
                methods = ", ".join(sorted(route.methods))
                lines.append(f"| `{methods} {path}` | {route.summary or ''} | {who(path, route, app)} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def routes(app: FastAPI) -> list[tuple[str, APIRoute]]:
    """The API routes with their full paths, also of routers that the framework keeps nested."""

    def inside(found: Any, prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
        for route in found:
            if isinstance(route, APIRoute):
                yield prefix + route.path, route
            elif (router := getattr(route, "original_router", None)) is not None:
                yield from inside(router.routes, prefix + route.include_context.prefix)

    return list(inside(app.routes))


_ASKS_FOR_A_ROLE = {"require.<locals>.check", "acting.<locals>.check"}


def who(path: str, route: APIRoute, app: FastAPI) -> str:
    """The roles that a route asks for: `anybody` without a token, `any role` with one."""
    if path in app.state.public:
        return "anybody"
    roles: set[str] = set()
    waiting = list(route.dependant.dependencies)
    while waiting:
        dependency = waiting.pop()
        waiting.extend(dependency.dependencies)
        if dependency.call is not None and dependency.call.__qualname__ in _ASKS_FOR_A_ROLE:
            roles.update(inspect.getclosurevars(dependency.call).nonlocals["roles"])
    return ", ".join(role for role in Role if role in roles) or "any role"


_APPS: dict[str, FastAPI] = {}


def generated() -> dict[str, str]:
    """File name -> what belongs between its markers."""
    _APPS.update(apps())
    return {
        "errors.md": errors_table(),
        "commands.md": commands_text(),
        "roles-and-endpoints.md": endpoints_text(),
    }


def spliced(text: str, content: str) -> str:
    """`text` with `content` between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


_FIGURE = re.compile(r"(measured: )([\d,.]*\d)([^|`]*?\(`([^`]+\.json)`: `([^`]+)`\))")


def refreshed(text: str) -> str:
    """`text` with each `measured: FIGURE (file: path)` as the file has it now, with as many decimals as before."""

    def figure(found: re.Match[str]) -> str:
        value: Any = json.loads((REFERENCE.parents[1] / found[4]).read_text())
        for part in found[5].split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        decimals = len(found[2].partition(".")[2])
        return f"{found[1]}{value:,.{decimals}f}{found[3]}"

    return _FIGURE.sub(figure, text)


if __name__ == "__main__":
    readme = REFERENCE.parents[1] / "README.md"
    readme.write_text(refreshed(readme.read_text()))
    for name, content in generated().items():
        file = REFERENCE / name
        file.write_text(spliced(file.read_text(), content))
