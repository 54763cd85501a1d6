"""The system under load: a running one, or one of its own on a fresh data directory."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.electorate import NotEnlarged, enlarge

from acgs1.contracts.topology import PARTS
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.ports import holder
from acgs1.runtime.supervisor import is_healthy, supervised

_START_SECONDS = 90.0
# Below the ports that Linux gives to outgoing connections, above the defaults.
_OFFSETS = range(11_000, 23_000, 100)


class NotReady(Exception):
    """There is no system to measure; the message says why."""


def settings_for(home: Path, offset: int) -> PlatformSettings:
    """The settings of the system on `home`; it runs on this machine (loopback), whatever the environment says."""
    return PlatformSettings(home=home, port_offset=offset, host="127.0.0.1", urls={})


def expect_running(settings: PlatformSettings) -> None:
    """Raises NotReady unless every part answers."""
    missing = [part.name for part in PARTS if not is_healthy(settings.host, settings.port(part.name))]
    if missing:
        raise NotReady(
            f"{', '.join(missing)} of the system on `{settings.home}` do not answer; `acgs1 status` says more"
        )


@contextmanager
def own_system(
    environment: Callable[[PlatformSettings], Mapping[str, str]] | None = None,
) -> Generator[PlatformSettings]:
    """A system on a fresh data directory and free ports, with the airline example governed and members to vote; stopped and removed at the
    end.

    Its processes get what `environment` says beside this process's own.
    """
    offset = next((o for o in _OFFSETS if all(holder(part.port + o) is None for part in PARTS)), None)
    if offset is None:
        raise NotReady("no free block of ports between 14000 and 32000")
    with tempfile.TemporaryDirectory(prefix="acgs1-load-") as home:
        settings = settings_for(Path(home), offset)
        log = (Path(home) / "up.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "acgs1", "up", "--quiet"],
            env=_environment(settings) | dict(environment(settings) if environment else {}),
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not all(is_healthy(settings.host, settings.port(part.name)) for part in PARTS):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotReady(f"the system did not start: {(Path(home) / 'up.log').read_text()[-1500:]}")
                time.sleep(0.1)
            govern_the_example(settings)
            try:
                asyncio.run(enlarge(settings))
            except NotEnlarged as reason:
                raise NotReady(str(reason)) from reason
            yield settings
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.close()


def govern_the_example(settings: PlatformSettings) -> None:
    """Run the main job on the running system, so that there is something to decide by. Raises NotReady when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "acgs1", "demo"], env=_environment(settings), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotReady(f"`acgs1 demo` failed: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def _environment(settings: PlatformSettings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "ACGS_URLS"}
    return {**kept, "ACGS_HOME": str(settings.home), "ACGS_PORT_OFFSET": str(settings.port_offset)}


def processor_seconds(settings: PlatformSettings) -> dict[str, float]:
    """Processor time so far of every part's processes and their children that ended, by part; empty where that cannot be read."""
    state = supervised(settings.home)
    ticks = os.sysconf("SC_CLK_TCK")
    used: dict[str, float] = {}
    for name, part in (state or {}).get("parts", {}).items():
        for pid in part["workers"].values():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            used[name] = used.get(name, 0.0) + sum(int(field) for field in fields[11:15]) / ticks
    return used
