"""SQLite: how its file is opened, read and written in groups.

One writer per file. It takes whatever is queued, runs each function in a savepoint of its own inside one BEGIN
IMMEDIATE ... COMMIT with ``synchronous=FULL``, and only then answers. Readers have connections of their own, one per
thread. ``index.db`` (the search index, written by its own process) is attached to readers as ``search``.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from restante.errors import RestanteError, Unavailable
from restante.schema.connections import WriteConn, find_together, is_scanning, is_single
from restante.storage import driver, snapshot, upgrades
from restante.storage.database import Call, FatalStorageError, Outcome, Timed

registry.register("sqlite.apsw", "restante.storage.driver", "Dialect")

MAIN = "restante.db"
INDEX = "index.db"
PAGE_BYTES = 4096
WAL_PAGES = 16_000  # 64 MiB: the writer itself checkpoints when another process has not
BUSY_MILLISECONDS = 10_000
WRITER_CACHE_KIB = 32_768
READER_CACHE_KIB = 32_768
READ_SECONDS = 2.0  # no read transaction lasts longer: an open reader keeps the WAL from being reused
DAMAGED = "the database is damaged: run `restante verify`, restore a backup"
SCAN_THREADS = 2
PROGRESS_STEPS = 20_000  # virtual machine steps between two looks at the clock

_log = logging.getLogger(__name__)


def main_path(data_dir: Path) -> Path:
    """The database file of a data directory."""
    return data_dir / MAIN


def _connect(path: Path, flags: int, pragmas: Sequence[str]) -> driver.Connection:
    connection = driver.connect(str(path), flags)
    connection.raw.set_busy_timeout(BUSY_MILLISECONDS)
    for pragma in pragmas:
        connection.raw.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _sqlalchemy(connection: driver.Connection) -> Connection:
    engine = create_engine("sqlite+apsw://", creator=lambda: connection, poolclass=NullPool)
    return engine.connect()


def open_writer(path: Path) -> Connection:
    """The writing connection; creates the file with the settings that only creation can give."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
    pragmas = (
        f"page_size={PAGE_BYTES}",
        "auto_vacuum=INCREMENTAL",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{WRITER_CACHE_KIB}",
        f"wal_autocheckpoint={WAL_PAGES}",
        f"journal_size_limit={WAL_PAGES * PAGE_BYTES}",
        "temp_store=MEMORY",
    )
    return _sqlalchemy(_connect(path, flags, pragmas))


def open_reader(data_dir: Path) -> Connection:
    """A reading connection, with the search index attached as ``search`` when it is there."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
    connection = _connect(main_path(data_dir), flags, (f"cache_size=-{READER_CACHE_KIB}", "temp_store=MEMORY"))
    index = data_dir / INDEX
    if index.exists():
        connection.raw.execute("ATTACH ? AS search", (str(index),))
        connection.raw.execute(f"PRAGMA search.cache_size=-{READER_CACHE_KIB}").fetchall()
    connection.raw.execute("PRAGMA query_only=ON").fetchall()
    return _sqlalchemy(connection)


def raw(conn: Connection) -> apsw.Connection:
    """apsw's connection under a SQLAlchemy one."""
    found = conn.connection.driver_connection
    assert isinstance(found, driver.Connection)
    return found.raw


