"""Whether the search index of a PostgreSQL store holds every message and nothing else, looked at in short steps."""

from collections.abc import Sequence
from typing import Any

import psycopg

from restante.storage.database import IndexStep
from restante.storage.postgres import indexer

_LAST = (1 << 62, 1 << 62)


def examine(url: str, after: Sequence[int], limit: int) -> IndexStep:
    """Look at the next ``limit`` messages or documents, whichever come first, all at one moment.

    What is queued counts as indexed, and so does what a rebuild has still to reach.
    """
    start = (after[0], after[1]) if after else (-1, -1)
    with indexer.connect(url) as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        messages = _pairs(conn, "SELECT account_id, id FROM messages WHERE (account_id, id) > (%s, %s)", start, limit)
        documents = _pairs(
            conn,
            "SELECT account_id, message_id FROM search_documents WHERE (account_id, message_id) > (%s, %s)",
            start,
            limit,
        )
        end = min([found[-1] for found in (messages, documents) if len(found) == limit], default=_LAST)
        rows = conn.execute(
            "SELECT account_id, message_id FROM index_queue WHERE (account_id, message_id) > (%s, %s)"
            " AND (account_id, message_id) <= (%s, %s)",
            (*start, *end),
        )
        queued = set(rows.fetchall())
        unreached = dict(
            conn.execute("SELECT account_id, unreached FROM search_accounts WHERE unreached > 0").fetchall()
        )
    stored = {pair for pair in messages if pair <= end}
    indexed = {pair for pair in documents if pair <= end}
    return IndexStep(
        None if end == _LAST else end,
        tuple([pair for pair in sorted(stored - indexed - queued) if pair[1] > unreached.get(pair[0], 0)]),
        tuple(sorted(indexed - stored - queued)),
    )


def _pairs(conn: psycopg.Connection[Any], query: str, start: tuple[int, int], limit: int) -> list[tuple[int, int]]:
    return conn.execute(f"{query} ORDER BY 1, 2 LIMIT %s".encode(), (*start, limit)).fetchall()
