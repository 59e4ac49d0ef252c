"""Finding messages by their text: one plan for a query (``plan``), and what each engine knows about its own index."""

from typing import TYPE_CHECKING

from restante.mail.words import Query
from restante.schema.fulltext.plan import Found, Plan, Scope, unfold
from restante.schema.fulltext.postgres import PostgresIndex
from restante.schema.fulltext.sqlite import SQLiteIndex

if TYPE_CHECKING:  # the indexer imports this package and must stay small
    from sqlalchemy import Connection


def find(conn: "Connection", scope: Scope, query: Query, *, limit: int, offset: int = 0) -> Found:
    """The page of hits from ``offset`` on, newest (highest message id) first, with the exact total."""
    if not query.pieces:
        return Found(0, [])
    engine = PostgresIndex if conn.dialect.name == "postgresql" else SQLiteIndex
    return Plan(engine(conn, scope)).find(query, limit, offset)


__all__ = ["Found", "Scope", "find", "unfold"]
