"""The queue of messages that the search index has still to take in (or to drop)."""

from sqlalchemy import delete, func, select

from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn

_q = tables.index_queue.c


def forget_done(conn: WriteConn, up_to: int) -> int:
    """Drop the queue's rows up to that number: the index holds them; returns how many there were."""
    return conn.execute(delete(tables.index_queue).where(_q.id <= up_to)).rowcount


def last_queued(conn: ReadConn) -> int:
    """The number of the newest row in the queue; 0 when it is empty."""
    return conn.execute(select(func.max(_q.id))).scalar() or 0
