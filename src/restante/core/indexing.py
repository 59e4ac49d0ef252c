"""The queue of messages that the search index has still to take in (or to drop)."""

from sqlalchemy import delete, func, select

from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning, single

COUNTED_MAX = 100_000

_q = tables.index_queue.c


def forget_done(conn: WriteConn, up_to: int) -> int:
    """Drop the queue's rows up to that number: the index holds them; returns how many there were."""
    return conn.execute(delete(tables.index_queue).where(_q.id <= up_to)).rowcount


@scanning
@single
def count_queued(conn: ReadConn) -> int:
    """How many rows wait in the queue, ``COUNTED_MAX`` at most (SQLite keeps those of the last seconds too)."""
    some = select(_q.id).limit(COUNTED_MAX).subquery()
    return conn.execute(select(func.count()).select_from(some)).scalar_one()
