"""Backups: complete, private, in an order that loses nothing, and never restored over something."""

import io
import sqlite3
import tarfile
from pathlib import Path

import pytest

from acgs1.kit.home import Home, write_private
from acgs1.runtime import backup as module
from acgs1.runtime.backup import BackupError, backup, restore


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    for service in ("auth", "integrity", "policy_governance"):
        with sqlite3.connect(made.database(service)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE t (x)")
            database.execute("INSERT INTO t VALUES (?)", (service,))
    write_private(made.keys("auth") / "a.pem", b"key")
    write_private(made.spool / "000000000001.log", b"line\n")
    write_private(made.admin_password, b"geheim\n")
    (made.logs / "auth.log").write_text("log")
    return made


def test_what_was_backed_up_is_restored_byte_for_byte_for_the_owner_alone(home: Home, tmp_path: Path):
    archive, fresh = tmp_path / "b.tar.gz", tmp_path / "fresh"
    count = backup(home, archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert restore(archive, fresh) == count == 6
    assert (fresh / "keys" / "auth" / "a.pem").read_bytes() == b"key"
    assert not (fresh / "logs" / "auth.log").exists()
    for path in fresh.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    with sqlite3.connect(fresh / "db" / "auth.sqlite3") as database:
        assert database.execute("SELECT x FROM t").fetchall() == [("auth",)]


def test_the_log_is_copied_after_everything_whose_events_it_takes(home: Home, tmp_path: Path):
    archive = tmp_path / "b.tar.gz"
    backup(home, archive)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    turn = {name: number for number, name in enumerate(names)}
    assert turn["spool/000000000001.log"] < turn["db/policy_governance.sqlite3"] < turn["db/integrity.sqlite3"]
    assert turn["keys/auth/a.pem"] < turn["db/auth.sqlite3"] < turn["db/integrity.sqlite3"]


def test_a_segment_of_the_spool_that_is_delivered_meanwhile_does_not_stop_the_backup(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = module._content

    def vanishing(path: Path) -> bytes:
        if path.parent.name == "spool":
            path.unlink()
        return content(path)

    monkeypatch.setattr(module, "_content", vanishing)
    archive = tmp_path / "b.tar.gz"
    assert backup(home, archive) == 5
    assert restore(archive, tmp_path / "fresh") == 5


def test_nothing_is_overwritten(home: Home, tmp_path: Path):
    archive = tmp_path / "b.tar.gz"
    backup(home, archive)
    before = archive.read_bytes()
    with pytest.raises(BackupError, match="already there"):
        backup(home, archive)
    assert archive.read_bytes() == before
    with pytest.raises(BackupError, match="not empty"):
        restore(archive, home.root)


def _archive(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_damaged_or_foreign_archive_writes_nothing(home: Home, tmp_path: Path):
    good = tmp_path / "b.tar.gz"
    backup(home, good)
    truncated = tmp_path / "truncated.tar.gz"
    truncated.write_bytes(good.read_bytes()[:-200])
    garbage = tmp_path / "garbage.tar.gz"
    garbage.write_bytes(b"nothing of the kind")
    manifest = b'{"sha256": {"keys/a": "0"}}'
    archives = [
        truncated,
        garbage,
        _archive(tmp_path / "1.tar.gz", ("keys/a", b"x")),
        _archive(tmp_path / "2.tar.gz", ("keys/a", b"x"), ("manifest.json", manifest)),
        _archive(tmp_path / "3.tar.gz", ("../escape", b"x"), ("manifest.json", manifest)),
        _archive(tmp_path / "4.tar.gz", ("/etc/escape", b"x"), ("manifest.json", manifest)),
        _archive(tmp_path / "5.tar.gz", ("keys/b", b"x"), ("manifest.json", manifest)),
    ]
    for archive in archives:
        with pytest.raises(BackupError):
            restore(archive, tmp_path / "fresh")
        assert not (tmp_path / "fresh").exists(), archive.name
    assert not (tmp_path.parent / "escape").exists()
