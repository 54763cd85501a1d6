"""Commands that act for a person: who they are, what the services answer them, and how it is shown."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import click
import httpx

from acgs1.cli.faults import Files, told
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api, ApiProblem

user_option = click.option(
    "--user", default="admin", show_default=True, help="Who acts. The password is ACGS_PASSWORD, or is asked for."
)


def as_person(user: str, work: Callable[[Api], Awaitable[None]], files: Files | None = None) -> None:
    """Sign `user` in and do `work`. A problem that a service answers with becomes the command's error, with its code and every fault
    by its place in `files`, from which the body was read."""
    settings = PlatformSettings()
    password = password_of(user, settings)

    async def signed_in() -> None:
        async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
            await work(await Api(http, settings).sign_in(user, password))

    try:
        asyncio.run(signed_in())
    except ApiProblem as refused:
        problem = refused.problem
        what = f"{problem.title} ({problem.code})" if problem.errors else f"{problem.code} ({problem.status})"
        raise click.ClickException(told(what, problem.detail, problem.errors, files or {})) from None
    except httpx.HTTPError as error:
        raise click.ClickException(f"the system does not answer ({error}); `acgs1 status` shows it") from None


def ask(
    user: str,
    method: str,
    part: str,
    path: str,
    body: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    *,
    files: Files | None = None,
) -> None:
    """One call as `user`, its answer printed as JSON. `files`: where the body was read."""

    async def work(api: Api) -> None:
        answer = await api.call(method, part, path, body=body, params=params)
        click.echo(json.dumps(answer.json(), indent=2, ensure_ascii=False))

    as_person(user, work, files)


def given_password() -> str | None:
    """ACGS_PASSWORD, None where it is not set."""
    return os.environ.get("ACGS_PASSWORD") or None


def password_of(user: str, settings: PlatformSettings) -> str:
    """ACGS_PASSWORD, or what this machine knows, or what the person types."""
    if password := given_password():
        return password
    # The administrator's own machine: whoever can read the data directory is the administrator.
    file = Home(settings.home).admin_password
    if user == "admin" and file.exists():
        return file.read_text().strip()
    return click.prompt(f"password of {user}", hide_input=True, err=True)
