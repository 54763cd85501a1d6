"""Which TCP ports of this machine are taken, and by whom, read from /proc (Linux)."""

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def holder(port: int) -> str | None:
    """Who listens on TCP `port`: `pid 123 (nginx)`, `another user's process` when it cannot be told, or None when nobody does."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return f"pid {process.name} ({(process / 'comm').read_text().strip()})"
    return "another user's process"


def taken(host: str, port: int) -> str | None:
    """Who keeps TCP `port` from being bound on `host`, None when nobody does.

    Raises OSError when it cannot be bound for another reason, such as a `host` that is not an address of this machine.
    """
    if (who := holder(port)) is not None:
        return who
    with socket.socket(family(host)) as probe:
        try:
            # Without SO_REUSEADDR, with which two may bind a port as long as neither listens on it.
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Connections that are about to be forgotten are no obstacle to whoever binds with SO_REUSEADDR. A socket that is bound and
            # does not listen stands in no table.
            if not list(_sockets(port)):
                return "a process that does not listen on it"
    return None


def family(host: str) -> socket.AddressFamily:
    """The family of the sockets that can be bound to `host`."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listening_inodes(port: int) -> set[str]:
    """`socket:[inode]` of every listening socket on `port`."""
    return {f"socket:[{inode}]" for state, inode in _sockets(port) if state == _LISTEN}


def _sockets(port: int) -> Iterator[tuple[str, str]]:
    """State and inode of every socket that is at `port` here (proc(5), /proc/net/tcp)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[3], fields[9]
