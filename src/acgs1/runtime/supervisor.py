"""The supervisor: one process per part, forked from a preloaded parent, brought back when one dies."""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from acgs1.contracts.topology import LEDGER, PARTS, Part
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime import parts
from acgs1.runtime.ports import family, taken
from acgs1.runtime.scaling import Bounds, Rule, Scaler, processor_seconds

_STOP_SECONDS: Final = 4.5
_FIRST_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 10.0
_STEADY_SECONDS: Final = 20.0
_QUEUE_SECONDS: Final = 1.0
"""For how long new connections may wait for a part that is being brought back."""
_NEW_SECONDS: Final = 4.0
_GLANCE_SECONDS: Final = 0.2
"""For how long the lock may be held by somebody who only looks whether it is (`supervised`)."""
_PR_SET_PDEATHSIG: Final = 1

Report = Callable[[str, str], None]
"""Hears of (part, what happened)."""


class CannotStart(Exception):
    """The system cannot be started here; the message says why and what would help."""


def expect_ports(settings: PlatformSettings, which: Iterable[Part] = PARTS) -> None:
    """Raises CannotStart where a part could not have one of its ports, naming the port, the part and whoever has it."""
    for part in which:
        for port in parts.ports(part, settings):
            try:
                who = taken(settings.host, port)
            except OSError as error:
                raise _cannot_bind(settings, part, port, error) from None
            if who is not None:
                raise CannotStart(
                    f"port {port} ({part.name}) is taken by {who}; stop it, or set ACGS_PORT_OFFSET to move all ports"
                )


def _cannot_bind(settings: PlatformSettings, part: Part, port: int, error: OSError) -> CannotStart:
    what = f"port {port} ({part.name}) cannot be bound on `{settings.host}`: {error.strerror}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return CannotStart(f"{what}; set ACGS_HOST to an address of this machine")
    return CannotStart(what)


@dataclass(slots=True)
class _Worker:
    """One process of a part, and what is to come after it. Number 0 is always there."""

    number: int
    pid: int | None = None
    started: float = 0.0
    restarts: int = 0
    failures: int = 0
    restart_at: float | None = None
    retiring: bool = False
    sampled: tuple[float, float] | None = None
    """When its processor time was last read (monotonic), and what it was."""


class _Service:
    """A part, its listening socket and its workers.

    The supervisor holds the socket too, so while a worker is replaced new connections wait in its queue rather than being refused. It
    begins to listen when the first worker is ready.
    """

    def __init__(self, part: Part, least: int, scaler: Scaler | None) -> None:
        self.part = part
        self.scaler = scaler
        self.workers = [_Worker(number) for number in range(least)]
        self.listener: socket.socket | None = None
        self.sampled = 0.0

    @property
    def active(self) -> list[_Worker]:
        return [worker for worker in self.workers if not worker.retiring]


