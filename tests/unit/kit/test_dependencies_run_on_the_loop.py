"""FastAPI runs a plain function, as a dependency or an endpoint, in a worker thread: two switches of thread per request for nothing."""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest

from apps import PARTS, _routes, build


def _calls(dependant: Any) -> Iterator[Any]:
    if dependant.call is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


@pytest.mark.parametrize("part", [part.name for part in PARTS])
def test_no_request_takes_a_detour_through_a_worker_thread(part: str, tmp_path: Path) -> None:
    app, _ = build(part, tmp_path)
    seen = {call for _, route in _routes(app.routes) if hasattr(route, "dependant") for call in _calls(route.dependant)}
    assert seen
    detours = sorted(f"{call.__module__}.{call.__qualname__}" for call in seen if not iscoroutinefunction(call))
    assert detours == []
