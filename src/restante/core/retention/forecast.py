"""The forecast: by how much accounts will grow within a month, and whether the disk has room for that.

Counters are all it reads: what each account uses now, and what it used a month and two months ago.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, delete, func, insert, literal, select, update

from restante import clock
from restante.core import events
from restante.core.messages import TRASH
from restante.core.retention.days import day_of
from restante.ids import AccountId
from restante.schema import counters, tables
from restante.schema.connections import ReadConn, WriteConn, scanning

MONTH = 30  # days
KEPT = 2 * MONTH + 5

_a, _f, _r, _u = tables.accounts.c, tables.folders.c, tables.retention_accounts.c, tables.usage_days.c


class Outlook(NamedTuple):
    """``growth_bytes``: by how much the account will grow in a month; ``excess_bytes``: its share of what is too much.

    ``free_bytes`` is what the disk has left for mail.
    """

    growth_bytes: int
    free_bytes: int
    excess_bytes: int


def record_usage(conn: WriteConn, now: datetime) -> None:
    """Keep what each active account uses, once a day; what is too old to be asked for is deleted (for the job)."""
    today = day_of(now)
    used = select(_a.id, literal(today), _a.used_bytes).where(_a.status == "active")
    new = counters.insert(conn.dialect.name, tables.usage_days)
    conn.execute(new.from_select(["account_id", "day", "used_bytes"], used).on_conflict_do_nothing())
    conn.execute(delete(tables.usage_days).where(_u.day < today - KEPT))


def set_forecast(conn: WriteConn, account_id: AccountId, is_enabled: bool, now: datetime) -> None:
    """Say whether an account's mail is cleaned by forecast. Records ``retention.forecast_set``.

    NotFound ``account_not_found``.
    """
    events.record(conn, account_id, "retention.forecast_set", {"enabled": is_enabled}, now=now)
    mine = update(tables.retention_accounts).where(_r.account_id == account_id)
    if not conn.execute(mine.values(is_forecast=int(is_enabled))).rowcount:
        values = {"account_id": account_id, "is_forecast": int(is_enabled)}
        conn.execute(insert(tables.retention_accounts).values(values))


def is_enabled(conn: ReadConn, account_id: AccountId) -> bool:
    """Whether an account's mail is cleaned by forecast."""
    return bool(conn.execute(select(_r.is_forecast).where(_r.account_id == account_id)).scalar())


def is_due(conn: ReadConn, account_id: AccountId, now: datetime) -> bool:
    """Whether it is, and was not looked at today."""
    mine = select(_r.forecast_at).where(_r.account_id == account_id, _r.is_forecast == 1)
    row = conn.execute(mine).first()
    return row is not None and (row[0] is None or day_of(clock.from_micros(row[0])) < day_of(now))


def note_done(conn: WriteConn, account_id: AccountId, now: datetime) -> None:
    """No more of it today."""
    mine = update(tables.retention_accounts).where(_r.account_id == account_id)
    conn.execute(mine.values(forecast_at=clock.to_micros(now)))


@scanning
def outlook(conn: ReadConn, account_id: AccountId, free_bytes: int, now: datetime) -> Outlook | None:
    """What the next month will bring; None when there are no figures of a month ago.

    An account grows as in the last month, and by as much more as that was more than the month before. The disk has too
    little when all accounts together grow by more than is free or will be when Trash is emptied; each has its share of
    that by its own growth.
    """
    today = day_of(now)
    active = _a.status == "active"
    used = {row.id: int(row.used_bytes) for row in conn.execute(select(_a.id, _a.used_bytes).where(active))}
    month_ago, before = _used_on(conn, today - MONTH), _used_on(conn, today - 2 * MONTH)
    if account_id not in month_ago or account_id not in used:
        return None
    growth = {one: _growth(used[one], month_ago[one], before.get(one)) for one in used.keys() & month_ago.keys()}
    total, own = sum(growth.values()), growth[account_id]
    short = total - free_bytes - _in_trash(conn)
    return Outlook(own, free_bytes, short * own // total if short > 0 else 0)


def _used_on(conn: ReadConn, day: int) -> dict[int, int]:
    rows = conn.execute(select(_u.account_id, _u.used_bytes).where(_u.day == day))
    return {row.account_id: int(row.used_bytes) for row in rows}


def _growth(now: int, month_ago: int, two_months_ago: int | None) -> int:
    last = now - month_ago
    more = 0 if two_months_ago is None else max(0, last - (month_ago - two_months_ago))
    return max(0, last + more)


def _in_trash(conn: ReadConn) -> int:
    size = select(func.coalesce(cast(func.sum(_f.size_bytes), BigInteger), 0)).where(_f.role == TRASH)
    return int(conn.execute(size).scalar_one())
