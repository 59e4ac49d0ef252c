"""A consistent copy of the database file beside a working writer, through SQLite's online backup.

It copies in short steps. A commit in between makes SQLite begin again, so after ``RESTARTS`` of them the rest is copied
in one step: that reads for as long as the disk takes, and the WAL grows meanwhile by what is written.
"""

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from restante.errors import Unavailable

STEP_PAGES = 512  # 4 MiB: a few milliseconds
RESTARTS = 3
BUSY_SECONDS = 30.0
DIRECTORY = "snapshots"
STALE_SECONDS = 24 * 3600.0


def directory(data_dir: Path) -> Path:
    """Where copies are made: in the data directory itself, so that only its owner's rights are needed."""
    found = data_dir / DIRECTORY
    found.mkdir(mode=0o700, exist_ok=True)
    return found


def new_path(data_dir: Path) -> Path:
    """A name for the next copy; forgotten copies of days gone by are removed."""
    folder = directory(data_dir)
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            old.unlink(missing_ok=True)
    return folder / f"{secrets.token_hex(8)}.db"


def copy(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the database file; durable when it returns. ``progress`` is told (pages done, pages in all).

    Raises Unavailable(code="snapshot_failed"); then ``target`` is gone.
    """
    try:
        _copy(source, target, progress)
    except (apsw.Error, OSError) as error:
        remove(target)
        raise Unavailable(f"the database could not be copied: {error}", code="snapshot_failed") from error


def _copy(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    reader = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    writer = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        reader.execute("PRAGMA query_only=ON").fetchall()
        reader.set_busy_timeout(int(BUSY_SECONDS * 1000))
        with writer.backup("main", reader, "main") as pages:
            restarts, left = 0, -1
            while not pages.done:
                pages.step(STEP_PAGES if restarts < RESTARTS else -1)
                restarts += left >= 0 and pages.remaining >= left
                left = pages.remaining
                progress(pages.page_count - pages.remaining, pages.page_count)
        writer.execute("PRAGMA journal_mode=DELETE").fetchall()  # one plain file; a server turns its WAL on again
    finally:
        writer.close(True)
        reader.close(True)
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(target: Path) -> None:
    """Remove a copy with whatever stands beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def problems(path: Path) -> list[str]:
    """What SQLite finds wrong with a copied file (at most ten lines); empty when it is sound."""
    try:
        conn = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            found = [str(row[0]) for row in conn.execute("PRAGMA quick_check(10)")]
        finally:
            conn.close(True)
    except apsw.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found
