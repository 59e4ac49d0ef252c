"""Statistics: recipients counted as things happen, by the hour, by sender and by domain.

Outbound counts belong to the hour in which the message was submitted, whatever happens to it later: a recipient that
is delivered at last leaves ``deferred`` and joins ``delivered`` there. A period that cuts an hour (or, for recipient
domains, a day) has that piece counted from its rows, so that every period is exact.

Inbound counts follow the event log, a few seconds behind, so that they cost deliveries nothing: the cursor moves in the
transaction that counts, so each event counts once. They know whole hours only: all that the period touches.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    cast,
    delete,
    desc,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from restante import clock
from restante.core import events
from restante.ids import AccountId, EventNumber
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning
from restante.schema.counters import Counter

INSTANCE = AccountId(0)  # counts what all accounts send
ALL_SENDERS = ALL_DOMAINS = ""
HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
DAYS = (24, 192, 1536)  # hours of the spans that are counted by recipient domain: a year is a few of each
HOURS = (1, *DAYS)  # and by sender domain

_h, _d = tables.outbound_hours.c, tables.outbound_domains.c
_s, _t = tables.submissions.c, tables.transfers.c
_SUBMITTED = literal("submitted", literal_execute=True)  # in the statement's text, as the partial index wants it
_OUTBOUND_HOURS = Counter(tables.outbound_hours)
_OUTBOUND_DOMAINS = Counter(tables.outbound_domains)
_i, _f = tables.inbound_hours.c, tables.inbound_senders.c
_INBOUND_HOURS = Counter(tables.inbound_hours)
_INBOUND_SENDERS = Counter(tables.inbound_senders)
_TABLES = (
    tables.outbound_hours,
    tables.outbound_domains,
    tables.inbound_hours,
    tables.inbound_senders,
    tables.inbound_cursors,
)


class Delta(NamedTuple):
    """Recipients that became this; negative for those that are it no longer."""

    delivered: int = 0
    bounced: int = 0
    deferred: int = 0
    rejected: int = 0


class Inbound(NamedTuple):
    """Recipients of mail from outside: taken, refused for good while the sender waited, and spam of those taken."""

    accepted: int = 0
    rejected: int = 0
    spam: int = 0


class Queue(NamedTuple):
    """Messages on their way and those of their recipients that wait: for a first try, or for another."""

    messages: int
    pending: int
    deferred: int
    oldest_at: datetime | None  # when the first of the messages was submitted


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


class Period(NamedTuple):
    """From ``since`` on, up to but without ``until``; microseconds."""

    since: int
    until: int


def record_outbound(
    conn: WriteConn, account_id: AccountId, sender: str, submitted_at: datetime, changes: Mapping[str, Delta]
) -> None:
    """Count what became of recipients of one submission: ``changes`` by their domain.

    ``sender`` is the normalised address of From. ``submitted_at`` is the submission's own time for whatever happens to
    it later, and the present for what is refused before it becomes one (``rejected``). What this server sends itself
    (source ``system``) is not counted.
    """
    if not changes:
        return
    everything = total(changes.values())
    micros = clock.to_micros(submitted_at)
    local, domain = addresses.split(sender)
    places = [(INSTANCE, ALL_SENDERS), *((account_id, name) for name in (ALL_SENDERS, domain, base(local, domain)))]
    _OUTBOUND_HOURS.add(
        conn,
        [
            {"account_id": account, "sender": name, "hour": micros - micros % HOUR, **everything._asdict()}
            for account, name in places
        ],
    )
    spans = _spans_around(micros, DAYS)
    counted = [(name, delta) for name, delta in sorted(changes.items()) if any(delta[:3])]
    _OUTBOUND_DOMAINS.add(
        conn,
        [
            {
                "account_id": account,
                "sender": name,
                "hours": length,
                "begins_at": begins_at,
                "domain": recipient_domain,
                "delivered": delta.delivered,
                "bounced": delta.bounced,
                "deferred": delta.deferred,
            }
            for account, name in places
            for length, begins_at in spans
            for recipient_domain, delta in counted
        ],
    )


def total(deltas: Iterable[Delta]) -> Delta:
    """The sum of them."""
    return Delta(*map(sum, zip(*deltas, strict=True)))


def period(start: datetime, end: datetime, now: datetime) -> Period:
    """From ``start`` through the second of ``end``.

    What is not over yet is taken to the end of the longest span: there is nothing in it to be cut off.
    """
    until = clock.to_micros(end.replace(microsecond=0) + timedelta(seconds=1))
    if until > clock.to_micros(now):
        until += -until % (DAYS[-1] * HOUR)
    return Period(clock.to_micros(start), until)


@scanning
def outbound_by_time(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, unit: int
) -> dict[int, Delta]:
    """Recipients by the ``HOUR`` or ``DAY`` (``unit``) that begins at the key; those without any are left out.

    Of an account or the ``INSTANCE``; ``senders``: ``ALL_SENDERS``, one domain, or addresses without their tags.
    ``rejected`` knows only hours, so one that the period cuts counts whole in it.
    """
    whole, cuts = _cut(within, HOUR)
    mine = _counted(_h, account_id, senders)
    sums = [cast(func.sum(_h[name]), BigInteger) for name in Delta._fields]
    at = _h.hour if unit == HOUR else (_h.hour - _h.hour % unit).label("begins_at")
    hours = select(at, *sums).where(*mine, _h.hour >= whole.since, _h.hour < whole.until).group_by(at)
    found = {row[0]: Delta._make(row[1:]) for row in conn.execute(hours)}
    for cut in cuts:
        begins_at = cut.since - cut.since % unit
        each = _rows(account_id, senders, cut, _t.domain).subquery().c
        rows: Any = conn.execute(select(*[cast(func.sum(each[name]), BigInteger) for name in Delta._fields[:3]])).one()
        rejected = select(func.sum(_h.rejected)).where(*mine, _h.hour == cut.since - cut.since % HOUR)
        refused = conn.execute(rejected).scalar_one() or 0
        cut_off = Delta(rows[0] or 0, rows[1] or 0, rows[2] or 0, int(refused))
        found[begins_at] = total([found.get(begins_at, Delta()), cut_off])
    return {begins_at: delta for begins_at, delta in found.items() if any(delta)}


@scanning
def outbound_by_domain(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, limit: int
) -> list[tuple[str, Delta]]:
    """The recipient domains with the most recipients, refused ones not among them; of whom: as above."""
    spans, cuts = _spans_within(within, DAYS)
    counted = select(_d.domain, _d.delivered, _d.bounced, _d.deferred).where(*_counted(_d, account_id, senders))
    pieces = [
        counted.where(_d.hours == length, _d.begins_at >= span.since, _d.begins_at < span.until)
        for length, span in spans
    ]
    pieces += [_rows(account_id, senders, cut, _t.domain) for cut in cuts]
    each = union_all(*pieces).subquery().c
    sums = [cast(func.sum(each[name]), BigInteger) for name in Delta._fields[:3]]
    most = func.sum(each.delivered + each.bounced + each.deferred)
    found = conn.execute(
        select(each.domain, *sums).group_by(each.domain).order_by(desc(most), each.domain).limit(limit)
    )
    return [(row[0], Delta(*row[1:])) for row in found if any(row[1:])]


@scanning
def top_senders(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, limit: int
) -> list[tuple[str, Delta]]:
    """The sender addresses with the most recipients, counted from submissions; of whom: as above."""
    sums = [cast(func.sum(column), BigInteger) for column in (_s.sent, _s.bounced, _s.deferred)]
    most = func.sum(_s.sent + _s.bounced + _s.deferred)
    counted = select(_s.sender, *sums).where(*_submitted(account_id, senders, within)).group_by(_s.sender)
    found = conn.execute(counted.order_by(desc(most), _s.sender).limit(limit))
    return [(sender, Delta(*counts)) for sender, *counts in found if any(counts)]


@scanning
def queue(conn: ReadConn, account_id: AccountId, senders: Sequence[str]) -> Queue:
    """What is on its way at the moment; of whom: as above."""
    waiting = _s.recipients - _s.sent - _s.bounced - _s.deferred
    sums = [func.coalesce(cast(func.sum(column), BigInteger), 0) for column in (waiting, _s.deferred)]
    statement = select(func.count(), *sums, func.min(_s.submitted_at)).where(_s.status == _SUBMITTED)
    row: Any = conn.execute(statement.where(*_sent(account_id, senders))).one()
    messages, pending, deferred, oldest_at = row
    return Queue(messages, pending, deferred, clock.optional_from_micros(oldest_at))


_RECEIVED = frozenset({"message.received"})


@scanning
def find_uncounted(conn: ReadConn, limit: int) -> Uncounted | None:
    """A piece of the event log with the next ``limit`` arrivals that are not counted, of any one account.

    For the standing job. Events that are kept no more were counted long ago.
    """
    a, x = tables.accounts.c, tables.inbound_cursors.c
    counted = func.coalesce(x.event_number, 0)
    behind = select(a.id, counted, a.events_pruned).where(a.event_number > counted, a.status != "removed")
    joined = behind.select_from(tables.accounts.outerjoin(tables.inbound_cursors, x.account_id == a.id))
    found = conn.execute(joined.order_by(a.id).limit(1)).first()
    if found is None:
        return None
    account_id, after, pruned = found
    page = events.list_after(conn, account_id, EventNumber(max(after, pruned)), limit, types=_RECEIVED)
    arrivals = Tally[tuple[str, int, str]]()
    for event in page.events:
        _, domain = addresses.split(event.body["recipient"])
        if not domain:
            continue  # put there by its owner
        hour = clock.to_micros(event.created_at) // HOUR * HOUR
        arrivals[domain, hour, event.body["sender"].rpartition("@")[2].lower()] += 1
    return Uncounted(AccountId(account_id), after, page.cursor, [Arrivals(*key, n) for key, n in arrivals.items()])


def count_arrivals(conn: WriteConn, account_id: AccountId, uncounted: Uncounted) -> bool:
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
            for length, begins_at in _spans_around(hour, HOURS):
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
def inbound_by_time(
    conn: ReadConn, account_id: AccountId, domain: str, within: Period, unit: int
) -> dict[int, Inbound]:
    """Recipients of a domain by the ``HOUR`` or ``DAY`` that begins at the key, in the hours that the period touches.

    Those of all domains are ``ALL_DOMAINS`` of the ``INSTANCE``.
    """
    at = _i.hour if unit == HOUR else (_i.hour - _i.hour % unit).label("begins_at")
    sums = [cast(func.sum(_i[name]), BigInteger) for name in Inbound._fields]
    found = conn.execute(select(at, *sums).where(*_came_to(account_id, domain, within)).group_by(at))
    return {row[0]: Inbound._make(row[1:]) for row in found}


def _came_to(account_id: AccountId, domain: str, within: Period) -> tuple[ColumnElement[bool], ...]:
    since, until = _touched(within)
    return _i.account_id == account_id, _i.domain == domain, _i.hour >= since, _i.hour < until


@scanning
def inbound_total(conn: ReadConn, account_id: AccountId, domain: str, within: Period) -> Inbound:
    """As ``inbound_by_time``, all in one."""
    sums = [func.coalesce(cast(func.sum(_i[name]), BigInteger), 0) for name in Inbound._fields]
    row: Any = conn.execute(select(*sums).where(*_came_to(account_id, domain, within))).one()
    return Inbound(*row)


@scanning
def inbound_senders(
    conn: ReadConn, account_id: AccountId, domain: str, within: Period, limit: int
) -> list[tuple[str, int]]:
    """The sender domains that most recipients of a domain had mail from, in the hours that the period touches."""
    mine = select(_f.sender_domain, _f.accepted).where(_f.account_id == account_id, _f.domain == domain)
    spans, _ = _spans_within(_touched(within), HOURS)
    pieces = [
        mine.where(_f.hours == length, _f.begins_at >= span.since, _f.begins_at < span.until) for length, span in spans
    ]
    each = union_all(*pieces).subquery().c
    count = cast(func.sum(each.accepted), BigInteger)
    ordered = select(each.sender_domain, count).group_by(each.sender_domain).order_by(desc(count), each.sender_domain)
    return [(row[0], row[1]) for row in conn.execute(ordered.limit(limit))]


def purge(conn: WriteConn, account_id: AccountId, limit: int) -> bool:
    """Delete up to ``limit`` counters of an account; False when there were none."""
    for table in _TABLES:
        keys = list(table.primary_key.columns)
        some = select(*keys).where(table.c.account_id == account_id).limit(limit)
        if conn.execute(delete(table).where(table.c.account_id == account_id, tuple_(*keys).in_(some))).rowcount:
            return True
    return False


def base(local: str, domain: str) -> str:
    """The sender that an address counts under: itself without its tag."""
    return f"{addresses.without_tag(local)}@{domain}"


def _counted(
    columns: ReadOnlyColumnCollection[str, Any], account_id: AccountId, senders: Sequence[str]
) -> tuple[ColumnElement[bool], ...]:
    return columns.account_id == account_id, columns.sender.in_(senders)


_OUTCOMES = tuple(
    case((_t.status == status, 1), else_=0).label(name)
    for name, status in (("delivered", "sent"), ("bounced", "bounced"), ("deferred", "deferred"))
)


def _rows(account_id: AccountId, senders: Sequence[str], within: Period, key: ColumnElement[Any]) -> Select[Any]:
    """The recipients of a piece of time as they are now, one row each."""
    in_it = _submitted(account_id, senders, within)
    return select(key, *_OUTCOMES).where(*in_it, _t.account_id == _s.account_id, _t.submission_id == _s.id)


def _submitted(account_id: AccountId, senders: Sequence[str], within: Period) -> list[ColumnElement[bool]]:
    """Which rows of ``submissions`` were submitted in a period, by whom."""
    return [*_sent(account_id, senders), _s.submitted_at >= within.since, _s.submitted_at < within.until]


def _sent(account_id: AccountId, senders: Sequence[str]) -> list[ColumnElement[bool]]:
    everyone = select(tables.accounts.c.id)
    account = _s.account_id.in_(everyone) if account_id == INSTANCE else _s.account_id == account_id
    by = [] if ALL_SENDERS in senders else [or_(false(), *map(_sent_by, senders))]
    return [account, _s.source != "system", *by]


def _sent_by(sender: str) -> ColumnElement[bool]:
    local, domain = addresses.split(sender)
    if not local:
        return _s.sender_domain == domain
    tagged = and_(_s.sender.startswith(f"{local}+", autoescape=True), _s.sender.endswith(f"@{domain}", autoescape=True))
    return or_(_s.sender == sender, tagged)


def _touched(within: Period) -> Period:
    """The period with the hours it cuts whole."""
    return Period(within.since // HOUR * HOUR, -(-within.until // HOUR) * HOUR)


def _cut(within: Period, unit: int) -> tuple[Period, list[Period]]:
    """The whole units of a period, and the pieces that are left over: none, one or two."""
    first, last = -(-within.since // unit) * unit, within.until // unit * unit
    if first > last:  # inside one unit
        return Period(first, first), [within]
    ends = Period(within.since, first), Period(last, within.until)
    return Period(first, last), [piece for piece in ends if piece.since < piece.until]


def _spans_around(micros: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """The span of each length (in hours) that a moment is in: its length and its beginning."""
    return [(length, micros - micros % (length * HOUR)) for length in lengths]


def _spans_within(within: Period, lengths: Sequence[int]) -> tuple[list[tuple[int, Period]], list[Period]]:
    """A period as spans, the longest possible, and what is left over at its ends; runs of one length are together."""
    spans, left = [], [within]
    for length in reversed(lengths):
        cuts = [_cut(piece, length * HOUR) for piece in left]
        spans += [(length, whole) for whole, _ in cuts if whole.since < whole.until]
        left = [piece for _, pieces in cuts for piece in pieces]
    return spans, left
