# ruff: noqa: ASYNC240 - a test may look at its files
"""Backup and restore: whole, consistent beside a working writer; nothing of a damaged or hostile backup is taken."""

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import apsw
import pytest

from restante.core.mailboxes import Mailbox
from restante.errors import Conflict, Invalid, NotFound, Unavailable
from restante.runtime import Runtime
from restante.services import backup, provisioning, storing
from restante.storage import snapshot


def _quiet(done: int, total: int | None, note: str) -> None:
    pass


@pytest.fixture
async def mailbox(rt: Runtime) -> Mailbox:
    made = await provisioning.add_mailbox(rt, "alice@example.test")
    await storing.store(rt, made.account_id, made.id, "INBOX", b"Subject: small\r\n\r\nx\r\n")
    await storing.store(rt, made.account_id, made.id, "INBOX", b"Subject: large\r\n\r\n" + os.urandom(400_000))
    return made


async def _write(rt: Runtime, target: Path, *, with_secret: bool = False) -> dict[str, Any]:
    sink = backup.open_sink(target)
    blobs = backup.BlobCopy(rt.config.data_dir, sink)
    blobs.run(_quiet)
    made: dict[str, Any] = {}
    async for item in backup.begin(rt):
        made = item
    digest = sink.add(backup.DATABASE, Path(made["path"]))
    blobs.run(_quiet)
    if with_secret:
        sink.add("secret.key", rt.config.data_dir / "secret.key")
    manifest = backup.manifest(digest, made["size_bytes"], blobs, with_secret, "2026-01-01T00:00:00Z")
    sink.add_bytes(backup.MANIFEST, backup.encode_manifest(manifest))
    sink.finish()
    backup.end(rt, made["name"])
    return manifest


