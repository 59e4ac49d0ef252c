"""Statistics: recipients counted as things happen, by the hour, by sender and by domain.

Outbound counts belong to the hour in which the message was submitted, whatever happens to it later: a recipient that
is delivered at last leaves ``deferred`` and joins ``delivered`` there. A period that cuts an hour (or, for recipient
domains, a day) has that piece counted from its rows, so that every period is exact.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    case,
    cast,
    desc,
    false,
    func,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from restante import clock
from restante.core import periods
from restante.core.periods import HOUR, NEVER, SPANS, Period
from restante.ids import AccountId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.batches import delete_some
from restante.schema.connections import ReadConn, WriteConn, scanning
from restante.schema.counters import Counter
from restante.schema.prepared import Prepared

INSTANCE = AccountId(0)  # counts what all accounts send
ALL_SENDERS = ""
SHAPES = 64  # of questions whose statements are kept

_h, _d = tables.outbound_hours.c, tables.outbound_domains.c
_s, _t = tables.submissions.c, tables.transfers.c
_SUBMITTED: ColumnElement[str] = literal_column("'submitted'")  # in the statement's text, as the partial index wants it
_OUTBOUND_HOURS = Counter(tables.outbound_hours)
_OUTBOUND_DOMAINS = Counter(tables.outbound_domains)
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


class Queue(NamedTuple):
    """Messages on their way and those of their recipients that wait: for a first try, or for another."""

    messages: int
    pending: int
    deferred: int
    oldest_at: datetime | None  # when the first of the messages was submitted


Slot = tuple[int, int, int, int, int]
"""When an hour or a day begins, and its recipients in the order of ``Delta``. Bare, because a year has 9,000 hours."""


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
    spans = periods.spans_around(micros, SPANS)
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


@scanning
def outbound_by_time(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, unit: int
) -> list[Slot]:
    """Recipients by ``HOUR`` or ``DAY`` (``unit``), newest first; those without any are left out.

    Of an account or the ``INSTANCE``; ``senders``: ``ALL_SENDERS``, one domain, or addresses without their tags.
    ``rejected`` knows only hours, so one that the period cuts counts whole in it.
    """
    shape, values = _asked(account_id, senders)
    whole, cuts = periods.cut(within, HOUR)
    found = _by_time(shape, unit).rows(conn, {**values, **whole._asdict()})
    for cut in cuts:
        counted = _cut_off(conn, shape, values, cut)
        if any(counted):
            _join(found, cut.since - cut.since % unit, counted)
    return found


def _join(found: list[Slot], begins_at: int, counted: Delta) -> None:
    """Add what a period cut off to its slot, which is the newest, the oldest, or not there yet."""
    for place in (0, -1) if found else ():
        if found[place][0] == begins_at:
            found[place] = (begins_at, *total([Delta(*found[place][1:]), counted]))
            return
    is_newest = bool(found) and begins_at > found[0][0]
    found.insert(0 if is_newest else len(found), (begins_at, *counted))


@scanning
def outbound_total(conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period) -> Delta:
    """As ``outbound_by_time``, all in one."""
    shape, values = _asked(account_id, senders)
    whole, cuts = periods.cut(within, HOUR)
    row: Any = _in_all(shape).row(conn, {**values, **whole._asdict()})
    return total([Delta(*row), *(_cut_off(conn, shape, values, cut) for cut in cuts)])


def _cut_off(conn: ReadConn, shape: "_Shape", values: Mapping[str, Any], cut: Period) -> Delta:
    """A piece of an hour, counted from its rows; those that were refused have none, and count by the hour."""
    row: Any = _cut_from(shape).row(conn, {**values, **cut._asdict(), "hour": cut.since - cut.since % HOUR})
    return Delta(*row)


@scanning
def outbound_by_domain(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, limit: int
) -> list[tuple[str, Delta]]:
    """The recipient domains with the most recipients, refused ones not among them; of whom: as above."""
    shape, values = _asked(account_id, senders)
    given = {**values, **periods.numbered(periods.pieces(within, SPANS[::-1])), "limit": limit}
    return [
        (name, Delta(*counts)) for name, *counts in _by_domain(shape, is_sum=False).rows(conn, given) if any(counts)
    ]


@scanning
def top_recipients(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, limit: int
) -> list[tuple[str, int]]:
    """As ``outbound_by_domain``, but for what became of them: it is a quarter less work."""
    shape, values = _asked(account_id, senders)
    given = {**values, **periods.numbered(periods.pieces(within, SPANS[::-1])), "limit": limit}
    return [(name, count) for name, count in _by_domain(shape, is_sum=True).rows(conn, given) if count]


@scanning
def top_senders(
    conn: ReadConn, account_id: AccountId, senders: Sequence[str], within: Period, limit: int
) -> list[tuple[str, Delta]]:
    """The sender addresses with the most recipients, counted from submissions; of whom: as above."""
    shape, values = _asked(account_id, senders)
    rows = _top_senders(shape).rows(conn, {**values, **within._asdict(), "limit": limit})
    return [(sender, Delta(*counts)) for sender, *counts in rows if any(counts)]


@scanning
def queue(conn: ReadConn, account_id: AccountId, senders: Sequence[str]) -> Queue:
    """What is on its way at the moment; of whom: as above."""
    shape, values = _asked(account_id, senders)
    row: Any = _queue(shape).row(conn, values)
    messages, pending, deferred, oldest_at = row
    return Queue(messages, pending, deferred, clock.optional_from_micros(oldest_at))


# --- the statements: one for each shape of a question, as writing one anew takes longer than most answers


_OUTCOMES = {"delivered": "sent", "bounced": "bounced", "deferred": "deferred"}  # counter: status of a recipient


class _Shape(NamedTuple):
    """Of whom is asked: of all accounts?, and is each sender everyone (""), a domain or an address ("@")?"""

    is_everywhere: bool
    senders: tuple[str, ...]


def _asked(account_id: AccountId, senders: Sequence[str]) -> tuple[_Shape, dict[str, Any]]:
    """The shape of a question, and the values for its statement."""
    values: dict[str, Any] = {"account": account_id}
    kinds = []
    for place, sender in enumerate(senders):
        local, domain = addresses.split(sender)
        kinds.append("@" if local else sender and "domain")
        values[f"sender{place}"] = sender
        values[f"tagged{place}"] = f"{_literally(local)}+%@{_literally(domain)}"
    return _Shape(account_id == INSTANCE, tuple(kinds)), values


def _literally(text: str) -> str:
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(cast(func.sum(column), BigInteger), 0)


_SINCE, _UNTIL = bindparam("since", type_=BigInteger), bindparam("until", type_=BigInteger)
_IN_PERIOD = _h.hour >= _SINCE, _h.hour < _UNTIL


def _counted(columns: ReadOnlyColumnCollection[str, Any], shape: _Shape) -> tuple[ColumnElement[bool], ...]:
    """Which counters."""
    named: list[ColumnElement[str]] = [bindparam(f"sender{place}") for place in range(len(shape.senders))]
    return columns.account_id == bindparam("account"), columns.sender.in_(named)


def _sent(shape: _Shape) -> list[ColumnElement[bool]]:
    """Which submissions."""
    everyone = select(tables.accounts.c.id)
    account = _s.account_id.in_(everyone) if shape.is_everywhere else _s.account_id == bindparam("account")
    by = [] if ALL_SENDERS in shape.senders else [or_(false(), *itertools.starmap(_sent_by, enumerate(shape.senders)))]
    return [account, _s.source != "system", *by]


def _sent_by(place: int, kind: str) -> ColumnElement[bool]:
    sender: ColumnElement[str] = bindparam(f"sender{place}")
    if kind != "@":
        return _s.sender_domain == sender
    return or_(_s.sender == sender, _s.sender.like(bindparam(f"tagged{place}"), escape="/"))


def _rows(shape: _Shape, since: ColumnElement[int], until: ColumnElement[int]) -> Select[Any]:
    """The recipients of a piece of time as they are now, one row each."""
    in_it = _s.submitted_at >= since, _s.submitted_at < until
    joined = _t.account_id == _s.account_id, _t.submission_id == _s.id
    each = [case((_t.status == status, 1), else_=0).label(name) for name, status in _OUTCOMES.items()]
    return select(_t.domain, *each).where(*_sent(shape), *in_it, *joined)


@lru_cache(maxsize=SHAPES)
def _by_time(shape: _Shape, unit: int) -> Prepared:
    """The whole hours of a period. One hour of one sender is one row: a year of them is not grouped."""
    in_it = *_counted(_h, shape), *_IN_PERIOD, _h.delivered + _h.bounced + _h.deferred + _h.rejected > 0
    if unit == HOUR and len(shape.senders) == 1:
        return Prepared(select(_h.hour, *(_h[name] for name in Delta._fields)).where(*in_it).order_by(_h.hour.desc()))
    at = (_h.hour - _h.hour % unit).label("begins_at")
    sums = [_sum(_h[name]) for name in Delta._fields]
    return Prepared(select(at, *sums).where(*in_it).group_by(at).order_by(at.desc()))


@lru_cache(maxsize=SHAPES)
def _in_all(shape: _Shape) -> Prepared:
    return Prepared(select(*(_sum(_h[name]) for name in Delta._fields)).where(*_counted(_h, shape), *_IN_PERIOD))


@lru_cache(maxsize=SHAPES)
def _cut_from(shape: _Shape) -> Prepared:
    each = _rows(shape, _SINCE, _UNTIL).subquery().c
    refused = select(_sum(_h.rejected)).where(*_counted(_h, shape), _h.hour == bindparam("hour"))
    return Prepared(select(*(_sum(each[name]) for name in _OUTCOMES), refused.scalar_subquery()))


@lru_cache(maxsize=SHAPES)
def _by_domain(shape: _Shape, *, is_sum: bool) -> Prepared:
    """Domains with their recipients by what became of them, or all in one."""
    parts = []
    for place, (_, hours, _) in enumerate(periods.pieces(NEVER, SPANS[::-1])):
        since, until, sign = (bindparam(f"{name}{place}", type_=BigInteger) for name in ("since", "until", "sign"))
        run = *_counted(_d, shape), _d.hours == hours, _d.begins_at >= since, _d.begins_at < until
        counts = (select(tables.outbound_domains).where(*run) if hours else _rows(shape, since, until)).subquery().c
        each = [counts[name] for name in _OUTCOMES]
        wanted = [sum(each[1:], start=each[0])] if is_sum else each
        parts.append(select(counts.domain, *((sign * count).label(f"n{at}") for at, count in enumerate(wanted))))
    domain, *numbers = union_all(*parts).subquery().c
    most = func.sum(sum(numbers[1:], start=numbers[0]))
    sums = select(domain, *map(_sum, numbers)).group_by(domain)
    return Prepared(sums.order_by(desc(most), domain).limit(bindparam("limit")))


@lru_cache(maxsize=SHAPES)
def _top_senders(shape: _Shape) -> Prepared:
    in_it = _s.submitted_at >= _SINCE, _s.submitted_at < _UNTIL
    most = func.sum(_s.sent + _s.bounced + _s.deferred)
    sums = [_sum(column) for column in (_s.sent, _s.bounced, _s.deferred)]
    counted = select(_s.sender, *sums).where(*_sent(shape), *in_it).group_by(_s.sender)
    return Prepared(counted.order_by(desc(most), _s.sender).limit(bindparam("limit")))


@lru_cache(maxsize=SHAPES)
def _queue(shape: _Shape) -> Prepared:
    waiting = _s.recipients - _s.sent - _s.bounced - _s.deferred
    found = select(func.count(), _sum(waiting), _sum(_s.deferred), func.min(_s.submitted_at))
    return Prepared(found.where(_s.status == _SUBMITTED, *_sent(shape)))


def purge(conn: WriteConn, account_id: AccountId, limit: int) -> bool:
    """Delete up to ``limit`` counters of an account; False when there were none."""
    return any(delete_some(conn, table, limit, table.c.account_id == account_id) for table in _TABLES)


def base(local: str, domain: str) -> str:
    """The sender that an address counts under: itself without its tag."""
    return f"{addresses.without_tag(local)}@{domain}"
