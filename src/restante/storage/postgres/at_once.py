"""Reads on the event loop's own connection: at once, where the server answers within a moment.

A thread for a read that takes a quarter of a millisecond costs as much again: two changes of thread and another round
of the loop, for each. So the loop waits for the answer itself, ``ATTEMPT_SECONDS`` at most. Where that is not enough
(the server is far, busy or gone) the read is given up here and run in a thread; calls of the same function go there for
a while that doubles each time, all others until a thread has brought the connection in order.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from sqlalchemy import Connection

from restante.errors import Unavailable
from restante.schema.connections import is_single
from restante.storage.postgres import connection, reads

ATTEMPT_SECONDS = 0.005  # that a read may keep the event loop
PAUSE_SECONDS = 0.01  # at first
PAUSE_MAX_SECONDS = 1.0

T = TypeVar("T")


class HastyConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for answers until ``deadline``, if it has one."""

    deadline: float | None = None  # of time.monotonic

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As the driver's, within the time that is left. Raises Unfinished."""
        if self.deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(0.0, self.deadline - time.monotonic()))
        except psycopg.errors._WaitTimeout:
            raise reads.Unfinished from None


class _Pause(NamedTuple):
    """For how long something is not tried."""

    seconds: float
    until: float  # of time.monotonic

    @classmethod
    def after(cls, before: "_Pause | None") -> "_Pause":
        seconds = PAUSE_SECONDS if before is None else min(2 * before.seconds, PAUSE_MAX_SECONDS)
        return cls(seconds, time.monotonic() + seconds)


class AtOnce:
    """The event loop's own connection, and its ways back to order."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._conn: Connection | None = None  # while it is in order
        self._helper: threading.Thread | None = None
        self._pauses: dict[Callable[..., Any], _Pause] = {}  # of functions that took too long

    def run(self, fn: Callable[..., Any], work: Callable[[Connection], T]) -> T | None:
        """What ``work``, one call or several of ``fn``, returns in a read transaction; None: a thread has to do it."""
        now, pause = time.monotonic(), self._pauses.get(fn)
        if pause is not None and now < pause.until:
            return None
        if self._conn is None:
            self._mend(None)
            return None
        conn, raw = self._conn, connection.raw_of(self._conn)
        assert isinstance(raw, HastyConnection)
        found: T | None
        raw.deadline = now + ATTEMPT_SECONDS
        try:
            if is_single(fn):
                found = work(conn)
            else:
                raw.execute("BEGIN")
                found = work(conn)
                raw.execute("ROLLBACK")
        except (reads.Unfinished, psycopg.Error):
            found = None
        finally:
            raw.deadline = None
        if found is None:
            self._pauses[fn] = _Pause.after(pause)
            self._mend(conn)
        elif pause is not None:
            del self._pauses[fn]
        return found

    def _mend(self, conn: Connection | None) -> None:
        """Bring a connection in order, or open one, in a thread: it may take long."""
        if self._helper is None or not self._helper.is_alive():
            self._conn = None
            self._helper = threading.Thread(target=self._bring_in_order, args=(conn,), daemon=True)
            self._helper.start()

    def _bring_in_order(self, conn: Connection | None) -> None:
        if conn is not None:
            raw = connection.raw_of(conn)
            try:
                if raw.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    raw.wait(generators.fetch_many(raw.pgconn))
                raw.execute("ROLLBACK")
            except psycopg.Error:
                connection.close(conn)
                conn = None
        with contextlib.suppress(Unavailable):
            self._conn = conn or self._connect()

    def close(self) -> None:
        """Let the connection go."""
        if self._helper is not None:
            self._helper.join()
        conn, self._conn = self._conn, None
        if conn is not None:
            connection.close(conn)
