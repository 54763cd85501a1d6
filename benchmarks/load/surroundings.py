"""What a system stands on, real and of its own, so that it can be taken away: Redis, PostgreSQL, the disk, the clock.

Each says why it is not there where it cannot be had on this machine; nothing is imitated.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from acgs1.kit.settings import PlatformSettings

_READY_SECONDS: Final = 30.0
SLOW_WRITES: Final = 60
"""Writes per second that a slow disk does for the whole system: about what one spinning disk does."""


class Missing(Exception):
    """This machine lacks what a fault needs; the message says what."""


def _program(name: str, *folders: Path) -> str:
    found = next((str(folder / name) for folder in folders if (folder / name).exists()), shutil.which(name))
    if found is None:
        raise Missing(f"`{name}` is not installed")
    return found


class Redis:
    """A Redis server without persistence on a free port."""

    def __init__(self) -> None:
        self._program = _program("redis-server")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        words = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([self._program, *words], stdout=subprocess.DEVNULL)
        _until(self._answers, "redis-server does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


class Postgres:
    """A PostgreSQL cluster on a Unix socket; durable, as it comes."""

    def __init__(self) -> None:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        initdb, self._program = _program("initdb", *folders), _program("postgres", *folders)
        # It refuses to run as root; its Debian package brings a user.
        self._who: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="acgs-pg-"))
        if self._who:
            shutil.chown(self._folder, "postgres", "postgres")
        self._data = self._folder / "data"
        make = [initdb, "-D", str(self._data), "-U", "acgs", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=self._folder, **self._who)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://acgs@/postgres?host={self._folder}"

    def start(self) -> None:
        words = ["-D", str(self._data), "-k", str(self._folder), "-c", "listen_addresses=", "-c", "max_connections=300"]
        self._process = subprocess.Popen(
            [self._program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder, **self._who
        )
        _until(self._answers, "postgres does not answer")

    def kill(self) -> None:
        """An immediate shutdown: what was not committed is gone, the next start recovers from the write-ahead log."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def pids(self) -> list[int]:
        """The server's processes."""
        if self._process is None:
            return []
        mine = self._process.pid
        parents = {int(f.parent.name): _parent(f) for f in Path("/proc").glob("[0-9]*/stat")}
        return [mine, *(pid for pid, parent in parents.items() if parent == mine)]

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        # The last line of the lock file says how far the start has come (src/include/utils/pidfile.h).
        with suppress(OSError):
            return (self._data / "postmaster.pid").read_text().split()[-1] == "ready"
        return False


def _parent(stat: Path) -> int | None:
    with suppress(OSError):
        return int(stat.read_text().rpartition(")")[2].split()[1])
    return None


class SlowLedger:
    """A relay (`relay.py`) between the system and its ledger node, which can hold back every answer."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, str(Path(__file__).with_name("relay.py")), str(port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.environment = {
            "ACGS_URLS": json.dumps({"ledger": f"http://127.0.0.1:{int(self._process.stdout.readline())}"})
        }

    def hold_back(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds:g}\n")
        self._process.stdin.flush()

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()


class SetClock:
    """The system's wall clock, set ahead and back (`clock.c`, preloaded into its processes); monotonic time goes on."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        build = [_program("cc"), "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        if (done := subprocess.run(build, capture_output=True, text=True, check=False)).returncode:
            raise Missing(f"`{source.name}` cannot be compiled: {done.stderr.strip()[:300]}")
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "ACGS_CLOCK_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Show the real time plus `seconds` from now on."""
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


class SlowDisk:
    """A limit on the writes of the system's processes to the device that holds `folder` (blkio controller of cgroup v1, needs root)."""

    def __init__(self, folder: Path) -> None:
        root = Path("/sys/fs/cgroup/blkio")
        device = folder.stat().st_dev
        if not (root / "blkio.throttle.write_iops_device").exists():
            raise Missing("the kernel offers no blkio throttle of cgroup v1 here")
        self._device = f"{os.major(device)}:{os.minor(device)}"
        self._root = root
        self._group = root / f"acgs-load-{os.getpid()}"
        try:
            self._group.mkdir()
            self._limit(SLOW_WRITES)
            self._limit(0)
        except OSError as error:
            self.remove()
            raise Missing(f"writes to {self._device} cannot be limited: {error}") from error

    def slow(self, pids: Iterable[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                (self._group / "cgroup.procs").write_text(str(pid))
        self._limit(SLOW_WRITES)

    def fast(self) -> None:
        self._limit(0)

    def remove(self) -> None:
        with suppress(OSError):
            for pid in (self._group / "cgroup.procs").read_text().split():
                with suppress(OSError):
                    (self._root / "cgroup.procs").write_text(pid)
            self._group.rmdir()

    def _limit(self, writes: int) -> None:
        (self._group / "blkio.throttle.write_iops_device").write_text(f"{self._device} {writes}")


class Surroundings:
    """What could be had; `missing` says what not, and why."""

    def __init__(self, folder: Path, database: str) -> None:
        self.missing: dict[str, str] = {}
        self.ledger: SlowLedger | None = None
        self.redis = self._have("redis gone", Redis)
        self.postgres: Postgres | None = None
        if database == "postgres":
            self.postgres = self._have("postgresql gone", Postgres)
        else:
            self.missing["postgresql gone"] = "the databases are SQLite files (`--database postgres`)"
        self.clock = self._have("clock jump", lambda: SetClock(folder))
        self.disk = self._have("disk slow", lambda: SlowDisk(folder))

    def environment(self, settings: PlatformSettings) -> dict[str, str]:
        """For the processes of the system that stands on these."""
        self.ledger = SlowLedger(settings.port("ledger"))
        redis = {} if self.redis is None else {"ACGS_REDIS_URL": self.redis.url}
        database = {} if self.postgres is None else {"ACGS_DATABASE_URL": self.postgres.url}
        clock = {} if self.clock is None else self.clock.environment
        return {**redis, **database, **clock, **self.ledger.environment}

    def _have(self, fault: str, make: Any) -> Any:
        try:
            return make()
        except Missing as reason:
            self.missing[fault] = str(reason)
            return None

    def remove(self) -> None:
        if self.ledger is not None:
            self.ledger.remove()
        if self.redis is not None:
            self.redis.kill()
        if self.postgres is not None:
            self.postgres.remove()
        if self.disk is not None:
            self.disk.remove()


@contextmanager
def surroundings(database: str) -> Generator[Surroundings]:
    """Everything that faults can be done to on this machine; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="acgs-around-") as folder:
        around = Surroundings(Path(folder), database)
        try:
            yield around
        finally:
            around.remove()


def _until(true: Any, otherwise: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise Missing(otherwise)
        time.sleep(0.05)
