"""Which engine keeps the rows: SQLite in the data directory, or the PostgreSQL database of the settings.

Engines are loaded only where they are used.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import text

from restante.schema.connections import ReadConn, scanning
from restante.storage.database import Commits, IndexStep, Readers


class Place(NamedTuple):
    """Where the rows are. ``url`` is a ``postgresql://`` address, or empty for SQLite in ``data_dir``.

    ``sender`` marks the signals that a server of several sends to the others, so that it knows its own.
    """

    data_dir: Path
    url: str = ""
    sender: str = ""


class IndexProcess(NamedTuple):
    """How the process that follows with the search index is started.

    Its standard input is ``greeting``, then nudges; its end is the order to exit. What it prints are numbers of the
    index queue up to which rows may be forgotten (nothing where it does that itself).
    """

    arguments: tuple[str, ...]
    greeting: bytes


def index_process(place: Place) -> IndexProcess:
    """The process for this store; several may run on PostgreSQL, one on SQLite."""
    if place.url:
        return IndexProcess((sys.executable, "-m", "restante.storage.postgres.indexer"), place.url.encode() + b"\n")
    arguments = (sys.executable, "-m", "restante.storage.indexer", "--data-dir", str(place.data_dir))
    return IndexProcess(arguments, b"")


def prepare_index(place: Place) -> None:
    """Make the search index, so that readers find it; a broken or outdated one is emptied. Raises Unavailable."""
    if place.url:
        from restante.storage.postgres import connection
        from restante.storage.postgres import indexer as postgres_indexer

        with connection.telling(place.url):
            postgres_indexer.prepare(place.url)
    else:
        from restante.storage import indexer

        indexer.prepare(place.data_dir)


def catch_up_index(place: Place) -> None:
    """Index in this process all there is to index; on SQLite no other indexer may run."""
    if place.url:
        from restante.storage.postgres import connection
        from restante.storage.postgres import indexer as postgres_indexer

        with connection.telling(place.url):
            postgres_indexer.catch_up(place.url)
    else:
        from restante.storage import indexer

        indexer.catch_up(place.data_dir)


def examine_index(place: Place, after: Sequence[int], limit: int) -> IndexStep:
    """Compare the next part of the messages with the index; ``after`` is the last step's end, empty at the start."""
    if place.url:
        from restante.storage.postgres import connection
        from restante.storage.postgres import index_check as postgres_index_check

        with connection.telling(place.url):
            return postgres_index_check.examine(place.url, after, limit)
    from restante.storage import index_check

    return index_check.examine(place.data_dir, after, limit)


def open_commits(place: Place) -> Commits:
    """Open the store for writing; its schema is made or brought up. Raises Conflict, Unavailable."""
    if place.url:
        from restante.storage.postgres.commits import GroupCommit as PostgresCommits

        return PostgresCommits(place.url, place.sender)
    import apsw

    from restante.errors import Unavailable
    from restante.storage import sqlite

    try:
        return sqlite.GroupCommit(sqlite.main_path(place.data_dir))
    except apsw.Error as error:
        raise Unavailable(f"cannot open {place.data_dir}: {error}") from error


def open_readers(place: Place) -> Readers:
    """Open the store for reading."""
    if place.url:
        from restante.storage.postgres.readers import Readers as PostgresReaders

        return PostgresReaders(place.url)
    from restante.storage import sqlite

    return sqlite.Readers(place.data_dir)


@scanning
def count_bytes(conn: ReadConn) -> int:
    """How large the database is: SQLite's file, or all tables and indexes of the PostgreSQL database."""
    if conn.dialect.name == "sqlite":
        statement = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        statement = "SELECT pg_database_size(current_database())"
    return int(conn.execute(text(statement)).scalar_one())


def load(copy: Path, url: str) -> None:
    """Move the rows of a copied SQLite file into the empty PostgreSQL database at ``url``. Raises Conflict."""
    from restante.storage.postgres import copying

    copying.load(copy, url)
    copy.unlink()
