"""Shared fixtures."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shared_data() -> Path:
    """Data that others wrote, which the project does not ship; the test is skipped where it is absent."""
    path = Path(os.environ.get("ACGS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}; set ACGS_SHARED_DATA")
    return path
