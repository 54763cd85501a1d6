"""The supervisor: one process per part, forked from a preloaded parent, brought back when one dies."""

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from acgs1.contracts.topology import LEDGER, PARTS, Part
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime import parts
from acgs1.runtime.ports import holder

_STOP_SECONDS: Final = 4.5
_FIRST_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 10.0
_STEADY_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1

Report = Callable[[str, str], None]
"""Hears of (part, what happened)."""


class CannotStart(Exception):
    """The system cannot be started here; the message says why and what would help."""


@dataclass(slots=True)
class _Child:
    part: Part
    pid: int | None = None
    started: float = 0.0
    restarts: int = 0
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """Owns the processes of all parts. Build it in a process that has started no thread."""

    def __init__(self, settings: PlatformSettings, report: Report, which: tuple[Part, ...] = PARTS) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._report = report
        self._children = {part.name: _Child(part) for part in which}
        self._lock = (self._home.run / "supervisor.lock").open("a")
        self._waited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        self.asked_to_stop = False

    def start(self) -> None:
        """Fork every part. Raises CannotStart when the data directory is in use or a port is taken, before anything runs."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(f"another supervisor runs on `{self._home.root}`; `acgs1 status` shows it") from None
        for child in self._children.values():
            self._expect_free(child.part)
        # The secrets of all parts exist before any part looks for its own.
        self._home.service_secret_hashes()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        # The ledger shares little with the others and they look for it at once, so it starts while they are being loaded.
        first = self._children.get(LEDGER.name)
        if first is not None:
            self._fork(first)
        parts.preload()
        for child in self._children.values():
            if child is not first:
                self._fork(child)

    def wait_until_healthy(self, seconds: float) -> list[str]:
        """Tend the processes until every part has answered once that it is healthy, for at most `seconds`, or until `asked_to_stop`.

        Returns the parts that have not. They are tended like the others: a part may be waiting for something outside.
        """
        deadline = time.monotonic() + seconds
        waiting = dict(self._children)
        while waiting and time.monotonic() < deadline:
            if self._tend(0.1):
                break
            for name in list(waiting):
                if is_healthy(self._settings.host, self._settings.port(name)):
                    self._report(name, "healthy")
                    del waiting[name]
        return sorted(waiting)

    def run(self) -> None:
        """Tend the processes until SIGTERM or SIGINT, then stop them all within five seconds."""
        while not self._tend(1.0):
            pass
        self.stop()

    def stop(self) -> None:
        """SIGTERM to every part, SIGKILL to what is left after 4.5 s."""
        for child in self._children.values():
            child.restart_at = None
            self._signal(child, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(child.pid for child in self._children.values()):
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
            self._reap()
            if time.monotonic() > deadline:
                for child in self._children.values():
                    self._signal(child, signal.SIGKILL)
        (self._home.run / "supervisor.json").unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._waited)

    def _tend(self, seconds: float) -> bool:
        """Wait for a signal for at most `seconds`, bring back what died; True when asked to stop."""
        due = min((c.restart_at for c in self._children.values() if c.restart_at), default=None)
        timeout = seconds if due is None else max(0.0, min(seconds, due - time.monotonic()))
        received = signal.sigtimedwait(self._waited, timeout)
        # Only these two: a process that was stopped and continued gets a siginfo with nothing in it.
        if received is not None and received.si_signo in {signal.SIGTERM, signal.SIGINT}:
            self.asked_to_stop = True
            return True
        for child, status in self._reap():
            self._schedule(child, status)
        now = time.monotonic()
        for child in self._children.values():
            if child.restart_at is not None and child.restart_at <= now:
                child.restart_at = None
                child.restarts += 1
                self._fork(child)
                self._report(child.part.name, "restarted")
        return False

    def _reap(self) -> list[tuple[_Child, int]]:
        ended: list[tuple[_Child, int]] = []
        for child in self._children.values():
            if child.pid is not None:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    child.pid = None
                    ended.append((child, os.waitstatus_to_exitcode(status)))
        return ended

    def _schedule(self, child: _Child, status: int) -> None:
        """Back off: 0.2 s, doubled with each failure in a row, at most 10 s."""
        now = time.monotonic()
        child.failures = 1 if now - child.started > _STEADY_SECONDS else child.failures + 1
        pause = min(_FIRST_BACKOFF * 2 ** (child.failures - 1), _LONGEST_BACKOFF)
        child.restart_at = now + pause
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        log = self._home.logs / f"{child.part.name}.log"
        self._report(child.part.name, f"{how}; again in {pause:g} s (see {log})")
        self._write_state()

    def _fork(self, child: _Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(child.part, parent)
        child.pid, child.started = pid, time.monotonic()
        self._write_state()

    def _become(self, part: Part, parent: int) -> None:
        """The child's life: never returns."""
        status = 1
        try:
            # When the supervisor is killed, its parts must not go on as orphans that hold the ports.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            # Ctrl-C in a terminal reaches the whole group; the supervisor alone decides what it means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._waited)
            log = os.open(self._home.logs / f"{part.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            self._lock.close()
            status = parts.run(part, self._settings)
        except BaseException:  # noqa: BLE001 - whatever it was, it goes into the part's log and ends this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _signal(self, child: _Child, number: int) -> None:
        if child.pid is not None:
            os.kill(child.pid, number)

    def _expect_free(self, part: Part) -> None:
        port = self._settings.port(part.name)
        if (who := holder(port)) is not None:
            raise CannotStart(
                f"port {port} ({part.name}) is taken by {who}; stop it, or set ACGS_PORT_OFFSET to move all ports"
            )

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "parts": {name: {"pid": c.pid, "restarts": c.restarts} for name, c in self._children.items()},
        }
        write_private_json(self._home.run / "supervisor.json", state)


def supervised(home: Path) -> dict[str, Any] | None:
    """The state of the supervisor that runs on `home` (`pid`, and `pid` and `restarts` per part), or None when none does."""
    lock = home / "run" / "supervisor.lock"
    if not lock.exists():
        return None
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            try:
                return json.loads((home / "run" / "supervisor.json").read_text())
            except FileNotFoundError:
                return {"pid": None, "parts": {}}
    return None


def is_healthy(host: str, port: int) -> bool:
    """Whether the part on `port` answers that it and all that it depends on are well."""
    connection = HTTPConnection(host, port, timeout=1.0)
    try:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read()).get("status") == "healthy"
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
