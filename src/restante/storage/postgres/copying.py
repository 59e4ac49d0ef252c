"""Copies of a PostgreSQL store are SQLite files with the same tables, as those of an SQLite store: either takes both.

A copy is read in one REPEATABLE READ transaction on a connection of its own, in short steps; rows come in the order of
their keys by a cursor of the server. Loading is one transaction into an empty database.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Table

from restante.errors import Conflict
from restante.schema import tables
from restante.storage import snapshot, sqlite, upgrades
from restante.storage.postgres import connection
from restante.storage.postgres.connection import Raw

BATCH_ROWS = 500
COPIED = [table for table in tables.metadata.sorted_tables if table is not tables.index_queue]  # the index is made anew
QUEUE_ALL = "INSERT INTO index_queue (account_id, message_id) SELECT account_id, id FROM messages ORDER BY id"
UNHURRIED = (
    *connection.EVERY,
    "SET idle_in_transaction_session_timeout = 0",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET default_transaction_read_only = on",
)


class Copy:
    """One copy under way, of the database at ``url``. Where a file has pages, it has rows."""

    def __init__(self, url: str, target: Path) -> None:
        self.target = target
        target.touch(mode=0o600, exist_ok=False)
        self._to: Connection | None = None
        self._from: Connection | None = None
        try:
            self._to = sqlite.open_writer(target)
            file = sqlite.raw(self._to)
            file.execute("PRAGMA foreign_keys=OFF").fetchall()  # rows of a removed tenant may go one by one
            file.execute("PRAGMA synchronous=OFF").fetchall()  # a crash leaves rubbish, which is removed
            upgrades.apply(self._to)
            file.execute("DELETE FROM meta")
            self._from = connection.open_engine(url, UNHURRIED).connect()
            self._raw = connection.raw_of(self._from)
            self._raw.execute("BEGIN")
            self._total = self._count()
            self._done, self._batch_rows = 0, BATCH_ROWS
            self._left = self._batches()
        except BaseException:
            self.abandon()
            raise

    def _count(self) -> int:
        """About how many rows there are."""
        names = [table.name for table in COPIED]
        query = "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE relkind = 'r' AND relname = ANY(%s)"
        row = self._raw.execute(query, (names,)).fetchone()
        return int(row[0] or 0) if row is not None else 0

    def _batches(self) -> Iterator[int]:
        """Copy table after table; yields the number of rows after each batch."""
        assert self._to is not None
        file = sqlite.raw(self._to)
        for table in COPIED:
            columns = [column.name for column in table.columns]
            into = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
            with psycopg.ServerCursor(self._raw, "copy") as rows:
                rows.execute(_select(table, columns))
                while batch := rows.fetchmany(self._batch_rows):
                    file.execute("BEGIN")
                    file.executemany(into, batch)
                    file.execute("COMMIT")
                    yield len(batch)
        for table in COPIED:
            if table.autoincrement_column is not None and "id" in table.columns:
                row = self._raw.execute(_LAST.format(_sequence(table))).fetchone()
                assert row is not None
                file.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
                file.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, row[0]))

        file.execute(QUEUE_ALL)

    def step(self, rows: int) -> tuple[int, int]:
        """Copy at least ``rows`` rows; returns (done, in all), equal when the copy is whole and closed.

        Raises ``psycopg.Error``, OSError, apsw's errors.
        """
        until = self._done + rows
        self._batch_rows = min(rows, BATCH_ROWS)
        while self._done < until:
            copied = next(self._left, None)
            if copied is None:
                self._finish()
                return self._done, self._done
            self._done += copied
        self._total = max(self._total, self._done + 1)
        return self._done, self._total

    def _finish(self) -> None:
        assert self._to is not None
        sqlite.raw(self._to).execute(
            "PRAGMA journal_mode=DELETE"
        ).fetchall()  # a plain file; a server makes it WAL again
        self._close()

    def _close(self) -> None:
        if self._from is not None:
            connection.close(self._from)
        if self._to is not None:
            self._to.close()
        self._from = self._to = None

    def abandon(self) -> None:
        """Give up and remove what was copied."""
        self._close()
        snapshot.remove(self.target)


_LAST = sql.SQL("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}")
_SET = sql.SQL("SELECT setval({}::regclass, greatest(%s, 1), %s)")


def _sequence(table: Table) -> sql.Identifier:
    return sql.Identifier(f"{table.name}_id_seq")


def _select(table: Table, columns: list[str]) -> sql.Composed:
    keys = [column.name for column in table.primary_key.columns]
    return sql.SQL("SELECT {} FROM {} ORDER BY {}").format(_names(columns), sql.Identifier(table.name), _names(keys))


def _names(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def load(source: Path, url: str) -> None:
    """Fill the empty database at ``url`` with the rows of a copied file, which is brought to the newest schema first.

    Raises Conflict(code="target_exists") for a database with data, Unavailable.
    """
    with contextlib.closing(sqlite.GroupCommit(source)):
        pass  # upgrades
    conn = connection.open_engine(url, connection.EVERY).connect()
    file = sqlite.open_writer(source)
    try:
        raw = connection.raw_of(conn)
        connection.require_usable(raw, url)
        with connection.telling(url), raw.transaction():
            raw.execute("SELECT pg_advisory_xact_lock(%s)", (connection.UPGRADE_LOCK,))
            upgrades.apply(conn)
            if raw.execute("SELECT 1 FROM accounts LIMIT 1").fetchone() is not None:
                raise Conflict(f"{connection.name(url)} is not empty", code="target_exists")
            raw.execute("DELETE FROM meta")
            for table in COPIED:
                _load_table(sqlite.raw(file), raw, table)
            raw.execute(QUEUE_ALL)
    finally:
        file.close()
        connection.close(conn)


def _load_table(file: Any, raw: Raw, table: Table) -> None:
    columns = [column.name for column in table.columns]
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), _names(columns))
    rows = file.execute(f"SELECT {', '.join(columns)} FROM {table.name}")  # noqa: S608 - our own tables
    with raw.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows:
            copy.write_row([_storable(value) for value in row])
    if table.autoincrement_column is not None and "id" in table.columns:
        found = file.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
        last = found[0] if found else 0
        raw.execute(_SET.format(sql.Literal(f"{table.name}_id_seq")), (last, last > 0))


def _storable(value: Any) -> Any:
    """A value as PostgreSQL can keep it: its texts know no NUL."""
    return value.replace("\0", "") if isinstance(value, str) and "\0" in value else value
