"""Inbound: recipients of mail from outside, counted by the hour, by domain and by the domain that sent it.

Counts follow the event log, a few seconds behind, so that they cost deliveries nothing: the cursor moves in the
transaction that counts, so each event counts once. They know whole hours only: all that a period touches.
"""

from collections import Counter as Tally
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, desc, func, insert, select, union_all, update

from restante.core import events, periods
from restante.core.periods import HOUR, NEVER, SPANS, Period
from restante.core.statistics import INSTANCE
from restante.ids import AccountId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning
from restante.schema.counters import Counter
from restante.schema.prepared import Prepared

ALL_DOMAINS = ""
LENGTHS = (1, *SPANS)  # hours of the spans that are counted by sender domain

_e, _i, _f = tables.events.c, tables.inbound_hours.c, tables.inbound_senders.c
_INBOUND_HOURS = Counter(tables.inbound_hours)
_INBOUND_SENDERS = Counter(tables.inbound_senders)


class Inbound(NamedTuple):
    """Recipients of mail from outside: taken, refused for good while the sender waited, and spam of those taken."""

    accepted: int = 0
    rejected: int = 0
    spam: int = 0


class Arrivals(NamedTuple):
    """Recipients taken for a domain within an hour, from a sender's domain ("": the null sender)."""

    domain: str
    hour: int
    sender_domain: str
    recipients: int


class Uncounted(NamedTuple):
    """A piece of an account's event log behind its cursor, and what it says of mail from outside."""

    account_id: AccountId
    after: int
    until: int
    arrivals: list[Arrivals]


class _Received(msgspec.Struct, frozen=True, gc=False):
    """What counts of the body of a ``message.received``."""

    recipient: str
    sender: str


_bodies = msgspec.json.Decoder(list[_Received])


@scanning
def find_uncounted(conn: ReadConn, limit: int) -> Uncounted | None:
    """A piece of the event log with the next ``limit`` arrivals that are not counted, of any one account.

    For the standing job. Events that are kept no more were counted long ago. Bodies come as one text an hour: SQLite's
    driver takes the interpreter's lock for each row, and the event loop of the server that takes mail wants it too.
    """
    a, x = tables.accounts.c, tables.inbound_cursors.c
    counted = func.coalesce(x.event_number, 0)
    behind = select(a.id, counted, a.event_number, a.events_pruned)
    joined = behind.select_from(tables.accounts.outerjoin(tables.inbound_cursors, x.account_id == a.id))
    found = conn.execute(joined.where(a.event_number > counted, a.status != "removed").order_by(a.id).limit(1)).first()
    if found is None:
        return None
    account_id, after, newest, pruned = found
    start = max(after, pruned)
    received = (_e.account_id == account_id, _e.type == "message.received", _e.number > start)
    ahead = select(_e.number).where(*received, _e.number <= start + events.SCANNED).order_by(_e.number).limit(limit)
    arrived, last = conn.execute(select(func.count(), func.max(ahead.subquery().c.number))).one()
    until = last if arrived == limit else min(newest, start + events.SCANNED)
    hour = (_e.created_at - _e.created_at % HOUR).label("hour")
    piece = select(hour, func.aggregate_strings(_e.body, ",")).where(*received, _e.number <= until).group_by(hour)
    arrivals = Tally[tuple[str, int, str]]()
    for begins_at, bodies in conn.execute(piece):
        routes = Tally((body.recipient, body.sender) for body in _bodies.decode(f"[{bodies}]"))
        for (recipient, sender), recipients in routes.items():
            _, domain = addresses.split(recipient)
            if domain:  # else put there by its owner
                arrivals[domain, begins_at, sender.rpartition("@")[2].lower()] += recipients
    return Uncounted(AccountId(account_id), after, until, [Arrivals(*key, n) for key, n in arrivals.items()])


