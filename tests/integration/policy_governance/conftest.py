"""A chamber of its own for each test."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.constitution import Constitution
from chamber import Chamber, chamber_at
from governance import airline


@pytest.fixture
async def chamber(tmp_path: Path) -> AsyncIterator[Chamber]:
    async with chamber_at(tmp_path) as opened:
        yield opened


@pytest.fixture
def amended() -> Callable[..., Constitution]:
    """The airline's constitution with changes to it."""

    def change(title: str | None = None, **text: Any) -> Constitution:
        constitution = airline()
        if title is not None:
            first = constitution.principles[0].model_copy(update={"title": title})
            text["principles"] = (first, *constitution.principles[1:])
        return constitution.model_copy(update=text)

    return change
