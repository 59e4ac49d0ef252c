"""PostgreSQL connections: how they are opened, and what their errors mean."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from restante.errors import Invalid, Unavailable
from restante.storage.postgres import arrays

Raw: TypeAlias = psycopg.Connection[tuple[Any, ...]]
UPGRADE_LOCK = 0x7265_7374  # of nodes that start at the same time, one brings the schema up
OLDEST = 150_000  # PostgreSQL 15
PREPARED = 400  # statements that a connection keeps prepared
DEFAULTS = {  # what the address of the settings may say otherwise; a partner that is gone is noticed in half a minute
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
EVERY = ("SET client_encoding = 'UTF8'", "SET jit = off", "SET timezone = 'UTC'")
KEEP_PLANS = "SET plan_cache_mode = force_generic_plan"  # quick statements go by an index whatever the values are
WRITING = (
    *EVERY,
    KEEP_PLANS,
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '30s'",
)
READ_MILLISECONDS = 2_000  # no reading statement takes longer: a scan must not hold up what is quick
READING = (
    *EVERY,
    "SET default_transaction_read_only = on",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET idle_in_transaction_session_timeout = '30s'",
)

DISK_FULL = "53100"
TOO_SLOW = "57014"
READ_ONLY = "25006"  # the server has become a standby: the next connection may find the new primary
SERIALIZATION = frozenset({"40001", "40P01"})  # could not serialize, deadlock: the same again may well succeed
UNIQUE = "23505"
FAILED = psycopg.pq.TransactionStatus.INERROR
_TEMPORARY = ("08", "53", "57", "58")  # connection, resources, operator's intervention, system: classes of SQLSTATE
_LOCK_TIMEOUT = "55P03"
_DAMAGED = "XX001"


def parameters(url: str, application: str) -> str:
    """What the driver connects with. Raises Unavailable for an address that it cannot read."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise Unavailable(f"storage.database: {_one_line(error)}", code="storage_unsuitable") from error
    return conninfo.make_conninfo("", **{"application_name": application, **DEFAULTS, **given})


def open_raw(url: str, kind: type[Raw] = psycopg.Connection) -> Raw:
    """A connection whose transactions are begun and ended in so many words. Raises Unavailable with one line."""
    try:
        raw = kind.connect(parameters(url, "restante"), autocommit=True)
    except (psycopg.Error, UnicodeError) as error:
        raise Unavailable(f"cannot reach {name(url)}: {_one_line(error)}", code="storage_unavailable") from error
    raw.prepared_max = PREPARED
    arrays.register(raw)
    return raw


class SoughtText(StrDumperUnknown):
    """A text that is only looked for: with a NUL in it, which no stored text has, it is to find nothing."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffe"))


class _BinaryCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor whose answers come in binary: numbers and bytes as they are, not as twice as many digits."""

    def __init__(self, raw: Raw, *, row_factory: Any = None) -> None:
        super().__init__(raw, row_factory=row_factory)
        self.format = psycopg.pq.Format.BINARY


def open_engine(
    url: str, settings: tuple[str, ...], *, only_reads: bool = False, kind: type[Raw] = psycopg.Connection
) -> Engine:
    """SQLAlchemy over such connections; each ``connect()`` opens one and gives it ``settings``."""

    def connect() -> Raw:
        raw = open_raw(url, kind)
        if only_reads:
            raw.adapters.register_dumper(str, SoughtText)
        try:
            raw.execute(";".join(settings))
        except psycopg.Error as error:
            raw.close()
            raise Unavailable(f"cannot use {name(url)}: {_one_line(error)}", code="storage_unavailable") from error
        if only_reads:
            raw.cursor_factory = _BinaryCursor
        return raw

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool, use_native_hstore=False)


def raw_of(conn: Connection) -> Raw:
    """The driver's connection under a SQLAlchemy one."""
    found = conn.connection.driver_connection
    assert isinstance(found, psycopg.Connection)
    return found


def close(conn: Connection) -> None:
    """Close a connection, in whatever state it is."""
    if not conn.invalidated:  # by SQLAlchemy, when it saw the connection break
        with contextlib.suppress(psycopg.Error):
            raw_of(conn).close()
        conn.invalidate()
    conn.close()


@contextlib.contextmanager
def telling(url: str) -> Iterator[None]:
    """Raise Unavailable with one line for people in place of the driver's errors."""
    try:
        yield
    except psycopg.Error as error:
        raise Unavailable(f"cannot use {name(url)}: {_one_line(error)}", code="storage_unavailable") from error


def require_usable(raw: Raw, url: str) -> None:
    """Raise Unavailable for a server that is too old or a database in which not every letter can be kept."""
    if raw.info.server_version < OLDEST:
        raise Unavailable(f"{name(url)}: PostgreSQL 15 or newer is needed", code="storage_unsuitable")
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Unavailable(
            f"{name(url)}: the database has the encoding {encoding}; make one with UTF8", code="storage_unsuitable"
        )


def name(url: str) -> str:
    """The database for people, without user and password: ``the PostgreSQL database mail on db.example.com``."""
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "PostgreSQL"
    where = str(parts.get("host") or parts.get("hostaddr") or "this machine")
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"the PostgreSQL database {parts.get('dbname') or '(default)'} on {where}{port}"


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def original(error: BaseException | None) -> psycopg.Error | None:
    """The driver's error, whether SQLAlchemy has wrapped it or not."""
    while error is not None and not isinstance(error, psycopg.Error):
        error = error.orig if isinstance(error, DBAPIError) else error.__cause__
    return error


def state(error: BaseException | None) -> str:
    """The SQLSTATE of an error; empty when it has none (a connection that broke)."""
    found = original(error)
    return (found.sqlstate or "") if found is not None else ""


def is_trouble(error: BaseException) -> bool:
    """Whether the store, not the caller, is the cause."""
    found = original(error)
    if found is None:
        return False
    code = found.sqlstate
    if code is None:
        return isinstance(found, psycopg.OperationalError)
    return code.startswith(_TEMPORARY) or code in (_LOCK_TIMEOUT, _DAMAGED) or code in SERIALIZATION


def unavailable(error: BaseException | None) -> Unavailable:
    """What callers are told when the store failed them."""
    match state(error):
        case "53100":
            return Unavailable("the disk of the database is full", code="storage_full")
        case "57014":
            return Unavailable("the query took too long; narrow it", code="too_slow")
        case "XX001":
            return Unavailable("the database is damaged: see PostgreSQL's log", code="storage_damaged")
        case "40001" | "40P01":
            return Unavailable("too many changes at the same place; try again", code="storage_busy")
        case _:
            return Unavailable("the database does not answer at the moment", code="storage_unavailable")


def refusal(error: BaseException) -> Invalid | None:
    """The caller's fault in terms of ours: a text with a NUL, which PostgreSQL cannot keep; None for anything else."""
    found = original(error)
    if isinstance(found, psycopg.DataError) and "NUL" in str(found):
        return Invalid("a text has a NUL character in it", code="invalid_text")
    return None
