"""Deleting much, a bounded piece at a time."""

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from restante.schema.connections import WriteConn


def delete_some(conn: WriteConn, table: Table, limit: int, *where: ColumnElement[bool]) -> int:
    """Delete up to ``limit`` rows; returns how many. ``where`` names the account."""
    keys = list(table.primary_key.columns)
    some = select(*keys).where(*where).limit(limit)
    return conn.execute(delete(table).where(*where, tuple_(*keys).in_(some))).rowcount