class Reader:
    """One reading connection of one thread."""

    def __init__(self, data_dir: Path) -> None:
        try:
            self._conn = open_reader(data_dir)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise Unavailable(DAMAGED, code="storage_damaged") from error
        self._raw = raw(self._conn)
        self._deadline = 0.0
        self._raw.set_progress_handler(self._overdue, PROGRESS_STEPS)

    def _overdue(self) -> bool:
        return time.monotonic() > self._deadline

    def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``fn`` in one read transaction, where it needs one (see ``single``).

        Raises Unavailable: ``too_slow`` after ``READ_SECONDS``, ``storage_damaged`` when the file cannot be read.
        """
        self._deadline = time.monotonic() + READ_SECONDS
        if not is_single(fn):
            self._raw.execute("BEGIN")
        try:
            with Timed("read", fn):
                return fn(self._conn, *args, **kwargs)
        except (DBAPIError, driver.Error) as error:
            if "InterruptError" in str(error):
                raise Unavailable("the query took too long; narrow it", code="too_slow") from error
            if isinstance(_apsw_cause(error), apsw.CorruptError | apsw.NotADBError | apsw.IOError):
                _log.error("read failed: %s: %s", type(error).__name__, error)
                raise Unavailable(DAMAGED, code="storage_damaged") from error
            raise
        finally:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")

    def close(self) -> None:
        """Let the file go."""
        self._conn.close()


class Readers:
    """Reading connections: one for the event loop, one for each scanning thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._loop_reader: Reader | None = None
        self._threads: dict[int, Reader] = {}
        self._pool = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan")

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``fn``; in a thread if it is marked ``scanning``."""
        if is_scanning(fn):
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._scan, fn, args, kwargs)
        if self._loop_reader is None:
            self._loop_reader = Reader(self._data_dir)
        return self._loop_reader.run(fn, args, kwargs)

    def _scan(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        me = threading.get_ident()
        reader = self._threads.get(me)
        if reader is None:
            reader = self._threads[me] = Reader(self._data_dir)
        return reader.run(fn, args, kwargs)

    def close(self) -> None:
        """Let the file go."""
        self._pool.shutdown(wait=True)
        for reader in self._threads.values():
            reader.close()
        if self._loop_reader is not None:
            self._loop_reader.close()


_FATAL_CODES = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


class GroupCommit:
    """The writing half of one SQLite file: runs groups of functions, one durable commit each."""

    def __init__(self, path: Path) -> None:
        self._conn = open_writer(path)
        self._raw = raw(self._conn)
        self._copy: snapshot.Copy | None = None
        with self._transaction():
            self.version_before = upgrades.apply(self._conn)
            _teach_planner(self._raw)

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._raw.execute("COMMIT")
        finally:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Run ``calls`` in one transaction and commit; a failing one is rolled back alone.

        When the commit fails nothing is stored and every outcome is Unavailable. Raises FatalStorageError when the file
        can no longer be trusted.
        """
        try:
            outcomes = self._together(calls)
            if outcomes is None:
                with self._transaction():
                    outcomes = [self._one(call) for call in calls]
        except (apsw.Error, _Lost) as error:
            cause = error.__cause__ if isinstance(error, _Lost) else error
            _raise_if_fatal(cause)
            _log.error("commit failed: %s: %s", type(cause).__name__, cause)
            return [Outcome(error=unavailable(cause)) for _ in calls]
        return outcomes

    def _together(self, calls: Sequence[Call]) -> list[Outcome] | None:
        """Run ``calls`` in one transaction without savepoints, which cost a tenth of a delivery; some of them as one.

        None, and nothing done, when one of them failed: they are run again, each on its own.
        """
        is_committing = False
        try:
            with self._transaction():
                outcomes = [outcome for some in _runs(calls) for outcome in self._run_some(some)]
                is_committing = True
        except Exception:
            self._conn.info.pop("touched", None)
            if is_committing:
                raise
            return None
        return outcomes

    def _run_some(self, calls: Sequence[Call]) -> list[Outcome]:
        many = find_together(calls[0].fn)
        if many is None or len(calls) == 1:
            return [self._run(call) for call in calls]
        with Timed("write", calls[0].fn):
            values = many(WriteConn(self._conn), [call.args for call in calls])
        touched = tuple(self._conn.info.pop("touched", ()))
        return [Outcome(value, touched=touched) for value in values]

    def _run(self, call: Call) -> Outcome:
        with Timed("write", call.fn):
            value = call.fn(WriteConn(self._conn), *call.args, **call.kwargs)
        return Outcome(value=value, touched=tuple(self._conn.info.pop("touched", ())))

    def _one(self, call: Call) -> Outcome:
        conn, execute = self._conn, self._raw.execute
        execute("SAVEPOINT fn")
        try:
            outcome = self._run(call)
        except Exception as error:
            conn.info.pop("touched", None)
            if not self._raw.in_transaction:  # SQLite gave up the whole transaction (disk full, I/O error)
                raise _Lost from error
            execute("ROLLBACK TO fn")
            execute("RELEASE fn")
            if not isinstance(error, RestanteError) and _is_storage_trouble(error):
                _raise_if_fatal(error)
                return Outcome(error=unavailable(error))
            return Outcome(error=error)
        execute("RELEASE fn")
        return outcome

    def reclaim(self, pages: int) -> int:
        """Give up to ``pages`` free pages back to the file system; returns how many are left."""
        self._raw.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
        return int(self._raw.execute("PRAGMA freelist_count").get)

    def snapshot(self, target: Path, pages: int) -> Outcome:
        """Copy some pages of the file to ``target``, which the first call makes; the value is (done, in all).

        One copy at a time: a call with another target gives up the one before.
        """
        try:
            if self._copy is not None and self._copy.target != target:
                self._give_up_copy()
            if self._copy is None:
                self._copy = snapshot.Copy(self._raw, target)
            done, total = self._copy.step(pages)
            if done == total:
                self._copy = None
            return Outcome(value=(done, total))
        except (apsw.Error, OSError, Unavailable) as error:
            self._give_up_copy()
            _raise_if_fatal(error)
            _log.error("snapshot failed: %s: %s", type(error).__name__, error)
            return Outcome(error=Unavailable(f"the database could not be copied: {error}", code="snapshot_failed"))

    def _give_up_copy(self) -> None:
        if self._copy is not None:
            self._copy.abandon()
            self._copy = None

    def close(self) -> None:
        """Close the file; the last connection's close checkpoints the WAL."""
        self._give_up_copy()
        self._conn.close()


