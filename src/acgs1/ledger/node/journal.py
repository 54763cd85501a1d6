"""The node's memory on disk: one SQLite database with the transactions in their order and a snapshot of the accounts.

Durability: write-ahead log with `synchronous=FULL`, so a transaction of SQLite is on the disk when its commit
returns; many records share one commit (group commit). A restart loads the snapshot and replays the records after it.

What a crash can leave behind is one unfinished commit at the end of the write-ahead log, which nobody was told
about; it is dropped and reported (`dropped_tail`). Anything else that does not add up - a second commit behind the damage,
a record whose digest does not follow from its predecessor's - means that answered transactions were lost or altered: `JournalError`.
"""

import fcntl
import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FORMAT: Final = 1
# A checkpoint syncs the log and the database while a transaction waits for it. A transaction dirties about nine pages, so
# this is one checkpoint in 900 of them and a log of 32 MiB, instead of SQLite's one in 110.
_CHECKPOINT_PAGES: Final = 8192
_SCHEMA: Final = """
CREATE TABLE properties (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE transactions (
    seq INTEGER PRIMARY KEY,
    signature BLOB NOT NULL UNIQUE,
    slot INTEGER NOT NULL,
    raw BLOB NOT NULL,
    meta TEXT NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX transactions_slot ON transactions (slot);
CREATE TABLE mentions (address BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (address, seq)) WITHOUT ROWID;
CREATE TABLE accounts (address BLOB PRIMARY KEY, account BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE programs (address BLOB NOT NULL, seq INTEGER NOT NULL, elf BLOB NOT NULL, PRIMARY KEY (address, seq));
"""


