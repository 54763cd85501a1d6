"""Every error that a service declares has a status and a code of its own."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

from acgs1.contracts.topology import SERVICES
from acgs1.core.errors import DomainError
from acgs1.kit import errors as kit_errors
from apps import PARTS, build

services = pytest.mark.parametrize("service", [part.name for part in SERVICES])

NEVER_ANSWERED = {
    # About a file that somebody verifies offline, with the command line.
    "integrity": {"MalformedEvidence"},
    # Ends a run, which then says so; the request that began the run was answered long before.
    "evolutionary_computation": {"VerificationFailed"},
    # Fails a workflow, which then says so.
    "governance_synthesis": {"NotProvable"},
}


def _modules(service: str) -> list[ModuleType]:
    package = importlib.import_module(f"acgs1.services.{service}")
    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    # Migrations run inside Alembic only.
    return [importlib.import_module(name) for name in names if ".migrations" not in name]


def _errors(modules: list[ModuleType]) -> set[type[DomainError]]:
    """What the service itself declares."""
    names = {module.__name__ for module in modules}
    return {
        thing
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing) and issubclass(thing, DomainError) and thing.__module__ in names
    }


@services
def test_every_error_has_a_status(service: str, tmp_path: Path):
    app, _ = build(service, tmp_path)
    errors = _errors(_modules(service))
    assert len(errors) > 2
    statuses = app.state.statuses
    missing = {e.__qualname__ for e in errors if not any(base in statuses for base in e.__mro__)}
    assert missing == NEVER_ANSWERED.get(service, set()), "these would get the status for everything unforeseen"


@services
def test_no_status_is_kept_for_an_error_of_the_service_that_is_gone(service: str, tmp_path: Path):
    app, _ = build(service, tmp_path)
    own = {e for e in app.state.statuses if e.__module__.startswith(f"acgs1.services.{service}.")}
    assert own
    assert own <= _errors(_modules(service))


def test_codes_are_stable_words_and_one_app_uses_each_for_one_status(tmp_path: Path):
    for part in PARTS:
        (home := tmp_path / part.name).mkdir()
        app, _ = build(part.name, home)
        statuses: dict[str, int] = {}
        for error, status in app.state.statuses.items():
            assert error.code.replace("_", "").isalnum()
            assert error.code == error.code.lower()
            assert 400 <= status < 600
            assert statuses.setdefault(error.code, status) == status, error.code
            assert error.title != DomainError.title, f"{error.__qualname__} says nothing about itself"


def test_every_platform_error_has_a_status():
    declared = {
        thing
        for thing in vars(kit_errors).values()
        if inspect.isclass(thing) and issubclass(thing, DomainError) and thing is not DomainError
    }
    assert len(declared) > 8
    assert not [e for e in declared if not any(base in kit_errors.STATUS for base in e.__mro__)]