class Supervisor:
    """Owns the processes of all parts. Build it in a process that has started no thread."""

    def __init__(
        self,
        settings: PlatformSettings,
        report: Report,
        which: tuple[Part, ...] = PARTS,
        *,
        workers: Mapping[str, Bounds] | None = None,
        rule: Rule | None = None,
    ) -> None:
        """`workers` gives bounds to the parts that may have more than one process; `rule` chooses between the bounds."""
        self._settings = settings
        self._home = Home(settings.home)
        self._report = report
        self._rule = rule or Rule()
        bounds = workers or {}
        self._many = any(b.most > 1 for b in bounds.values())
        self._services = {part.name: self._service(part, bounds.get(part.name, Bounds())) for part in which}
        self._lock = (self._home.run / "supervisor.lock").open("a")
        self._waited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        self.asked_to_stop = False

    def start(self) -> None:
        """Fork every part. Raises CannotStart when the data directory is in use or a port is taken, before anything runs."""
        self._take_home()
        expect_ports(self._settings, [service.part for service in self._services.values()])
        for service in self._services.values():
            try:
                self._bind(service)
            except OSError as error:
                port = self._settings.port(service.part.name)
                raise _cannot_bind(self._settings, service.part, port, error) from None
        if self._many:
            parts.share_metrics(self._home)
        # The secrets of all parts exist before any part looks for its own.
        self._home.service_secret_hashes()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        # Inherited: a worker that does not listen for it yet must not die of it.
        signal.signal(parts.SPREAD, signal.SIG_IGN)
        # The ledger shares little with the others and they look for it at once, so it starts while they are being loaded.
        first = self._services.get(LEDGER.name)
        if first is not None:
            self._fork(first, first.workers[0])
        parts.preload(self._settings)
        for service in self._services.values():
            for worker in service.workers:
                if service is not first:
                    self._fork(service, worker)

    def wait_until_healthy(self, seconds: float) -> list[str]:
        """Tend the processes until every part has answered once that it is healthy, for at most `seconds`, or until `asked_to_stop`.

        Returns the parts that have not. They are tended like the others: a part may be waiting for something outside.
        """
        deadline = time.monotonic() + seconds
        waiting = list(self._services)
        while waiting and time.monotonic() < deadline:
            if self._tend(0.1):
                break
            for name in list(waiting):
                if is_healthy(self._settings.host, self._settings.port(name)):
                    self._report(name, "healthy")
                    waiting.remove(name)
        return sorted(waiting)

    def run(self) -> None:
        """Tend the processes until SIGTERM or SIGINT, then stop them all within five seconds."""
        while not self._tend(1.0):
            self._scale()
            self._spread()
        self.stop()

    def stop(self) -> None:
        """SIGTERM to every process, SIGKILL to what is left after 4.5 s."""
        for service, worker in self._all():
            worker.restart_at = None
            self._signal(worker, signal.SIGTERM)
            self._close(service)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(worker.pid for _, worker in self._all()):
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
            self._reap()
            if time.monotonic() > deadline:
                for _, worker in self._all():
                    self._signal(worker, signal.SIGKILL)
        (self._home.run / "supervisor.json").unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._waited)

    def _take_home(self) -> None:
        deadline = time.monotonic() + _GLANCE_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise CannotStart(
                        f"another supervisor runs on `{self._home.root}`; `acgs1 status` shows it"
                    ) from None
                time.sleep(_GLANCE_SECONDS / 10)
            else:
                break
        # What one that was killed has left would be taken for this one's.
        (self._home.run / "supervisor.json").unlink(missing_ok=True)

    # --- bringing back ---

    def _tend(self, seconds: float) -> bool:
        """Wait for a signal for at most `seconds`, bring back what died; True when asked to stop."""
        due = min((w.restart_at for _, w in self._all() if w.restart_at is not None), default=None)
        timeout = seconds if due is None else max(0.0, min(seconds, due - time.monotonic()))
        received = signal.sigtimedwait(self._waited, timeout)
        # Only these two: a process that was stopped and continued gets a siginfo with nothing in it.
        if received is not None and received.si_signo in {signal.SIGTERM, signal.SIGINT}:
            self.asked_to_stop = True
            return True
        for service, worker, worker_pid, status in self._reap():
            parts.forget_metrics(service.part, worker_pid)
            if worker.retiring:
                service.workers.remove(worker)
                self._write_state()
            else:
                self._schedule(service, worker, status)
        now = time.monotonic()
        for service, worker in self._all():
            if worker.restart_at is not None and worker.restart_at <= now:
                worker.restart_at = None
                if service.listener is None and service.part is not LEDGER:
                    self._bind_again(service, worker)
                if worker.restart_at is None:
                    worker.restarts += 1
                    self._fork(service, worker)
                    self._report(service.part.name, "restarted")
        return False

    def _reap(self) -> list[tuple[_Service, _Worker, int, int]]:
        """What has ended since the last call: whose, its pid and exit status."""
        ended: list[tuple[_Service, _Worker, int, int]] = []
        for service, worker in self._all():
            if worker.pid is not None:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.pid, worker.sampled = None, None
                    ended.append((service, worker, pid, os.waitstatus_to_exitcode(status)))
        return ended

    def _schedule(self, service: _Service, worker: _Worker, status: int) -> None:
        """At once where it had run steadily; else after 0.2 s, doubled with each failure in a row, at most 10 s."""
        now = time.monotonic()
        worker.failures = 1 if now - worker.started > _STEADY_SECONDS else worker.failures + 1
        pause = min(_FIRST_BACKOFF * 2 ** (worker.failures - 2), _LONGEST_BACKOFF) if worker.failures > 1 else 0.0
        worker.restart_at = now + pause
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        log = self._home.logs / f"{service.part.name}.log"
        self._report(service.part.name, f"{how}; again {f'in {pause:g} s' if pause else 'at once'} (see {log})")
        if pause > _QUEUE_SECONDS and not any(other.pid for other in service.workers):
            # Nobody would answer for a while: callers are better told so at once than left waiting in the queue.
            self._close(service)
        self._write_state()

    def _bind_again(self, service: _Service, worker: _Worker) -> None:
        """Listen again after `_close`; where somebody has taken the port meanwhile, try again later."""
        try:
            self._bind(service)
        except OSError as error:
            worker.restart_at = time.monotonic() + _LONGEST_BACKOFF
            self._report(service.part.name, f"its port cannot be bound ({error}); again in {_LONGEST_BACKOFF:g} s")

    # --- more and fewer workers ---

    def _scale(self) -> None:
        """Measure every service with bounds and bring it one step nearer to the number of workers that the rule wants."""
        now = time.monotonic()
        for service in self._services.values():
            if service.scaler is None or now - service.sampled < self._rule.sample_seconds:
                continue
            service.sampled = now
            utilisation = self._utilisation(service, now)
            if utilisation is None:
                continue
            active = service.active
            wanted = service.scaler.decide(now, len(active), utilisation)
            if wanted > len(active):
                self._add(service, utilisation)
            elif wanted < len(active):
                self._retire(service, utilisation)

    def _utilisation(self, service: _Service, now: float) -> float | None:
        """Cores that each worker used on average since the last measurement; None while one of them is starting."""
        used: list[float] = []
        for worker in service.active:
            seconds = None if worker.pid is None else processor_seconds(worker.pid)
            if seconds is None:
                worker.sampled = None
                continue
            last, worker.sampled = worker.sampled, (now, seconds)
            if last is not None and now > last[0] and now - worker.started >= self._rule.settle_seconds:
                used.append((seconds - last[1]) / (now - last[0]))
        return sum(used) / len(used) if len(used) == len(service.active) else None

    def _add(self, service: _Service, utilisation: float) -> None:
        taken = {worker.number for worker in service.workers}
        worker = _Worker(next(number for number in range(len(taken) + 1) if number not in taken))
        service.workers.append(worker)
        self._fork(service, worker)
        self._report(service.part.name, f"{len(service.active)} workers (each used {utilisation:.2f} cores)")

    def _spread(self) -> None:
        """Have the others share their connections with a worker that is new. Connections stay with the worker that accepted them, so
        without this it would get new clients only. Said a few times: nobody tells when it has begun to accept."""
        now = time.monotonic()
        for service in self._services.values():
            if len(service.active) > 1 and any(now - worker.started < _NEW_SECONDS for worker in service.active):
                for worker in service.active:
                    if now - worker.started >= _NEW_SECONDS:
                        self._signal(worker, parts.SPREAD)

    def _retire(self, service: _Service, utilisation: float) -> None:
        worker = max(service.active, key=lambda w: w.number)
        worker.retiring = True
        if worker.pid is None:
            service.workers.remove(worker)
        self._signal(worker, signal.SIGTERM)
        self._write_state()
        self._report(service.part.name, f"{len(service.active)} workers (each used {utilisation:.2f} cores)")

    # --- processes ---

    def _fork(self, service: _Service, worker: _Worker) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(service, worker, parent)
        worker.pid, worker.started = pid, time.monotonic()
        self._write_state()

    def _become(self, service: _Service, worker: _Worker, parent: int) -> None:
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
            log = os.open(self._home.logs / f"{service.part.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            self._lock.close()
            for other in self._services.values():
                if other is not service:
                    self._close(other)
            os.environ["ACGS_WORKER"] = str(worker.number)
            status = parts.run(service.part, self._settings, service.listener)
        except BaseException:  # noqa: BLE001 - whatever it was, it goes into the part's log and ends this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _service(self, part: Part, bounds: Bounds) -> _Service:
        scaler = Scaler(bounds, self._rule) if bounds.most > bounds.least else None
        return _Service(part, bounds.least, scaler)

    def _all(self) -> list[tuple[_Service, _Worker]]:
        return [(service, worker) for service in self._services.values() for worker in service.workers]

    def _signal(self, worker: _Worker, number: int) -> None:
        if worker.pid is not None:
            os.kill(worker.pid, number)

    def _bind(self, service: _Service) -> None:
        """Take the port, without listening on it yet. The ledger opens its own."""
        if service.part is not LEDGER:
            listener = socket.socket(family(self._settings.host))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._settings.host, self._settings.port(service.part.name)))
            service.listener = listener

    def _close(self, service: _Service) -> None:
        if service.listener is not None:
            service.listener.close()
            service.listener = None

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "parts": {
                name: {
                    "pid": service.workers[0].pid,
                    "restarts": sum(worker.restarts for worker in service.workers),
                    "workers": {str(worker.number): worker.pid for worker in service.active},
                }
                for name, service in self._services.items()
            },
        }
        write_private_json(self._home.run / "supervisor.json", state)


def supervised(home: Path) -> dict[str, Any] | None:
    """The state of the supervisor that runs on `home` (`pid`, and `pid`, `restarts` and `workers` per part), or None when none does."""
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
