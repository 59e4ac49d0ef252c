"""What arrived and what was deleted, day by day: from counters, however much mail there is."""

from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import select

from restante.ids import AccountId
from restante.schema import tables
from restante.schema.connections import ReadConn

EPOCH = date(1970, 1, 1)

_d = tables.arrival_days.c


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on a day (UTC). ``storage_used``: bytes received; ``cumulative_storage_used``: held at its end."""

    date: date
    emails_received: int = 0
    inboxes_created: int = 0
    storage_used: int = 0
    cumulative_storage_used: int = 0
    emails_deleted: int = 0


@dataclass(frozen=True, slots=True)
class Daily:
    """Days, oldest first, and the sums over all days that there were; ``storage_used`` is what is held now."""

    days: list[Day]
    emails_received: int
    inboxes_created: int
    storage_used: int
    emails_deleted: int


def daily(conn: ReadConn, account_id: AccountId, days: int = 100, *, today: date | None = None) -> Daily:
    """The newest ``days`` days up to ``today`` (default: the last one on which anything happened).

    Days without mail are among them, from the first one with any on.
    """
    statement = select(_d.day, _d.received, _d.inboxes, _d.size_bytes, _d.deleted, _d.deleted_bytes)
    rows = conn.execute(statement.where(_d.account_id == account_id).order_by(_d.day)).all()
    if not rows:
        return Daily([], 0, 0, 0, 0)
    last = rows[-1].day if today is None else max(rows[-1].day, (today - EPOCH).days)
    first = max(rows[0].day, last - days + 1)
    held, by_day, held_by_day = 0, {}, {}
    for row in rows:
        held += row.size_bytes - row.deleted_bytes
        by_day[row.day], held_by_day[row.day] = row, held
    found = []
    held = next((held_by_day[row.day] for row in reversed(rows) if row.day < first), 0)
    for day in range(first, last + 1):
        held = held_by_day.get(day, held)
        at = by_day.get(day)
        counts = (0, 0, 0, held, 0) if at is None else (at.received, at.inboxes, at.size_bytes, held, at.deleted)
        found.append(Day(EPOCH + timedelta(days=day), *counts))
    return Daily(
        found,
        sum(row.received for row in rows),
        sum(row.inboxes for row in rows),
        held_by_day[rows[-1].day],
        sum(row.deleted for row in rows),
    )
