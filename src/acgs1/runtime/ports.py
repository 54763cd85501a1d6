"""Who listens where on this machine, read from /proc (Linux)."""

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


def _listening_inodes(port: int) -> set[str]:
    """`socket:[inode]` of every listening socket on `port` (proc(5), /proc/net/tcp)."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes
