"""Backups of the data directory: consistent copies of every database, the keys and secrets, in one private archive."""

import io
import json
import os
import sqlite3
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from acgs1 import __version__
from acgs1.core.clock import format_instant
from acgs1.core.hashing import sha256_hex
from acgs1.kit.home import Home

_MANIFEST = "manifest.json"
# A log that looks set back would be refused: the memory of the newest checkpoint and the ledger are copied before the log.
_FIRST = ("keys", "ledger", "secrets", "spool", "admin-password")
# Everything flows into the log and leaves its outbox only then: the log is copied last, so that each event is in one of the two.
_LAST = Path("db") / "integrity.sqlite3"
_SKIPPED = frozenset({"run", "cache", "logs"})


class BackupError(Exception):
    """The backup cannot be made or restored; the message says why and what would be right."""


def backup(home: Home, archive: Path) -> int:
    """Write `archive` (0600) and return how many files it holds. The system may be running: databases are copied with SQLite's own
    backup, each consistent in itself. Raises BackupError when `archive` is already there."""
    if archive.exists():
        raise BackupError(f"`{archive}` is already there; choose another name")
    descriptor, name = tempfile.mkstemp(prefix=".acgs-backup-", dir=archive.parent)
    temporary = Path(name)
    manifest: dict[str, str] = {}
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for path in _files(home.root):
                inside = str(path.relative_to(home.root))
                try:
                    data = _content(path)
                except FileNotFoundError:
                    continue  # a segment of the spool that was delivered meanwhile: the database that follows holds it
                manifest[inside] = sha256_hex(data)
                _add(tar, inside, data)
            document = {"version": __version__, "made_at": format_instant(datetime.now(UTC)), "sha256": manifest}
            _add(tar, _MANIFEST, json.dumps(document, indent=1).encode())
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return len(manifest)


def restore(archive: Path, root: Path) -> int:
    """Unpack `archive` into the empty or absent folder `root`; every file is checked against the manifest before anything is written.

    Raises BackupError for a folder that holds something, a damaged archive, or one from a newer version.
    """
    if root.exists() and any(root.iterdir()):
        raise BackupError(f"`{root}` is not empty; move it away first, nothing was changed")
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isfile() or member.name.startswith("/") or ".." in Path(member.name).parts:
                    raise BackupError(f"`{archive}` holds `{member.name}`, which is no file of a backup")
                extracted = tar.extractfile(member)
                contents[member.name] = extracted.read() if extracted else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupError(f"`{archive}` cannot be read: {error}") from None
    try:
        manifest: dict[str, str] = json.loads(contents.pop(_MANIFEST))["sha256"]
    except (KeyError, ValueError):
        raise BackupError(f"`{archive}` has no manifest; it is not a backup of ACGS") from None
    if manifest.keys() != contents.keys():
        raise BackupError(f"`{archive}` does not hold the files of its manifest")
    for name, data in contents.items():
        if sha256_hex(data) != manifest[name]:
            raise BackupError(f"`{name}` in `{archive}` is damaged")
    home = Home(root)
    for name, data in contents.items():
        target = home.root / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.write_bytes(data)
        target.chmod(0o600)
    return len(contents)


def _files(root: Path) -> list[Path]:
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.relative_to(root).parts[0] not in _SKIPPED
        and not path.name.endswith(("-wal", "-shm", "-journal"))
    ]

    def turn(path: Path) -> int:
        inside = path.relative_to(root)
        if inside == _LAST:
            return len(_FIRST) + 1
        return _FIRST.index(inside.parts[0]) if inside.parts[0] in _FIRST else len(_FIRST)

    return sorted(found, key=turn)


def _content(path: Path) -> bytes:
    if path.suffix != ".sqlite3":
        return path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.sqlite3"
        source, target = sqlite3.connect(path, timeout=30), sqlite3.connect(copy)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        return copy.read_bytes()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))
