"""Leases: of several servers one works for a row at a time. The row's table has ``lease_owner`` and ``lease_until``."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, or_, update

from restante import clock
from restante.ids import AccountId
from restante.schema.connections import WriteConn


def free(table: Table, owner: Any, now: Any) -> ColumnElement[bool]:
    """The condition that nobody else holds a row; both values may be bound parameters, ``now`` microseconds."""
    c = table.c
    return or_(c.lease_until.is_(None), c.lease_until <= now, c.lease_owner == owner)


def take(
    conn: WriteConn, account_id: AccountId, table: Table, number: int, owner: str, lease: timedelta, now: datetime
) -> bool:
    """Take or keep the row ``number`` for ``lease``; False when another has it."""
    mine = table.c.account_id == account_id, table.c.id == number, free(table, owner, clock.to_micros(now))
    until = clock.to_micros(now + lease)
    return conn.execute(update(table).where(*mine).values(lease_owner=owner, lease_until=until)).rowcount > 0


def release(conn: WriteConn, account_id: AccountId, table: Table, number: int, owner: str) -> None:
    """Let a row go."""
    mine = table.c.account_id == account_id, table.c.id == number, table.c.lease_owner == owner
    conn.execute(update(table).where(*mine).values(lease_owner=None, lease_until=None))


def release_all(conn: WriteConn, table: Table, owners: str) -> int:
    """Let every row go whose owner's name begins so: of a server that is known to be gone."""
    left = table.c.lease_owner.startswith(owners, autoescape=True)
    return conn.execute(update(table).where(left).values(lease_owner=None, lease_until=None)).rowcount
