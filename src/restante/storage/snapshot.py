"""A consistent copy of the database file, made by the writer itself between its groups, in short steps.

SQLite's online backup begins again whenever *another* connection commits; what the connection that copies writes itself
goes into the copy too. So the writer copies: no read transaction stands open, and the WAL does not grow.
"""

import os
import secrets
import time
from pathlib import Path

import apsw

from restante.errors import Unavailable

STEP_PAGES = 512  # 4 MiB: a few milliseconds of the writer's time
MAX_RESTARTS = 100  # a large transaction rolled back makes SQLite begin again
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


class Copy:
    """One copy under way, of the file that ``source`` writes."""

    def __init__(self, source: apsw.Connection, target: Path) -> None:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self.target = target
        self._restarts, self._left = 0, -1
        self._conn = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            for pragma in ("synchronous=OFF", "journal_mode=OFF"):  # a crash leaves rubbish, which is removed
                self._conn.execute(f"PRAGMA {pragma}").fetchall()
            self._pages = self._conn.backup("main", source, "main")
        except BaseException:
            self._conn.close(True)
            raise

    def step(self, pages: int) -> tuple[int, int]:
        """Copy some pages; returns (done, in all), equal when the copy is whole and closed.

        Raises ``apsw.Error``, OSError, Unavailable(code="snapshot_failed") when it began anew too often.
        """
        self._pages.step(pages)
        left, total = self._pages.remaining, self._pages.page_count
        self._restarts += 0 <= self._left <= left
        self._left = left
        if self._restarts > MAX_RESTARTS:
            raise Unavailable("the database changes too much to be copied", code="snapshot_failed")
        if self._pages.done:
            self._pages.close(True)
            self._conn.execute("PRAGMA journal_mode=DELETE").fetchall()  # a plain file; a server makes it WAL again
            self._conn.close(True)
            return total, total
        return min(total - left, total - 1), total

    def abandon(self) -> None:
        """Give up and remove what was copied."""
        self._pages.close(True)
        self._conn.close(True)
        remove(self.target)


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
