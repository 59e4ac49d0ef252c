"""Whether the search index of a SQLite store holds every message and nothing else, looked at in short steps.

It runs beside a working indexer. A message in the queue beyond the index's watermark counts as indexed, and so does one
that a rebuild has still to reach. Main file and index are read one after the other, so what seems wrong may only be
younger than the other file: callers look twice. An index that is about to be made anew is not compared.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from restante.storage.database import IndexStep

MAIN = "restante.db"
INDEX = "index.db"
BUSY_MILLISECONDS = 10_000


@contextlib.contextmanager
def _opened(data_dir: Path) -> Iterator[apsw.Connection]:
    conn = apsw.Connection(str(data_dir / MAIN), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        conn.set_busy_timeout(BUSY_MILLISECONDS)
        conn.execute("ATTACH ? AS search", (str(data_dir / INDEX),))
        conn.execute("PRAGMA query_only=ON").fetchall()
        conn.execute("BEGIN")
        yield conn
        conn.execute("COMMIT")
    finally:
        conn.close(True)


def examine(data_dir: Path, after: Sequence[int], limit: int) -> IndexStep:
    """Look at the next ``limit`` messages and at the index's documents of the same ids."""
    start = after[0] if after else 0
    with _opened(data_dir) as conn:
        rows = _numbers(conn, "SELECT id, account_id FROM messages WHERE id > ? ORDER BY id LIMIT ?", (start, limit))
        end = rows[-1][0] if len(rows) == limit else 1 << 62
        documents = (
            "SELECT t.id FROM search.texts t JOIN search.fts_docsize d ON d.id = document WHERE t.id > ? AND t.id <= ?"
        )
        indexed = {row[0] for row in _numbers(conn, documents, (start, end))}
        (unreached,), (watermark,) = _numbers(
            conn, "SELECT value FROM search.state WHERE key IN ('rebuilt', 'watermark') ORDER BY key", ()
        )
        if _is_rebuild_due(conn, watermark):
            return IndexStep(None, (), ())
        waiting = _numbers(conn, "SELECT message_id FROM index_queue WHERE id > ?", (watermark,))
        queued = {row[0] for row in waiting}
    there = {row[0] for row in rows}
    missing = [
        (account_id, one) for one, account_id in rows if one not in queued and one > unreached and one not in indexed
    ]
    extra = [(0, one) for one in sorted(indexed) if one not in there and one not in queued]
    return IndexStep((end,) if len(rows) == limit else None, tuple(missing), tuple(extra))


def _is_rebuild_due(conn: apsw.Connection, watermark: int) -> bool:
    """Whether index and queue do not fit together, so that the next indexer will begin again (a new index, say)."""
    last = _numbers(conn, "SELECT seq FROM sqlite_sequence WHERE name = 'index_queue'", ())
    first = _numbers(conn, "SELECT id FROM index_queue WHERE id > ? ORDER BY id LIMIT 1", (watermark,))
    newest = last[0][0] if last else 0
    return newest < watermark or (newest > watermark and first != [(watermark + 1,)])


def _numbers(conn: apsw.Connection, query: str, values: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[Any] = conn.execute(query, values).fetchall()
    return found
