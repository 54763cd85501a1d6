"""The real system in processes of its own, for tests that need all of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from acgs1.contracts.topology import PARTS
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.notes import read_notes
from polling import eventually, free_offset

# The ledger takes the port behind its own for subscriptions.
PORTS = [*(part.port for part in PARTS), 8900]


class System:
    """`acgs1 up` on a home and ports of its own."""

    def __init__(self, home: Path, offset: int | None = None) -> None:
        self.home = home
        self.offset = free_offset(PORTS) if offset is None else offset
        self.settings = PlatformSettings.model_validate({"home": home, "port_offset": self.offset})
        # A shorter voting window than a test would wait for is what the demo's own flow does without.
        self.environment = {**os.environ, "ACGS_HOME": str(home), "ACGS_PORT_OFFSET": str(self.offset)}
        self.output = home.parent / f"{home.name}.out"
        self.process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`acgs1 ...` on this system."""
        command = [sys.executable, "-m", "acgs1", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=240, check=False)

    def start(self) -> None:
        """Start it and wait until every part is ready and the ledger's program stands."""
        command = [sys.executable, "-m", "acgs1", "up", "--quiet"]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        eventually(
            lambda: self._alive() and all(self.healthy(part.name) for part in PARTS), "every part is healthy", 90
        )

    def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the supervisor ended:\n{self.output.read_text()}"
        return True

    def stop(self) -> int:
        """SIGTERM; the supervisor's exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            # A test may have held it still.
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "run" / "supervisor.json").read_text())

    def pid(self, part: str) -> int:
        """The process of `part`, once it has one."""
        return eventually(lambda: self.state()["parts"][part]["pid"], f"`{part}` has a process")

    def kill(self, part: str) -> int:
        """SIGKILL to the process of `part`; its pid."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, part: str, killed: int) -> None:
        """Wait until another process serves `part`."""

        def served() -> bool:
            pid = self.state()["parts"][part]["pid"]
            return pid is not None and pid != killed and self.ready(part)

        eventually(served, f"`{part}` is back", 60)

    def ready(self, part: str) -> bool:
        try:
            return httpx.get(self.settings.url(part) + "/health/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def healthy(self, part: str) -> bool:
        """Ready, and with all that it depends on."""
        try:
            answer = httpx.get(self.settings.url(part) + "/health", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and (part == "ledger" or answer.json()["status"] == "healthy")

    def call(self, method: str, part: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.settings.url(part) + path
        return httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **options)

    def sign_in(self, name: str, password: str) -> str:
        answer = self.call("POST", "auth", "/api/v1/sessions", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def admin(self) -> str:
        return self.sign_in("admin", (self.home / "admin-password").read_text().strip())

    def person(self, name: str) -> str:
        """The token of one of the people whom the demo has made."""
        return self.sign_in(name, self.password(name))

    def password(self, name: str) -> str:
        """The password of one of the people whom the demo has made."""
        return read_notes(Home(self.home)).people[name].password

    def service(self, name: str) -> str:
        """The token of one of the services."""
        secret = (self.home / "secrets" / name).read_text()
        answer = self.call(
            "POST", "auth", "/oauth2/token", data={"grant_type": "client_credentials"}, auth=(name, secret)
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def decide(self, token: str, amount: int = 50) -> httpx.Response:
        """Ask whether a compensation may be paid."""
        return self.call("POST", "policy_governance", "/access/v1/evaluation", token, json=compensation(amount))


def compensation(amount: int = 50) -> dict[str, Any]:
    """A request under the airline's schema that is allowed up to the working limit."""
    booking = {
        "fare": "flex",
        "insured": False,
        "trip_begun": False,
        "age_hours": 100,
        "airline_cancelled": True,
        "delay_minutes": 200,
        "customer_nationality": "NO",
        "customer_age": 40,
    }
    return {
        "subject": {"type": "Agent", "id": "test-agent", "properties": {"suspended": False}},
        "action": {"name": "pay_compensation"},
        "resource": {"type": "Booking", "id": "BK-1", "properties": booking},
        "context": {"customer_identified": True, "owns_booking": True, "amount": amount},
    }


@contextmanager
def running(home: Path, offset: int | None = None) -> Generator[System]:
    system = System(home, offset)
    try:
        system.start()
        yield system
    finally:
        if system.process is not None and system.process.poll() is None:
            system.stop()


def govern(system: System) -> list[str]:
    """The main job against a running system; what it said."""
    import asyncio

    from acgs1.runtime.demo import Demo
    from acgs1.runtime.founding import Narrator

    said: list[str] = []
    asyncio.run(Demo(system.settings, Narrator(said.append, said.append)).run())
    return said
