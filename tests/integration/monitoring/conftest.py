"""What a process holds for all its parts is this test's own here: the tests of other rooms share the process."""

import pytest

from acgs1.core.clock import SystemClock
from acgs1.kit import breaker, reporting


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_process", breaker.Breakers())
    monkeypatch.setattr(reporting, "_runs", reporting.WorkflowRuns(SystemClock()))
