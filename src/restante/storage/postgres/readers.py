"""The reading half on PostgreSQL: read-only transactions on connections of their own, off the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection

from restante.errors import RestanteError
from restante.schema.connections import is_scanning
from restante.storage.database import Timed
from restante.storage.postgres import connection

QUICK_THREADS = 4
SCAN_THREADS = 2  # scans never take the threads of what is quick

_log = logging.getLogger(__name__)


class Readers:
    """Threads with a connection each; opened when they are first needed, and anew when they break."""

    def __init__(self, url: str) -> None:
        timeout = f"SET statement_timeout = {connection.READ_MILLISECONDS}"
        self._engine = connection.open_engine(url, (*connection.READING, timeout))
        self._quick = ThreadPoolExecutor(QUICK_THREADS, thread_name_prefix="read")
        self._scanning = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan")
        self._mine = threading.local()
        self._open: set[Connection] = set()

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``fn`` in one read transaction.

        Raises Unavailable: ``too_slow`` when a statement took over two seconds, ``storage_unavailable``.
        """
        pool = self._scanning if is_scanning(fn) else self._quick
        return await asyncio.get_running_loop().run_in_executor(pool, self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        conn = self._connected()
        try:
            return _transaction(conn, fn, args, kwargs)
        except _Broken:  # as after a restart of the server; nothing was changed, so once more
            self._forget(conn)
        conn = self._connected()
        try:
            return _transaction(conn, fn, args, kwargs)
        except _Broken as broken:
            self._forget(conn)
            raise connection.unavailable(broken.__cause__) from broken.__cause__

    def _connected(self) -> Connection:
        conn: Connection | None = getattr(self._mine, "conn", None)
        if conn is None:
            conn = self._mine.conn = self._engine.connect()
            self._open.add(conn)
        return conn

    def _forget(self, conn: Connection) -> None:
        self._mine.conn = None
        self._open.discard(conn)
        connection.close(conn)

    def close(self) -> None:
        """Wait for what is under way and close the connections."""
        for pool in (self._quick, self._scanning):
            pool.shutdown(wait=True)
        for conn in self._open:
            connection.close(conn)


class _Broken(Exception):
    """The connection broke; the cause says how."""


def _transaction(conn: Connection, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raw = connection.raw_of(conn)
    try:
        raw.execute("BEGIN")
        try:
            with Timed("read", fn):
                return fn(conn, *args, **kwargs)
        finally:
            if not raw.closed:
                raw.execute("ROLLBACK")
    except RestanteError:
        raise
    except Exception as error:
        if raw.closed and connection.original(error) is not None:
            raise _Broken from error
        if connection.is_trouble(error):
            _log.warning("read failed: %s: %s", type(error).__name__, error)
            raise connection.unavailable(error) from error
        refused = connection.refusal(error)
        if refused is not None:
            raise refused from error
        raise
