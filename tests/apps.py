"""Every HTTP application of the system, built in this process without its lifespan."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute

from acgs1.contracts.topology import CONSOLE, SERVICES
from acgs1.core.clock import SystemClock
from acgs1.kit.access import Authenticator
from factories import TestKeys, settings

PARTS = (*SERVICES, CONSOLE)


def build(part: str, home: Path) -> tuple[FastAPI, TestKeys]:
    """The app of `part`, not started: its guard runs, its objects do not exist. And keys that the guard trusts."""
    module: Any = importlib.import_module(next(p.module for p in PARTS if p.name == part))
    app: FastAPI = module.create_app(settings(home))
    keys = TestKeys(home)
    app.state.platform = SimpleNamespace(authenticator=Authenticator(keys, SystemClock()))
    return app, keys


def endpoints(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path template) of everything that the app answers, found from its routes rather than from its documentation."""
    for path, route in _routes(app.routes):
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, path


def _routes(routes: Any) -> Iterator[tuple[str, BaseRoute]]:
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            prefix = route.include_context.prefix
            yield from ((prefix + path, inner) for path, inner in _routes(included.routes))
        elif hasattr(route, "path"):
            yield route.path, route
        else:
            raise AssertionError(f"a kind of route that this walk does not know: {route!r}")