def count(conn: WriteConn, account_id: AccountId, uncounted: Uncounted) -> bool:
    """Count a piece of the event log and move the cursor behind it; False when that was done already."""
    x = tables.inbound_cursors.c
    moved = update(tables.inbound_cursors).where(x.account_id == account_id, x.event_number == uncounted.after)
    if conn.execute(moved.values(event_number=uncounted.until)).rowcount == 0:
        if uncounted.after or conn.execute(select(x.account_id).where(x.account_id == account_id)).first():
            return False
        conn.execute(insert(tables.inbound_cursors).values(account_id=account_id, event_number=uncounted.until))
    hours: list[dict[str, Any]] = []
    senders = []
    for domain, hour, sender_domain, count in sorted(uncounted.arrivals):
        key = {"account_id": account_id, "domain": domain}
        hours += _at_hour(account_id, domain, hour, accepted=count)
        if sender_domain:
            for length, begins_at in periods.spans_around(hour, LENGTHS):
                place = {"hours": length, "begins_at": begins_at, "sender_domain": sender_domain}
                senders.append({**key, **place, "accepted": count})
    _INBOUND_HOURS.add(conn, hours)
    _INBOUND_SENDERS.add(conn, senders)
    return True


def record_rejected(conn: WriteConn, refusals: Mapping[tuple[str, int], int]) -> None:
    """Count recipients refused for good, by domain and hour; domains that are not here (any more) are left out."""
    d = tables.domains.c
    owners = conn.execute(select(d.name, d.account_id).where(d.name.in_({domain for domain, _ in refusals})))
    accounts = {row.name: row.account_id for row in owners}
    hours = []
    for (domain, hour), count in sorted(refusals.items()):
        if domain in accounts:
            hours += _at_hour(accounts[domain], domain, hour, rejected=count)
    _INBOUND_HOURS.add(conn, hours)


def _at_hour(account_id: int, domain: str, hour: int, *, accepted: int = 0, rejected: int = 0) -> list[dict[str, Any]]:
    counts = {"hour": hour, "accepted": accepted, "rejected": rejected, "spam": 0}
    places = (INSTANCE, ALL_DOMAINS), (account_id, domain)
    return [{"account_id": account, "domain": name, **counts} for account, name in places]


@scanning
def by_time(conn: ReadConn, account_id: AccountId, domain: str, within: Period, unit: int) -> dict[int, Inbound]:
    """Recipients of a domain by the ``HOUR`` or ``DAY`` that begins at the key, in the hours that the period touches.

    Those of all domains are ``ALL_DOMAINS`` of the ``INSTANCE``.
    """
    at = _i.hour if unit == HOUR else (_i.hour - _i.hour % unit).label("begins_at")
    sums = [cast(func.sum(_i[name]), BigInteger) for name in Inbound._fields]
    found = conn.execute(select(at, *sums).where(*_came_to(account_id, domain, within)).group_by(at))
    return {row[0]: Inbound._make(row[1:]) for row in found}


def _came_to(account_id: AccountId, domain: str, within: Period) -> tuple[ColumnElement[bool], ...]:
    since, until = periods.touched(within)
    return _i.account_id == account_id, _i.domain == domain, _i.hour >= since, _i.hour < until


@scanning
def total(conn: ReadConn, account_id: AccountId, domain: str, within: Period) -> Inbound:
    """As ``by_time``, all in one."""
    sums = [func.coalesce(cast(func.sum(_i[name]), BigInteger), 0) for name in Inbound._fields]
    row: Any = conn.execute(select(*sums).where(*_came_to(account_id, domain, within))).one()
    return Inbound(*row)


@scanning
def top_senders(
    conn: ReadConn, account_id: AccountId, domain: str, within: Period, limit: int
) -> list[tuple[str, int]]:
    """The sender domains that most recipients of a domain had mail from, in the hours that the period touches."""
    given = {
        "account": account_id,
        "domain": domain,
        **periods.numbered(periods.pieces(periods.touched(within), LENGTHS[::-1])),
        "limit": limit,
    }
    return [(name, count) for name, count in _top_senders().rows(conn, given) if count]


@lru_cache
def _top_senders() -> Prepared:
    parts = []
    for place, (_, hours, _) in enumerate(periods.pieces(NEVER, LENGTHS[::-1])):
        mine = _f.account_id == bindparam("account"), _f.domain == bindparam("domain"), _f.hours == hours
        run = _f.begins_at >= bindparam(f"since{place}"), _f.begins_at < bindparam(f"until{place}")
        count = (bindparam(f"sign{place}", type_=BigInteger) * _f.accepted).label("accepted")
        parts.append(select(_f.sender_domain, count).where(*mine, *run))
    each = union_all(*parts).subquery().c
    most = cast(func.sum(each.accepted), BigInteger)
    counted = select(each.sender_domain, most).group_by(each.sender_domain)
    return Prepared(counted.order_by(desc(most), each.sender_domain).limit(bindparam("limit")))
