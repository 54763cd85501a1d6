"""The room, fresh for each test."""

from pathlib import Path

import pytest

from governance import close_room, open_room


@pytest.fixture
async def room(tmp_path: Path):
    opened = await open_room(tmp_path)
    yield opened
    await close_room(opened)
