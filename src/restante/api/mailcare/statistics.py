"""What came in by day, from counters."""

import msgspec
from msgspec import Struct

from restante.api.mailcare import auth
from restante.core import accounts, arrivals
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.services import arrivals as following
from restante.services import email_form

DAYS = 100


class StatisticsDay(Struct, frozen=True):
    """One day (UTC); storage in bytes."""

    created_at: str
    emails_received: int
    inboxes_created: int
    storage_used: int
    cumulative_storage_used: int
    emails_deleted: int


class StatisticsTotals(Struct, frozen=True):
    """All days together; ``total_space`` is what the team may use, or what the disk has room for."""

    emails_received: int
    inboxes_created: int
    storage_used_for_human: str
    storage_used: int
    total_space: int
    emails_deleted: int


class Statistics(Struct, frozen=True):
    """The newest hundred days, oldest first."""

    data: list[StatisticsDay]
    meta: StatisticsTotals


async def get_statistics(call: Call) -> Answer:
    """Count what came in: by day, and in all."""
    caller = await auth.require(call, auth.STATISTIC_VIEW)
    await following.ready(call.rt, caller.account_id)
    today = call.rt.clock.now().date()
    found = await call.rt.db.read(arrivals.daily, caller.account_id, days=DAYS, today=today)
    account = await call.rt.db.read(accounts.get, caller.account_id)
    space = found.storage_used + call.rt.room.free_bytes() if account.quota_bytes is None else account.quota_bytes
    days = [
        StatisticsDay(
            day.date.isoformat(),
            day.emails_received,
            day.inboxes_created,
            day.storage_used,
            day.cumulative_storage_used,
            day.emails_deleted,
        )
        for day in found.days
    ]
    totals = StatisticsTotals(
        found.emails_received,
        found.inboxes_created,
        email_form.human_size(found.storage_used),
        found.storage_used,
        space,
        found.emails_deleted,
    )
    return Answer(msgspec.json.encode(Statistics(days, totals)))
