"""The writing half on PostgreSQL: groups of functions in one transaction, retried where others were in the way.

Functions marked ``concurrent`` share a READ COMMITTED transaction, all others a SERIALIZABLE one, each in a savepoint
of its own. Where a function of the first fails, or a group meets other writers (serialization failure, deadlock), all
functions run again, each alone. A connection that is lost before COMMIT was sent changes nothing: the group runs once
more on a new one. Lost at COMMIT, the outcome is unknown, and unknown is told as failure: callers try again.
"""

import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import psycopg
from sqlalchemy import Connection

from restante.errors import RestanteError, Unavailable
from restante.schema.connections import WriteConn, find_together, is_concurrent
from restante.storage import upgrades
from restante.storage.database import Call, Outcome, Timed
from restante.storage.postgres import connection
from restante.storage.postgres.connection import Raw
from restante.storage.postgres.copying import Copy
from restante.storage.postgres.signals import notify

TRIES = 6  # of one function alone
BACKOFF_SECONDS = 0.005  # doubled with each try, and shortened at random
AWAY_SECONDS = 0.5  # after a failed connect, callers are refused at once for so long

_BEGIN = {True: "BEGIN ISOLATION LEVEL READ COMMITTED", False: "BEGIN ISOLATION LEVEL SERIALIZABLE"}

_log = logging.getLogger(__name__)


class _InTheWay(Exception):
    """Another writer was faster: nothing is stored, and the same again may succeed."""


class _Lost(Exception):
    """The connection broke before COMMIT was sent: nothing is stored."""