_GROWING = (
    "arrival_postings",
    "arrival_subjects",
    "arrival_words",
    "arrivals",
    "contents",
    "correspondents",
    "events",
    "messages",
)
_ROWS = 1_000_000


_FIGURES = {  # by the length of what they walk, so that the smallest that a condition names is taken
    "ix_arrivals_inbox": (_ROWS // 10, _ROWS // 1000, 1),
    "ix_arrivals_sender": (_ROWS // 10, _ROWS // 1000, 1),
    "ix_arrivals_listed": (_ROWS // 20, 1),
    "ix_arrivals_unread": (_ROWS // 50, 1),
    "ix_arrivals_favorite": (_ROWS // 100, 1),
}


def _teach_planner(raw: apsw.Connection) -> None:
    """Tell SQLite's planner what the large tables look like when they are full: plans do not change as they grow.

    Without figures it takes ten rows for any ``account_id = ?`` and walks a whole account where it should look ids up.
    The first column of an index (the account) leaves a tenth of the rows, the second a thousandth, a unique one a row.
    """
    raw.execute("ANALYZE sqlite_schema")  # makes the table of figures
    raw.execute("DELETE FROM sqlite_stat1")
    for table in _GROWING:
        for _, index, is_unique, *_ in raw.execute(f"PRAGMA index_list({table})").fetchall():
            width = len(raw.execute(f"PRAGMA index_info({index})").fetchall())
            left = [_ROWS // 10, _ROWS // 1000, 10, 10][:width]
            if is_unique:
                left[-1] = 1
            figures = " ".join(map(str, [_ROWS, *_FIGURES.get(str(index), left)]))
            raw.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", (table, index, figures))


def _runs(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls in their order, neighbours together that may run as one."""
    found: list[list[Call]] = []
    for call in calls:
        if found and call.fn is found[-1][-1].fn and not (call.kwargs or found[-1][-1].kwargs):
            found[-1].append(call)
        else:
            found.append([call])
    return found


class _Lost(Exception):
    """The group's transaction is gone; the cause says why."""


def _is_storage_trouble(error: BaseException) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, driver.OperationalError)


def _apsw_cause(error: BaseException | None) -> apsw.Error | None:
    while error is not None and not isinstance(error, apsw.Error):
        error = error.orig if isinstance(error, DBAPIError) else error.__cause__
    return error


def _raise_if_fatal(error: BaseException | None) -> None:
    cause = _apsw_cause(error)
    if cause is None:
        return
    code = getattr(cause, "extendedresult", None)
    if isinstance(cause, apsw.CorruptError | apsw.NotADBError) or code in _FATAL_CODES:
        raise FatalStorageError(str(cause)) from error


def unavailable(error: BaseException | None) -> Unavailable:
    """What callers are told when storage failed them."""
    if isinstance(_apsw_cause(error), apsw.FullError):
        return Unavailable("the disk is full", code="storage_full")
    return Unavailable("storage does not take writes at the moment", code="storage_unavailable")
