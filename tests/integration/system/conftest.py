"""One running system per module, governed once."""

import pytest

from system import govern, running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("system") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def governed(system):
    """The system after the main job, and the job's transcript."""
    return system, govern(system)