class JournalError(Exception):
    """The database cannot be used as it is; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Record:
    """One transaction that took effect. `meta` is its status as JSON text, `addresses` every account it names."""

    seq: int
    signature: bytes
    slot: int
    raw: bytes
    meta: str
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The accounts that changed since the last snapshot, as they are after record `seq`; None for one that is gone."""

    seq: int
    slot: int
    accounts: Sequence[tuple[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a node is born with. `seed` is its secret for blockhashes, `faucet` the faucet's Ed25519 seed."""

    created_ms: int
    seed: bytes
    faucet: bytes


class Journal:
    """The open database. `append` belongs to one writer thread, the queries to one reader thread."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at `path`.

        Raises JournalError where another node has it open, where it has another format, or where its log is damaged.
        """
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise JournalError(f"`{path}` is in use by another ledger node") from None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._write = _connect(path)
            self.dropped_tail = self._recover()
            self._read = _connect(path)
            self._read.execute("PRAGMA query_only = 1")
        except sqlite3.DatabaseError as error:
            os.close(self._lock)
            raise JournalError(f"`{path}` cannot be read: {error}") from error
        except JournalError:
            os.close(self._lock)
            raise
        self._digest = self._last_digest()

    def _recover(self) -> str | None:
        """Let SQLite recover its log, then account for every byte behind the last commit that it accepted."""
        wal = self.path.with_name(self.path.name + "-wal")
        had_log = wal.exists() and wal.stat().st_size > 0
        if self._write.execute("PRAGMA user_version").fetchone()[0] == 0:
            if self._write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise JournalError(f"`{self.path}` is a database, but not a ledger's")
            self._write.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
            return None
        version = self._write.execute("PRAGMA user_version").fetchone()[0]
        if version != _FORMAT:
            raise JournalError(f"`{self.path}` has format {version}, expected {_FORMAT}")
        if not had_log:
            return None
        _, frames, _ = self._write.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return _unfinished_commit(wal, frames)

    def close(self) -> None:
        self._read.close()
        self._write.close()
        os.close(self._lock)

    # -- genesis and snapshot ---------------------------------------------------------------------------------

    def genesis(self) -> Genesis | None:
        values = dict(self._write.execute("SELECT name, value FROM properties"))
        if "created_ms" not in values:
            return None
        return Genesis(values["created_ms"], values["seed"], values["faucet"])

    def create(self, genesis: Genesis) -> None:
        with self._write:
            self._write.execute("BEGIN IMMEDIATE")
            self._write.executemany(
                "INSERT INTO properties VALUES (?, ?)",
                [
                    ("created_ms", genesis.created_ms),
                    ("seed", genesis.seed),
                    ("faucet", genesis.faucet),
                    ("snapshot_seq", 0),
                    ("snapshot_slot", 0),
                ],
            )

    def programs(self) -> list[tuple[bytes, bytes]]:
        """The genesis programs in their newest version: (address, ELF)."""
        rows = self._write.execute("SELECT address, elf, max(seq) FROM programs GROUP BY address ORDER BY address")
        return [(address, elf) for address, elf, _ in rows]

    def put_program(self, address: bytes, seq: int, elf: bytes) -> None:
        """Record that from record `seq` on the program at `address` is `elf`."""
        with self._write:
            self._write.execute("BEGIN IMMEDIATE")
            self._write.execute("INSERT OR REPLACE INTO programs VALUES (?, ?, ?)", (address, seq, elf))

    def snapshot_position(self) -> tuple[int, int]:
        """(seq, slot) of the snapshot."""
        values = dict(self._write.execute("SELECT name, value FROM properties WHERE name LIKE 'snapshot_%'"))
        return values["snapshot_seq"], values["snapshot_slot"]

    def snapshot_accounts(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._write.execute("SELECT address, account FROM accounts")

    def records_after(self, seq: int) -> Iterator[Record]:
        """The records behind `seq` in order, their chain of digests checked. Raises JournalError where it breaks."""
        row = self._write.execute("SELECT digest FROM transactions WHERE seq = ?", (seq,)).fetchone()
        previous: bytes = row[0] if row else b""
        expected = seq + 1
        rows = self._write.execute(
            "SELECT seq, signature, slot, raw, meta, digest FROM transactions WHERE seq > ? ORDER BY seq", (seq,)
        )
        for number, signature, slot, raw, meta, digest in rows:
            record = Record(number, signature, slot, raw, meta)
            if number != expected or _digest(previous, record) != digest:
                raise JournalError(f"`{self.path}`: transaction {expected} is missing or altered")
            yield record
            previous = digest
            expected += 1

    # -- writing ----------------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], snapshot: Snapshot | None = None) -> None:
        """Write `records`, and after them `snapshot`, in one commit. They are on the disk when this returns."""
        digest = self._digest
        rows: list[tuple[int, bytes, int, bytes, str, bytes]] = []
        for record in records:
            digest = _digest(digest, record)
            rows.append((record.seq, record.signature, record.slot, record.raw, record.meta, digest))
        with self._write:
            self._write.execute("BEGIN IMMEDIATE")
            self._write.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._write.executemany(
                "INSERT INTO mentions VALUES (?, ?)", [(a, r.seq) for r in records for a in dict.fromkeys(r.addresses)]
            )
            if snapshot is not None:
                self._put_snapshot(snapshot)
        self._digest = digest

    def _put_snapshot(self, snapshot: Snapshot) -> None:
        self._write.executemany(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?)", [(k, a) for k, a in snapshot.accounts if a is not None]
        )
        self._write.executemany(
            "DELETE FROM accounts WHERE address = ?", [(k,) for k, a in snapshot.accounts if a is None]
        )
        self._write.executemany(
            "UPDATE properties SET value = ? WHERE name = ?",
            [(snapshot.seq, "snapshot_seq"), (snapshot.slot, "snapshot_slot")],
        )

    def _last_digest(self) -> bytes:
        row = self._write.execute("SELECT digest FROM transactions ORDER BY seq DESC LIMIT 1").fetchone()
        return row[0] if row else b""

    # -- queries ----------------------------------------------------------------------------------------------

    def last(self) -> tuple[int, int]:
        """(seq, slot) of the newest record, (0, 0) without one."""
        row = self._read.execute("SELECT seq, slot FROM transactions ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def record(self, signature: bytes) -> Record | None:
        row = self._read.execute(
            "SELECT seq, signature, slot, raw, meta FROM transactions WHERE signature = ?", (signature,)
        ).fetchone()
        return Record(*row) if row else None

    def records_in_slot(self, slot: int) -> list[Record]:
        rows = self._read.execute(
            "SELECT seq, signature, slot, raw, meta FROM transactions WHERE slot = ? ORDER BY seq", (slot,)
        )
        return [Record(*row) for row in rows]

    def since_slot(self, slot: int) -> list[tuple[bytes, int, str]]:
        """(signature, slot, meta) of the transactions at `slot` or later, oldest first."""
        return self._read.execute(
            "SELECT signature, slot, meta FROM transactions WHERE slot >= ? ORDER BY seq", (slot,)
        ).fetchall()

    def mentions(
        self, address: bytes, before: bytes | None, until: bytes | None, limit: int
    ) -> list[tuple[bytes, int, str]]:
        """(signature, slot, meta) of the transactions that name `address`, newest first.

        `before` and `until` are signatures, both exclusive; one that is unknown selects nothing, respectively
        bounds nothing, as on a Solana node.
        """
        upper = self._seq(before)
        if before is not None and upper is None:
            return []
        lower = self._seq(until)
        return self._read.execute(
            "SELECT t.signature, t.slot, t.meta FROM mentions m JOIN transactions t ON t.seq = m.seq"
            " WHERE m.address = ? AND m.seq < ? AND m.seq > ? ORDER BY m.seq DESC LIMIT ?",
            (address, upper if upper is not None else 2**62, lower or 0, limit),
        ).fetchall()

    def _seq(self, signature: bytes | None) -> int | None:
        if signature is None:
            return None
        row = self._read.execute("SELECT seq FROM transactions WHERE signature = ?", (signature,)).fetchone()
        return row[0] if row else None

    def slots_between(self, first: int, last: int, limit: int) -> list[int]:
        """The slots in [first, last] that hold transactions."""
        rows: Iterable[tuple[int]] = self._read.execute(
            "SELECT DISTINCT slot FROM transactions WHERE slot BETWEEN ? AND ? ORDER BY slot LIMIT ?",
            (first, last, limit),
        )
        return [slot for (slot,) in rows]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection


def _digest(previous: bytes, record: Record) -> bytes:
    head = struct.pack("<QQ64sI", record.seq, record.slot, record.signature, len(record.raw))
    return hashlib.sha256(previous + head + record.raw + record.meta.encode()).digest()


def _unfinished_commit(wal: Path, frames: int) -> str | None:
    """What lies in the write-ahead log behind its first `frames` frames, which are the ones SQLite accepted.

    None where that is nothing, or leftovers of an earlier generation of the log (they carry other salts). Raises
    JournalError where it is more than one unfinished commit. Format: https://www.sqlite.org/fileformat2.html#walformat
    """
    with wal.open("rb") as file:
        header = file.read(32)
        if len(header) < 32:
            return f"{len(header)} bytes of a log header"
        page_size = int.from_bytes(header[8:12], "big")
        salts = header[16:24]
        file.seek(32 + frames * (24 + page_size))
        tail = 0
        commits: list[int] = []
        while frame := file.read(24 + page_size):
            if len(frame) >= 16 and frame[8:16] != salts:
                break
            tail += len(frame)
            if len(frame) >= 8 and frame[4:8] != b"\0\0\0\0":
                commits.append(tail)
    if not tail:
        return None
    if len(commits) > 1 or (commits and commits[0] != tail):
        raise JournalError(
            f"`{wal}` is damaged in frame {frames + 1}, with later commits behind it: answered transactions would be lost"
        )
    return f"{tail} bytes of an unfinished commit"
