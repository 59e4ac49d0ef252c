"""A PEP 249 face for apsw, as much of it as SQLAlchemy Core uses, and the dialect that finds it.

Transactions are the caller's business (``storage.sqlite`` issues BEGIN, SAVEPOINT and COMMIT on the driver), so
``commit`` and ``rollback`` do nothing here. apsw's errors become the standard classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import apsw
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIModule
from sqlalchemy.engine.url import URL

apilevel = "2.0"
threadsafety = 1  # a connection belongs to one thread
paramstyle = "qmark"
sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
STATEMENT_CACHE = 400  # prepared statements kept by each connection
MAX_DESCRIPTIONS = 500
Binary = bytes  # PEP 249: what SQLAlchemy wraps a LargeBinary value in


class Warning(Exception):  # noqa: A001 - the names are PEP 249's
    """PEP 249."""


class Error(Exception):
    """PEP 249."""


class InterfaceError(Error):
    """PEP 249."""


class DatabaseError(Error):
    """PEP 249."""


class DataError(DatabaseError):
    """PEP 249."""


class OperationalError(DatabaseError):
    """PEP 249: disk full, busy, cannot open, interrupted: not the programmer's fault."""


class IntegrityError(DatabaseError):
    """PEP 249: a constraint does not hold."""


class InternalError(DatabaseError):
    """PEP 249."""


class ProgrammingError(DatabaseError):
    """PEP 249."""


class NotSupportedError(DatabaseError):
    """PEP 249."""


_STANDARD: dict[type[apsw.Error], type[Error]] = {
    apsw.ConstraintError: IntegrityError,
    apsw.FullError: OperationalError,
    apsw.IOError: OperationalError,
    apsw.BusyError: OperationalError,
    apsw.LockedError: OperationalError,
    apsw.CantOpenError: OperationalError,
    apsw.ReadOnlyError: OperationalError,
    apsw.InterruptError: OperationalError,
    apsw.NoMemError: OperationalError,
    apsw.ProtocolError: OperationalError,
    apsw.SchemaChangeError: OperationalError,
    apsw.CorruptError: DatabaseError,
    apsw.NotADBError: DatabaseError,
    apsw.TooBigError: DataError,
    apsw.MismatchError: DataError,
    apsw.RangeError: ProgrammingError,
    apsw.SQLError: ProgrammingError,
    apsw.BindingsError: ProgrammingError,
    apsw.MisuseError: ProgrammingError,
    apsw.ThreadingViolationError: ProgrammingError,
    apsw.ConnectionClosedError: ProgrammingError,
    apsw.CursorClosedError: ProgrammingError,
}


def standard_class(error: apsw.Error) -> type[Error]:
    """The PEP 249 class for an apsw error."""
    for kind in type(error).__mro__:
        if kind in _STANDARD:
            return _STANDARD[kind]
    return DatabaseError


def _raise(error: apsw.Error) -> NoReturn:
    raise standard_class(error)(f"{type(error).__name__}: {error}") from error


_descriptions: dict[str, Any] = {}


def _describe(raw: apsw.Connection, sql: str, parameters: Sequence[Any]) -> Any:
    """The columns of a statement that has already finished (apsw forgets them), found without running it again."""
    found = _descriptions.get(sql)
    if found is None:
        seen: list[Any] = []

        def look(cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
            seen.append(cursor.get_description())
            return False  # abort before the first step

        probe = raw.cursor()
        probe.exec_trace = look
        try:
            probe.execute(sql, parameters)
        except apsw.ExecTraceAbort:
            pass
        finally:
            probe.close(True)
        found = seen[0] if seen else ()
        if len(_descriptions) < MAX_DESCRIPTIONS:
            _descriptions[sql] = found
    return found


class Cursor:
    """PEP 249 cursor over an apsw cursor."""

    arraysize = 100

    def __init__(self, connection: "Connection") -> None:
        self._raw = connection.raw
        self._cursor = connection.raw.cursor()
        self._sql = ""
        self._parameters: Sequence[Any] = ()
        self._before = 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        self._sql, self._parameters = sql, parameters
        self._before = self._raw.total_changes()
        try:
            self._cursor.execute(sql, parameters)
        except apsw.Error as error:
            _raise(error)
        return self

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> "Cursor":
        self._sql = sql
        self._before = self._raw.total_changes()
        try:
            self._cursor.executemany(sql, parameters)
        except apsw.Error as error:
            _raise(error)
        return self

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        try:
            found = self._cursor.get_description()
        except apsw.ExecutionCompleteError:
            found = _columns_when_done(self._raw, self._sql, self._parameters)
        return [(item[0], None, None, None, None, None, None) for item in found] or None

    @property
    def rowcount(self) -> int:
        return self._raw.total_changes() - self._before

    @property
    def lastrowid(self) -> int:
        return self._raw.last_insert_rowid()

    def fetchone(self) -> tuple[Any, ...] | None:
        try:
            return self._cursor.fetchone()
        except apsw.Error as error:
            _raise(error)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        rows = []
        for _ in range(size or self.arraysize):
            row = self.fetchone()
            if row is None:
                break
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        try:
            rows: list[tuple[Any, ...]] = self._cursor.fetchall()
            return rows
        except apsw.Error as error:
            _raise(error)

    def fetchcolumn(self) -> list[Any]:
        """The values of an only column, which has no nulls, of all rows left: PEP 249's tuples take twice the time."""
        try:
            found = self._cursor.get
        except apsw.Error as error:
            _raise(error)
        if isinstance(found, list):
            return found
        return [] if found is None else [found]

    def setinputsizes(self, *_args: Any) -> None:
        """PEP 249 lets this do nothing."""

    def setoutputsize(self, *_args: Any) -> None:
        """PEP 249 lets this do nothing."""

    def close(self) -> None:
        self._cursor.close(True)


_WITHOUT_ROWS = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "PRAGMA")


def _columns_when_done(raw: apsw.Connection, sql: str, parameters: Sequence[Any]) -> Any:
    start = sql.lstrip()[:8].upper()
    if start.startswith(_WITHOUT_ROWS) and "RETURNING" not in sql.upper():
        return ()
    return _describe(raw, sql, parameters)


class Connection:
    """PEP 249 connection; ``raw`` is apsw's."""

    def __init__(self, raw: apsw.Connection) -> None:
        self.raw = raw

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        """The engine commits on the driver."""

    def rollback(self) -> None:
        """The engine rolls back on the driver."""

    def close(self) -> None:
        self.raw.close(True)


def connect(path: str, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) -> Connection:
    """Open a database file."""
    try:
        raw = apsw.Connection(path, flags=flags, statementcachesize=STATEMENT_CACHE)
        # Plans that depend on no bound value: without it SQLite plans joins anew at every execution (23 us against 4).
        raw.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        return Connection(raw)
    except apsw.Error as error:
        _raise(error)


class Dialect(SQLiteDialect):
    """SQLAlchemy's SQLite dialect over this module."""

    driver = "apsw"
    supports_statement_cache = True
    default_paramstyle = "qmark"

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        import sys

        return sys.modules[__name__]

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        return [url.database or ":memory:"], {}