class GroupCommit:
    """The writing half of one PostgreSQL database: runs groups of functions, a durable commit or two for each."""

    def __init__(self, url: str, sender: str) -> None:
        self._url, self._sender = url, sender
        self._engine = connection.open_engine(url, connection.WRITING)
        self._conn: Connection | None = None
        self._copy: Copy | None = None
        self._away_until = 0.0
        self.version_before = self._prepare()

    def _prepare(self) -> int:
        """Make or bring up the schema, once however many nodes start; returns the version found before."""
        conn, raw = self._connected()
        try:
            connection.require_usable(raw, self._url)
            raw.execute("BEGIN")
            raw.execute("SELECT pg_advisory_xact_lock(%s)", (connection.UPGRADE_LOCK,))
            found = upgrades.apply(conn)
            raw.execute("COMMIT")
        except BaseException as error:
            self._disconnect()
            if isinstance(error, RestanteError) or connection.original(error) is None:
                raise
            what = f"cannot use {connection.name(self._url)}: {str(connection.original(error)).splitlines()[0]}"
            raise Unavailable(what, code="storage_unavailable") from error
        return found

    def _connected(self) -> tuple[Connection, Raw]:
        """The connection, opened anew if need be. Raises Unavailable."""
        if self._conn is None:
            if time.monotonic() < self._away_until:
                raise Unavailable("the database does not answer at the moment", code="storage_unavailable")
            try:
                self._conn = self._engine.connect()
            except Unavailable:
                self._away_until = time.monotonic() + AWAY_SECONDS
                raise
        return self._conn, connection.raw_of(self._conn)

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Run ``calls``, those marked ``concurrent`` in one transaction and the others in another.

        A failing function is rolled back alone. Where a commit failed, or its outcome is unknown, the outcomes are
        Unavailable.
        """
        outcomes = [Outcome()] * len(calls)
        for kind in (True, False):
            places = [at for at, call in enumerate(calls) if is_concurrent(call.fn) is kind]
            if places:
                found = self._together([calls[at] for at in places], kind)
                for at, outcome in zip(places, found, strict=True):
                    outcomes[at] = outcome
        return outcomes

    def _together(self, calls: Sequence[Call], is_shared: bool) -> list[Outcome]:
        for is_last in (False, True):
            try:
                return self._transaction(calls, is_shared)
            except _InTheWay:
                return [self._alone(call, is_shared) for call in calls]
            except _Lost as lost:
                if is_last:
                    return self._failed(calls, lost.__cause__)
            except Unavailable as error:
                return self._failed(calls, error)
        raise AssertionError

    def _alone(self, call: Call, is_shared: bool) -> Outcome:
        """Run one function in a transaction of its own, as often as others are in its way."""
        for attempt in range(TRIES):
            try:
                (outcome,) = self._transaction([call], is_shared, is_final=attempt > 0)
                return outcome
            except _InTheWay as in_the_way:
                cause = in_the_way.__cause__
                time.sleep(BACKOFF_SECONDS * 2**attempt * random.random())  # noqa: S311 - to part two that collided
            except _Lost as lost:
                cause = lost.__cause__
            except Unavailable as error:
                return Outcome(error=error)
        return self._failed([call], cause)[0]

    def _failed(self, calls: Sequence[Call], cause: BaseException | None) -> list[Outcome]:
        error = cause if isinstance(cause, Unavailable) else connection.unavailable(cause)
        _log.error("commit failed: %s: %s", type(cause).__name__, cause)
        return [Outcome(error=error) for _ in calls]

    def _transaction(self, calls: Sequence[Call], is_shared: bool, *, is_final: bool = False) -> list[Outcome]:
        """One transaction. Raises _InTheWay, _Lost (nothing is stored), Unavailable (nothing, or nobody knows)."""
        conn, raw = self._connected()
        is_committing = False
        try:
            raw.execute(_BEGIN[is_shared])
            if is_shared and len(calls) > 1:
                outcomes = self._unguarded(conn, raw, calls)
            else:
                outcomes = [self._one(conn, raw, call, is_final) for call in calls]
            touched = {account_id for outcome in outcomes for account_id in outcome.touched}
            if touched:
                notify(raw, self._sender, touched)
            is_committing = True
            raw.execute("COMMIT")
            return outcomes
        except _InTheWay:
            self._roll_back(raw)
            raise
        except (psycopg.Error, _Broken) as error:
            cause = error.__cause__ if isinstance(error, _Broken) else error
            if connection.state(cause) in connection.SERIALIZATION:
                self._roll_back(raw)
                raise _InTheWay from cause
            is_lost = raw.closed or connection.state(cause) == connection.READ_ONLY
            self._disconnect()
            if is_lost and not is_committing:
                raise _Lost from cause
            raise connection.unavailable(cause) from cause

    def _unguarded(self, conn: Connection, raw: Raw, calls: Sequence[Call]) -> list[Outcome]:
        """Without savepoints, which cost as much as two statements; calls of one kind are one where that is possible.

        Where anything fails, all run again, each alone.
        """
        outcomes = [Outcome()] * len(calls)
        for places in _kinds(calls):
            call = calls[places[0]]
            many = find_together(call.fn)
            try:
                with Timed("write", call.fn):
                    if many is not None and len(places) > 1:
                        values = many(WriteConn(conn), [calls[at].args for at in places])
                    else:
                        values = [call.fn(WriteConn(conn), *call.args, **call.kwargs)]
            except Exception as error:
                if raw.closed:
                    raise _Broken from error
                conn.info.pop("touched", None)
                raise _InTheWay from error
            for at, value in zip(places, values, strict=True):
                outcomes[at] = Outcome(value=value, touched=tuple(conn.info.pop("touched", ())))
        return outcomes

    def _one(self, conn: Connection, raw: Raw, call: Call, is_final: bool) -> Outcome:
        raw.execute("SAVEPOINT fn")
        try:
            with Timed("write", call.fn):
                value = call.fn(WriteConn(conn), *call.args, **call.kwargs)
        except Exception as error:
            code = connection.state(error)
            if raw.closed or code == connection.READ_ONLY:
                raise _Broken from connection.original(error) or error
            conn.info.pop("touched", None)
            if code in connection.SERIALIZATION or (code == connection.UNIQUE and not is_final):
                raise _InTheWay from error
            raw.execute("ROLLBACK TO fn")
            raw.execute("RELEASE fn")
            if not isinstance(error, RestanteError) and connection.is_trouble(error):
                _log.error("write failed: %s: %s", type(error).__name__, error)
                return Outcome(error=connection.unavailable(error))
            return Outcome(error=connection.refusal(error) or error)
        raw.execute("RELEASE fn")
        return Outcome(value=value, touched=tuple(conn.info.pop("touched", ())))

    def _roll_back(self, raw: Raw) -> None:
        try:
            raw.execute("ROLLBACK")
        except psycopg.Error:
            self._disconnect()

    def reclaim(self, pages: int) -> int:
        """Nothing: autovacuum does it."""
        return 0

    def snapshot(self, target: Path, pages: int) -> Outcome:
        """Copy the next ``pages`` rows to the SQLite file ``target``, which the first call makes.

        One copy at a time: a call with another target gives up the one before. The value is (done, in all).
        """
        try:
            if self._copy is not None and self._copy.target != target:
                self._give_up_copy()
            if self._copy is None:
                self._copy = Copy(self._url, target)
            done, total = self._copy.step(pages)
            if done == total:
                self._copy = None
            return Outcome(value=(done, total))
        except (psycopg.Error, apsw.Error, OSError, Unavailable) as error:
            self._give_up_copy()
            _log.error("snapshot failed: %s: %s", type(error).__name__, error)
            return Outcome(error=Unavailable(f"the database could not be copied: {error}", code="snapshot_failed"))

    def _give_up_copy(self) -> None:
        if self._copy is not None:
            self._copy.abandon()
            self._copy = None

    def close(self) -> None:
        """Let the database go."""
        self._give_up_copy()
        self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection; the next call opens another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            connection.close(conn)


def _kinds(calls: Sequence[Call]) -> list[list[int]]:
    """The places of the calls, those together that may run as one."""
    found: dict[object, list[int]] = {}
    for at, call in enumerate(calls):
        key = at if find_together(call.fn) is None or call.kwargs else call.fn
        found.setdefault(key, []).append(at)
    return list(found.values())


class _Broken(Exception):
    """The transaction cannot go on; the cause says why."""
