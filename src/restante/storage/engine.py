"""Which engine keeps the rows: SQLite in the data directory, or the PostgreSQL database of the settings.

Engines are loaded only where they are used.
"""

from pathlib import Path
from typing import NamedTuple

from restante.storage.database import Commits, Readers


class Place(NamedTuple):
    """Where the rows are. ``url`` is a ``postgresql://`` address, or empty for SQLite in ``data_dir``.

    ``sender`` marks the signals that a server of several sends to the others, so that it knows its own.
    """

    data_dir: Path
    url: str = ""
    sender: str = ""


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
