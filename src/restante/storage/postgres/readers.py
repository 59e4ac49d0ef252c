"""The reading half on PostgreSQL: read-only transactions on connections of their own, off the event loop.

A thread takes whatever is queued, as the writer does, and runs it in one transaction: a journey to the server for BEGIN
and one wake-up of the event loop are shared by all that came at the same time; ROLLBACK follows the answers. Those that
are ``single`` come first and need neither.
"""

import asyncio
import functools
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection

from restante.errors import RestanteError, Unavailable
from restante.schema.connections import find_together, is_scanning, is_single
from restante.storage.database import Timed
from restante.storage.postgres import connection, reads
from restante.storage.postgres.at_once import AtOnce, HastyConnection

QUICK_THREADS = 2
SCAN_THREADS = 2  # scans never take the threads of what is quick
GROUP_CALLS = 32

_log = logging.getLogger(__name__)


class _Call(NamedTuple):
    """One function to run, and who waits for it."""

    future: asyncio.Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


_Answer = tuple[_Call, reads.Outcome]


class _Broken(Exception):
    """The connection broke; the cause says how."""


class Readers:
    """Threads with a connection each, opened when they are first needed, and anew when they break."""

    def __init__(self, url: str) -> None:
        timeout = f"SET statement_timeout = {connection.READ_MILLISECONDS}"
        self._engine = connection.open_engine(url, (*connection.READING, timeout), only_reads=True)
        hasty = connection.open_engine(
            url, (*connection.READING, timeout, connection.KEEP_PLANS), only_reads=True, kind=HastyConnection
        )
        self._at_once = AtOnce(hasty.connect)
        self._quick: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._scans: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._gathered: dict[Callable[..., Any], list[_Call]] = {}

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``fn`` in a read transaction that began after this call.

        Raises Unavailable: ``too_slow`` when a statement took over two seconds, ``storage_unavailable``.
        """
        call = _Call(asyncio.get_running_loop().create_future(), fn, args, kwargs)
        if is_scanning(fn):
            self._put(self._scans, call)
        elif find_together(fn) is not None and not kwargs:
            self._gather(call)
        else:
            self._run_at_once([call])
        return await call.future

    def _gather(self, call: _Call) -> None:
        """Run it at the end of this turn of the event loop, with those that come besides: a journey for all."""
        if not self._gathered:
            call.future.get_loop().call_soon(self._run_gathered)
        self._gathered.setdefault(call.fn, []).append(call)

    def _run_gathered(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for calls in gathered.values():
            for start in range(0, len(calls), GROUP_CALLS):
                some = calls[start : start + GROUP_CALLS]
                try:
                    self._run_at_once(some)
                except Exception as error:  # noqa: BLE001 - nobody else would tell the callers
                    _answer([(call, (None, error)) for call in some])

    def _run_at_once(self, calls: list[_Call]) -> None:
        """Calls of one function, here if the server is quick enough."""
        outcomes = self._at_once.run(calls[0].fn, functools.partial(_several, calls))
        if outcomes is not None:
            _answer(zip(calls, outcomes, strict=True))
            return
        for call in calls:
            self._put(self._quick, call)

    def _put(self, waiting: "queue.SimpleQueue[_Call | None]", call: _Call) -> None:
        if not self._threads:
            self._start()
        waiting.put(call)

    def _start(self) -> None:
        for waiting, count, most in ((self._quick, QUICK_THREADS, GROUP_CALLS), (self._scans, SCAN_THREADS, 1)):
            for number in range(count):
                reader = _Reader(self._engine.connect, waiting, most)
                thread = threading.Thread(target=reader.work, name=f"read-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        """Wait for what is under way and close the connections."""
        self._run_gathered()
        self._at_once.close()
        for waiting in (self._quick, self._scans):
            for _ in range(max(QUICK_THREADS, SCAN_THREADS)):
                waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()


class _Reader:
    """One thread's work: groups of at most ``most`` calls on one connection."""

    def __init__(
        self, connect: Callable[[], Connection], waiting: "queue.SimpleQueue[_Call | None]", most: int
    ) -> None:
        self._connect, self._waiting, self._most = connect, waiting, most
        self._conn: Connection | None = None
        self._is_open = False  # a transaction, whose end nobody has to wait for

    def work(self) -> None:
        """Run groups until told to end."""
        while (calls := self._next()) is not None:
            outcomes = self._run(calls)
            by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
            for call, outcome in zip(calls, outcomes, strict=True):
                by_loop.setdefault(call.future.get_loop(), []).append((call, outcome))
            for loop, answers in by_loop.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_answer, answers)
            self._end()
        self._close()

    def _next(self) -> list[_Call] | None:
        first = self._waiting.get()
        if first is None:
            return None
        calls = [first]
        while len(calls) < self._most:
            try:
                call = self._waiting.get_nowait()
            except queue.Empty:
                break
            if call is None:
                self._waiting.put(None)  # to be found again after this group
                break
            calls.append(call)
        return sorted(calls, key=_kind)

    def _run(self, calls: list[_Call]) -> list[reads.Outcome]:
        outcomes: list[reads.Outcome] = []
        tries = 0
        while len(outcomes) < len(calls):
            try:
                self._transaction(calls[len(outcomes) :], outcomes)
            except _Broken as broken:  # as after a restart of the server; nothing was changed, so once more
                self._close()
                tries += 1
                if tries > 1:
                    error = connection.unavailable(broken.__cause__)
                    outcomes += [(None, error)] * (len(calls) - len(outcomes))
            except Unavailable as error:
                outcomes += [(None, error)] * (len(calls) - len(outcomes))
        return outcomes

    def _transaction(self, calls: list[_Call], outcomes: list[reads.Outcome]) -> None:
        """Run ``calls``, from the first that needs one in a transaction, up to one whose error ends that.

        Raises _Broken, Unavailable.
        """
        self._end()
        conn = self._conn = self._conn or self._connect()
        raw = connection.raw_of(conn)
        try:
            for _, alike in itertools.groupby(calls, key=_kind):
                together = list(alike)
                if not self._is_open and not is_single(together[0].fn):
                    raw.execute("BEGIN")
                    self._is_open = True
                outcomes += _several(together, conn)
                if raw.pgconn.transaction_status == connection.FAILED:
                    break
        except Exception as error:
            if not raw.closed:
                raise
            raise _Broken from error

    def _end(self) -> None:
        """End the transaction, after its answers are out: they do not depend on it."""
        if self._is_open and self._conn is not None:
            self._is_open = False
            try:
                connection.raw_of(self._conn).execute("ROLLBACK")
            except psycopg.Error:
                self._close()

    def _close(self) -> None:
        conn, self._conn = self._conn, None
        self._is_open = False
        if conn is not None:
            connection.close(conn)


def _kind(call: _Call) -> tuple[bool, int]:
    """By what calls are sorted: those that need no transaction first, and together what may run as one."""
    is_alone = find_together(call.fn) is None or bool(call.kwargs)
    return not is_single(call.fn), id(call if is_alone else call.fn)


def _several(calls: list[_Call], conn: Connection) -> list[reads.Outcome]:
    """Calls of one kind: one, or such as may run together."""
    many = find_together(calls[0].fn)
    if many is not None and len(calls) > 1:
        try:
            with Timed("read", calls[0].fn):
                values = many(conn, [call.args for call in calls])
            return [(None, value) if isinstance(value, RestanteError) else (value, None) for value in values]
        except reads.Unfinished:
            raise
        except Exception as error:  # noqa: BLE001 - whoever's it is: alone each gets its own
            _log.warning("reads run alone: %s: %s", type(error).__name__, error)
    return [reads.run(conn, call.fn, call.args, call.kwargs) for call in calls]


def _answer(answers: Iterable[_Answer]) -> None:
    for call, (value, error) in answers:
        if call.future.done():
            continue  # the caller was cancelled
        if error is None:
            call.future.set_result(value)
        else:
            call.future.set_exception(error)