def _rows(data_dir: Path, query: str) -> list[Any]:
    conn = apsw.Connection(str(data_dir / "restante.db"))
    try:
        return conn.execute(query).fetchall()
    finally:
        conn.close()


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.zst"])
async def test_everything_comes_back(rt: Runtime, mailbox: Mailbox, tmp_path: Path, name: str) -> None:
    written = await _write(rt, tmp_path / name)
    assert written["blobs"] == 1
    assert backup.restore(tmp_path / name, tmp_path / "new", _quiet) == written
    assert _rows(tmp_path / "new", "SELECT count(*) FROM messages") == [(2,)]
    old = {path.name: path.read_bytes() for path in (rt.config.data_dir / "blobs").rglob("*") if path.is_file()}
    new = {path.name: path.read_bytes() for path in (tmp_path / "new" / "blobs").rglob("*") if path.is_file()}
    assert old == new
    assert not (tmp_path / "new" / "secret.key").exists()
    assert list((rt.config.data_dir / "snapshots").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_the_secret_comes_only_when_asked_for(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    await _write(rt, tmp_path / "copy.tar", with_secret=True)
    backup.restore(tmp_path / "copy.tar", tmp_path / "new", _quiet)
    assert (tmp_path / "new" / "secret.key").read_bytes() == (rt.config.data_dir / "secret.key").read_bytes()
    assert (tmp_path / "copy.tar").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new" / "secret.key").stat().st_mode & 0o077 == 0


async def test_the_copy_is_of_one_moment(rt: Runtime, mailbox: Mailbox) -> None:
    stop = asyncio.Event()

    async def keep_writing() -> None:
        while not stop.is_set():
            await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", b"Subject: x\r\n\r\n" + os.urandom(20_000))
            await asyncio.sleep(0)

    writing = asyncio.create_task(keep_writing())
    await asyncio.sleep(0.3)
    async for item in backup.begin(rt):
        made = item
    stop.set()
    await writing
    copy = Path(made["path"])
    assert snapshot.problems(copy) == []
    conn = apsw.Connection(str(copy))
    rows: list[Any] = conn.execute("SELECT count(*), max(uid) FROM messages WHERE folder_id = 1").fetchall()
    counters = conn.execute("SELECT messages, uid_next - 1 FROM folders WHERE id = 1").fetchall()
    conn.close()
    assert rows == counters
    assert rows[0][0] >= 2
    backup.end(rt, made["name"])
    assert not copy.exists()


async def test_nothing_is_overwritten(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    for name in ("a.tar", "b"):
        (tmp_path / name).mkdir() if name == "b" else (tmp_path / name).touch()
        with pytest.raises(Conflict):
            backup.open_sink(tmp_path / name)
    await _write(rt, tmp_path / "copy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(Conflict):
        backup.restore(tmp_path / "copy", tmp_path / "full", _quiet)
    (tmp_path / "empty").mkdir()
    backup.restore(tmp_path / "copy", tmp_path / "empty", _quiet)


async def test_damage_is_found_and_nothing_appears(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    await _write(rt, tmp_path / "copy")
    (blob,) = [path for path in (tmp_path / "copy" / "blobs").rglob("*") if path.is_file()]
    good = blob.read_bytes()
    blob.write_bytes(good[:-1])
    with pytest.raises(Invalid, match="is damaged"):
        backup.restore(tmp_path / "copy", tmp_path / "new", _quiet)
    blob.unlink()
    with pytest.raises(Invalid, match="0 blobs of 1"):
        backup.restore(tmp_path / "copy", tmp_path / "new", _quiet)
    blob.write_bytes(good)
    database = tmp_path / "copy" / "restante.db"
    data = bytearray(database.read_bytes())
    data[5000] ^= 1
    database.write_bytes(data)
    with pytest.raises(Invalid, match="missing or damaged"):
        backup.restore(tmp_path / "copy", tmp_path / "new", _quiet)
    (tmp_path / "copy" / "manifest.json").unlink()
    with pytest.raises(Invalid, match="no complete backup"):
        backup.restore(tmp_path / "copy", tmp_path / "new", _quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "data"}


async def test_a_truncated_file(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    await _write(rt, tmp_path / "copy.tar.zst")
    data = (tmp_path / "copy.tar.zst").read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        (tmp_path / "cut.tar.zst").write_bytes(data[:cut])
        with pytest.raises(Invalid):
            backup.restore(tmp_path / "cut.tar.zst", tmp_path / "new", _quiet)
    assert not (tmp_path / "new").exists()


def _tar(path: Path, *entries: tarfile.TarInfo, manifest: bytes | None = None) -> None:
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            entry.size = 3 if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(b"abc"))
        if manifest is not None:
            last = tarfile.TarInfo("manifest.json")
            last.size = len(manifest)
            tar.addfile(last, io.BytesIO(manifest))


def _link() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("restante.db")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        tarfile.TarInfo("../outside"),
        tarfile.TarInfo("/tmp/outside"),
        tarfile.TarInfo("blobs/1/aa/../../../../x"),
        tarfile.TarInfo("blobs/1/ab/" + "a" * 64),
        tarfile.TarInfo("control.sock"),
        _link(),
    ],
)
def test_a_hostile_archive_writes_nothing(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    _tar(tmp_path / "evil.tar", entry)
    with pytest.raises(Invalid):
        backup.restore(tmp_path / "evil.tar", tmp_path / "new", _quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"evil.tar"}


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"format": 99, "restante": "9"}', b"\xff", b'{"format": "x"}']
)
def test_a_manifest_that_cannot_be_read(tmp_path: Path, manifest: bytes) -> None:
    _tar(tmp_path / "a.tar", manifest=manifest)
    with pytest.raises(Invalid):
        backup.restore(tmp_path / "a.tar", tmp_path / "new", _quiet)


def test_a_database_that_is_none(tmp_path: Path) -> None:
    import hashlib

    about = {"sha256": hashlib.sha256(b"abc").hexdigest()}
    manifest = json.dumps({"format": 1, "restante": "0", "blobs": 0, "database": about}).encode()
    _tar(tmp_path / "a.tar", tarfile.TarInfo("restante.db"), manifest=manifest)
    with pytest.raises(Invalid, match="database of the backup is damaged"):
        backup.restore(tmp_path / "a.tar", tmp_path / "new", _quiet)


def test_no_backup_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        backup.restore(tmp_path / "none.tar", tmp_path / "new", _quiet)


async def test_only_copies_can_be_removed(rt: Runtime) -> None:
    for name in ("../restante.db", "restante.db", "", "a" * 16, "x/" + "a" * 16 + ".db"):
        with pytest.raises(Invalid):
            backup.end(rt, name)


async def test_a_copy_that_fails_is_removed_and_writing_goes_on(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="could not be copied"):
        await rt.db.snapshot(tmp_path / "nowhere" / "copy.db", 10)
    (tmp_path / "there.db").touch()
    with pytest.raises(Unavailable):
        await rt.db.snapshot(tmp_path / "there.db", 10)
    await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", b"Subject: on\r\n\r\n")


async def test_a_copy_given_up_makes_room_for_the_next(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    done, total = await rt.db.snapshot(tmp_path / "first.db", 1)
    assert done < total
    async for item in backup.begin(rt):
        made = item
    assert not (tmp_path / "first.db").exists()
    assert snapshot.problems(Path(made["path"])) == []


@pytest.mark.sqlite  # whose copy is of its end; PostgreSQL's is of its beginning
async def test_many_steps_among_many_commits(rt: Runtime, mailbox: Mailbox, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    steps, done, total = 0, 0, -1
    while done != total:
        done, total = await rt.db.snapshot(target, 3)
        steps += 1
        if steps < 40:
            raw = b"Subject: x\r\n\r\n" + os.urandom(9_000)
            await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", raw)
    assert steps > 10
    assert snapshot.problems(target) == []
    conn = apsw.Connection(str(target))
    count: list[Any] = conn.execute("SELECT count(*) FROM messages").fetchall()
    counted: list[Any] = conn.execute("SELECT messages FROM mailboxes").fetchall()
    conn.close()
    assert count == counted
    assert count[0][0] == min(steps - 1, 39) + 2
