"""The main job is done once, goes on where it was cut off, and leaves alone what it has not made."""

import subprocess
import sys
from pathlib import Path

import pytest

from acgs1.kit.home import Home
from acgs1.runtime.demo import Demo, NotOurs
from acgs1.runtime.founding import Narrator
from acgs1.runtime.notes import read_notes
from acgs1.runtime.supervisor import supervised
from system import System, govern, running

pytestmark = pytest.mark.slow

ONLY_STARTED = "The main job was done at"


class CutOff(Exception):
    """What a kill at some line of the transcript is to the job."""


async def govern_until(system: System, start_of_line: str) -> None:
    """The main job up to a line of its transcript."""

    def say(line: str) -> None:
        if line.startswith(start_of_line):
            raise CutOff

    await Demo(system.settings, Narrator(lambda _: None, say)).run(replace=False)


async def test_a_job_that_was_cut_off_goes_on_to_one_bundle_and_one_vote(tmp_path: Path):
    with running(tmp_path / "home") as system:
        for line in (
            "member ines", "agent ", "Airline service desk: 12", "in force", "certificate ", "bundle ", "proposal ", "ines votes",
            "mei votes", "accepted", "the decision point serves", "deny ",
        ):  # fmt: skip
            with pytest.raises(CutOff):
                await govern_until(system, line)
            assert read_notes(Home(system.home)).done_at is None
        await Demo(system.settings, Narrator(lambda _: None, lambda _: None)).run(replace=False)
        notes = read_notes(Home(system.home))
        assert notes.done_at is not None
        admin = system.admin()
        proposals = system.call("GET", "policy_governance", "/api/v1/proposals", admin).json()["items"]
        assert [(p["status"], p["for_weight"], p["against_weight"]) for p in proposals] == [("enacted", 5, 1)]
        active = system.call("GET", "policy_governance", "/api/v1/bundles/active", admin).json()
        assert notes.bundles == [active["hash"]]


def test_the_first_start_does_the_job_and_a_later_one_only_starts(tmp_path: Path):
    system = System(tmp_path / "home")
    password = system.home / "admin-password"
    first = system.command("demo", "--exit")
    assert (first.returncode, "done in" in first.stdout) == (0, True), first.stdout + first.stderr
    assert (system.home / "demo.json").stat().st_mode & 0o777 == 0o600

    changed = "changed by the administrator"
    with running(system.home, system.offset) as started:
        body = {"current": password.read_text().strip(), "new": changed}
        answer = started.call("POST", "auth", "/api/v1/me/password", started.admin(), json=body)
        assert answer.status_code == 204

    # A file with a password that is no longer it, then no file.
    for _ in range(2):
        later = system.command("demo", "--exit")
        assert later.returncode == 0, later.stdout + later.stderr
        assert "all parts are healthy" in later.stdout
        assert ONLY_STARTED in later.stdout
        assert "Sign in" not in later.stdout
        again = system.command("demo", "--exit", "--again")
        assert again.returncode == 1
        assert "ACGS_PASSWORD" in again.stdout, again.stdout
        assert "Traceback" not in again.stderr
        password.unlink(missing_ok=True)
    assert not password.exists(), "no start writes a password that is none"

    system.environment["ACGS_PASSWORD"] = changed
    again = system.command("demo", "--exit", "--again")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "member ines is registered" in again.stdout


async def test_a_system_with_members_or_a_bundle_of_its_own_is_only_started(tmp_path: Path):
    with running(tmp_path / "home") as system:
        admin = system.admin()
        body = {"username": "ada", "password": "a long enough password", "roles": ["member"]}
        ada = system.call("POST", "auth", "/api/v1/users", admin, json=body).json()["id"]
        body = {"user_id": ada, "weight": 1}
        assert system.call("POST", "policy_governance", "/api/v1/members", admin, json=body).status_code == 201
        with pytest.raises(NotOurs, match="voting members"):
            await govern_until(system, "administrator signed in")
        only_started = system.command("demo", "--exit")
        assert only_started.returncode == 0, only_started.stdout + only_started.stderr
        assert "The main job was not run" in only_started.stdout
        users = system.call("GET", "auth", "/api/v1/users", admin).json()["items"]
        assert {user["username"] for user in users} == {"admin", "ada"}


def test_a_bundle_that_the_job_has_not_built_stays_active(tmp_path: Path):
    with running(tmp_path / "home") as system:
        govern(system)
        home = Home(system.home)
        notes = read_notes(home)
        # As if somebody else had built it.
        notes.model_copy(update={"bundles": [], "done_at": None}).keep(home)
        shown = system.command("demo", "--exit")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "The main job was not run: the active bundle is `Airline service desk`" in shown.stdout


def test_who_ends_the_command_ends_the_system_that_it_started(tmp_path: Path):
    system = System(tmp_path / "home")
    command = [sys.executable, "-m", "acgs1", "demo"]
    with subprocess.Popen(command, env=system.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("all parts are healthy" in line for line in process.stdout)
        assert supervised(system.home) is not None
        process.terminate()
        process.wait(30)
    assert supervised(system.home) is None
