"""The data directory: one folder, 0700, that holds all local state."""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

from acgs1.contracts.topology import PARTS
from acgs1.core.hashing import text_hash

_FOLDERS = ("db", "keys", "secrets", "logs", "run", "cache", "spool")


class Home:
    """Paths under the data directory. Constructing it creates the folders with mode 0700."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (root, *(root / name for name in _FOLDERS)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)

    def database(self, service: str) -> Path:
        return self.root / "db" / f"{service}.sqlite3"

    def keys(self, owner: str) -> Path:
        """A folder for the private keys of `owner`."""
        folder = self.root / "keys" / owner
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def admin_password(self) -> Path:
        """Written once, when the first administrator is made."""
        return self.root / "admin-password"

    def service_secret(self, service: str) -> str:
        """The client secret of `service` towards auth: 256 random bits, made on first use."""
        path = self.root / "secrets" / service
        with suppress(FileExistsError):
            write_private(path, secrets.token_urlsafe(32).encode(), exclusive=True)
        return path.read_text()

    def service_secret_hashes(self) -> dict[str, str]:
        """SHA-256 of every part's client secret, which is all that auth keeps."""
        return {part.name: text_hash(self.service_secret(part.name)) for part in PARTS}


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write `data` with mode 0600, atomically and durably: readers see all of it or none, also after a power cut.

    With `exclusive`, raises FileExistsError when `path` is already there and leaves it as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            # link() is the one primitive that is both atomic and refuses an existing target.
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_private_json(path: Path, value: object) -> None:
    """`write_private` of indented JSON."""
    write_private(path, json.dumps(value, indent=2).encode())
