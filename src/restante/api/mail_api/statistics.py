"""Endpoints 9 and 10: what became of mail that was sent, and a domain's mail in both directions.

The contract names five more without their shapes (per user, inbound, top senders, queue, summary): those here are ours.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from restante.api.mail_api import auth, paging, shapes
from restante.api.mail_api import statistics_shapes as forms
from restante.clock import from_micros, to_micros
from restante.core import access, domains, inbound, mailboxes, periods, permissions, statistics
from restante.core.access import Principal
from restante.core.inbound import Inbound
from restante.core.mailboxes import Mailbox
from restante.core.periods import DAY, HOUR, Period
from restante.core.statistics import Delta, Queue, Slot
from restante.errors import Invalid
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.ids import AccountId, MailboxId
from restante.mail import address as addresses
from restante.schema.connections import ReadConn, scanning

DEFAULT_DAYS = timedelta(days=7)
LONGEST = timedelta(days=366)
LONGEST_OF_SENDERS = timedelta(days=31)  # counted from rows
TOP_ROWS = 100  # recipient domains in a breakdown
TOP_DOMAINS = 10

Key = str | UnsetType


class Asked(NamedTuple):
    """A period as it was asked for; ``within`` is what is counted."""

    start: datetime
    end: datetime
    within: Period


class Scope(NamedTuple):
    """Whose mail is counted, as ``core.statistics`` takes it."""

    account_id: AccountId
    senders: tuple[str, ...] = (statistics.ALL_SENDERS,)


class Delivery(NamedTuple):
    """Counts as read in one transaction: all together, and by hour, day or recipient domain."""

    total: Delta
    by_time: list[Slot]
    by_domain: list[tuple[str, Delta]]


class Sent(NamedTuple):
    """What a domain sent."""

    domain: str
    total: Delta
    top_recipients: list[tuple[str, int]]


class Received(NamedTuple):
    """What came to a domain."""

    total: Inbound
    top_senders: list[tuple[str, int]]


async def get_delivery(call: Call) -> Answer:
    """Count recipients by what became of them, by day, hour or recipient domain.

    A user token sees what its own addresses sent; with `view_stats` on a domain, `sender` may be the domain or any of
    its addresses. A recipient counts in the period in which its message was submitted; refused ones are counted by the
    hour.
    """
    caller = await auth.require(call)
    query = schemas.query(call, forms.DeliveryQuery)
    asked = require_period(query, call.rt.clock.now())
    sender = require_sender(query.sender)
    found = await call.rt.db.read(read_delivery, caller.principal, sender, query.group_by, asked.within)
    breakdown = _breakdown(found, query.group_by, asked)
    shape = forms.DeliveryStatistics(True, _span(asked), _summary(found.total), breakdown)
    return shapes.answer(shape)


async def get_domain(call: Call) -> Answer:
    """Count a domain's outbound and inbound mail, with the domains most of it went to and came from.

    Needs `view_stats` on the domain. Inbound counts are by the hour and follow within seconds.
    """
    caller = await auth.require(call)
    asked = require_period(schemas.query(call, forms.PeriodQuery), call.rt.clock.now())
    whose = caller.principal, call.params["domain"], asked.within
    reads = call.rt.db.read(read_sent, *whose), call.rt.db.read(read_received, *whose)  # neither is short: side by side
    sent, received = await asyncio.gather(*reads)
    delivered, bounced, deferred, _ = sent.total
    recipients = [forms.DomainCount(*one) for one in sent.top_recipients]
    outbound = forms.OutboundCounts(delivered + bounced + deferred, delivered, bounced, deferred, recipients)
    accepted, rejected, spam = received.total
    senders = [forms.DomainCount(*one) for one in received.top_senders]
    came = forms.InboundCounts(accepted + rejected, accepted, rejected, spam, senders)
    return shapes.answer(forms.DomainStatistics(True, sent.domain, _span(asked), outbound, came))


async def get_user(call: Call) -> Answer:
    """Count what a user's addresses sent, and what its mailbox holds. Needs `view_stats` for other users."""
    caller = await auth.require(call)
    asked = require_period(schemas.query(call, forms.PeriodQuery), call.rt.clock.now())
    mailbox, total = await call.rt.db.read(read_user, caller.principal, call.params["email"], asked.within)
    held = forms.MailboxFigures(mailbox.messages, mailbox.used_bytes, mailbox.quota_bytes)
    return shapes.answer(forms.UserStatistics(True, mailbox.address, _span(asked), _summary(total), held))


async def get_inbound(call: Call) -> Answer:
    """Count mail from outside, by day or hour. Needs `view_stats` on `domain`; without one, an admin's token.

    Counts are by the hour and follow within seconds.
    """
    caller = await auth.require(call)
    query = schemas.query(call, forms.InboundQuery)
    asked = require_period(query, call.rt.clock.now())
    unit = HOUR if query.group_by == "hour" else DAY
    name, found = await call.rt.db.read(read_inbound, caller.principal, query.domain, asked.within, unit)
    total = Inbound(*map(sum, zip(*found.values(), strict=True)))
    if query.group_by == "hour":
        rows = [forms.InboundRow(hour=_hour(at), **_came(one)) for at, one in sorted(found.items(), reverse=True)]
    else:
        days = {at // DAY: one for at, one in found.items()}
        rows = [forms.InboundRow(date=_date(day), **_came(days.get(day, Inbound()))) for day in _days(asked)]
    summary = forms.InboundSummary(**_came(total))
    return shapes.answer(forms.InboundStatistics(True, name, _span(asked), summary, rows))


async def list_senders(call: Call) -> Answer:
    """List the sender addresses with the most recipients, of a domain (needs `view_stats`) or of all (admin tokens)."""
    caller = await auth.require(call)
    query = schemas.query(call, forms.SendersQuery)
    asked = require_period(query, call.rt.clock.now(), LONGEST_OF_SENDERS)
    found = await call.rt.db.read(read_senders, caller.principal, query.domain, asked.within, query.limit)
    rows = [forms.SenderRow(sender, sum(delta), *delta[:3]) for sender, delta in found]
    return shapes.answer(forms.TopSenders(True, _span(asked), rows))


async def get_queue(call: Call) -> Answer:
    """Count what is on its way: all, or of one sender. Access as for delivery statistics."""
    caller = await auth.require(call)
    sender = require_sender(schemas.query(call, forms.SenderQuery).sender)
    found = await call.rt.db.read(read_queue, caller.principal, sender)
    return shapes.answer(forms.QueueStatistics(True, _queue(found)))


async def get_summary(call: Call) -> Answer:
    """Show a dashboard: today, the last 7 and 30 days, the queue. Access as for delivery statistics."""
    caller = await auth.require(call)
    sender = require_sender(schemas.query(call, forms.SenderQuery).sender)
    now = call.rt.clock.now()
    today = datetime.combine(now.date(), time(), UTC)
    starts = [today - timedelta(days=days) for days in (0, 7, 30)]
    asked = [periods.through(start, now, now) for start in starts]
    totals, queue = await call.rt.db.read(read_summary, caller.principal, sender, asked)
    day, week, month = map(_summary, totals)
    return shapes.answer(forms.Summary(True, day, week, month, _queue(queue)))


@scanning
def read_delivery(conn: ReadConn, principal: Principal, sender: str, group_by: str, within: Period) -> Delivery:
    """The counts that the principal may see. Errors: Forbidden ``access_denied``."""
    scope = require_scope(conn, principal, sender)
    if group_by == "domain":
        by_domain = statistics.outbound_by_domain(conn, *scope, within, TOP_ROWS)
        return Delivery(statistics.outbound_total(conn, *scope, within), [], by_domain)
    by_time = statistics.outbound_by_time(conn, *scope, within, HOUR if group_by == "hour" else DAY)
    _, *counts = map(sum, zip(*by_time, strict=True)) if by_time else (0, *Delta())
    return Delivery(Delta(*counts), by_time, [])


@scanning
def read_sent(conn: ReadConn, principal: Principal, name: str, within: Period) -> Sent:
    """Outbound counts of a domain that the principal may see. Errors: Forbidden, NotFound ``domain_not_found``."""
    domain = access.require_domain(conn, principal, name, permissions.VIEW_STATS)
    scope = Scope(domain.account_id, (domain.name,))
    total = statistics.outbound_total(conn, *scope, within)
    return Sent(domain.name, total, statistics.top_recipients(conn, *scope, within, TOP_DOMAINS))


@scanning
def read_received(conn: ReadConn, principal: Principal, name: str, within: Period) -> Received:
    """Inbound counts of a domain that the principal may see. Errors: Forbidden, NotFound ``domain_not_found``."""
    domain = access.require_domain(conn, principal, name, permissions.VIEW_STATS)
    place = conn, domain.account_id, domain.name, within
    return Received(inbound.total(*place), inbound.top_senders(*place, TOP_DOMAINS))


@scanning
def read_user(conn: ReadConn, principal: Principal, address: str, within: Period) -> tuple[Mailbox, Delta]:
    """A user's mailbox and what its addresses sent. Errors: Forbidden, NotFound ``mailbox_not_found``."""
    mailbox = access.require_mailbox(conn, principal, address, permissions.VIEW_STATS)
    own = tuple(_senders(conn, mailbox.account_id, mailbox.id, mailbox.address))
    return mailbox, statistics.outbound_total(conn, mailbox.account_id, own, within)


@scanning
def read_inbound(
    conn: ReadConn, principal: Principal, name: str, within: Period, unit: int
) -> tuple[str | None, dict[int, Inbound]]:
    """A domain's counts, or all domains' for the operator. Errors: Forbidden, NotFound ``domain_not_found``."""
    if not name:
        access.require_operator(principal)
        everything = inbound.by_time(conn, statistics.INSTANCE, inbound.ALL_DOMAINS, within, unit)
        return None, everything
    domain = access.require_domain(conn, principal, name, permissions.VIEW_STATS)
    return domain.name, inbound.by_time(conn, domain.account_id, domain.name, within, unit)


@scanning
def read_senders(
    conn: ReadConn, principal: Principal, name: str, within: Period, limit: int
) -> list[tuple[str, Delta]]:
    """A domain's senders, or all for the operator. Errors: Forbidden, NotFound ``domain_not_found``."""
    scope = Scope(statistics.INSTANCE)
    if name:
        domain = access.require_domain(conn, principal, name, permissions.VIEW_STATS)
        scope = Scope(domain.account_id, (domain.name,))
    else:
        access.require_operator(principal)
    return statistics.top_senders(conn, *scope, within, limit)


@scanning
def read_queue(conn: ReadConn, principal: Principal, sender: str) -> Queue:
    """What the principal may see of the queue. Errors: Forbidden ``access_denied``."""
    return statistics.queue(conn, *require_scope(conn, principal, sender))


@scanning
def read_summary(
    conn: ReadConn, principal: Principal, sender: str, asked: Sequence[Period]
) -> tuple[list[Delta], Queue]:
    """Totals of some periods, and the queue. Errors: Forbidden ``access_denied``."""
    scope = require_scope(conn, principal, sender)
    totals = [statistics.outbound_total(conn, *scope, each) for each in asked]
    return totals, statistics.queue(conn, *scope)


def require_scope(conn: ReadConn, principal: Principal, sender: str) -> Scope:
    """Whose mail to count for a sender ("": all that the principal may see). Errors: Forbidden ``access_denied``.

    Nobody's mail counts for a sender of a domain that is not here: only the operator gets so far.
    """
    if principal.kind == "account":
        return Scope(principal.account_id, (sender,))
    if principal.kind == "operator":
        if not sender:
            return Scope(statistics.INSTANCE)
        domain = domains.find_by_name(conn, addresses.split(sender)[1])
        return Scope(principal.account_id if domain is None else domain.account_id, (sender,))
    own = set[str]()
    if principal.mailbox_id is not None and principal.address is not None:
        own = _senders(conn, principal.account_id, principal.mailbox_id, principal.address)
    if not sender or sender in own:
        return Scope(principal.account_id, tuple(own & {sender} or own))
    domain = access.require_domain(conn, principal, addresses.split(sender)[1], permissions.VIEW_STATS)
    return Scope(domain.account_id, (sender,))


def _senders(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, address: str) -> set[str]:
    """What a user's mail counts under: its address and the aliases that it may send as."""
    aliases = [one.address for one in mailboxes.list_aliases(conn, account_id, mailbox_id) if one.may_send]
    return {statistics.base(*addresses.split(one)) for one in (address, *aliases)}


def require_sender(text: str) -> str:
    """A sender as it is counted: an address without its tag, or a domain; "" stays. Errors: Invalid."""
    try:
        if "@" in text:
            return statistics.base(*addresses.split(addresses.normalise(text)))
        return domains.normalise_name(text) if text else ""
    except Invalid as error:
        wrong = {"sender": "Neither an address nor a domain."}
        raise Invalid("sender: neither an address nor a domain.", details=wrong) from error


def require_period(query: forms.PeriodQuery, now: datetime, longest: timedelta = LONGEST) -> Asked:
    """The period of a query, its defaults filled in. Errors: Invalid (``start_date``, ``end_date``)."""
    end = paging.moment("end_date", query.end_date, time(23, 59, 59)) if query.end_date else now
    start = paging.moment("start_date", query.start_date, time()) if query.start_date else None
    if start is None:
        start = datetime.combine((end - DEFAULT_DAYS).date(), time(), UTC)
    if start > end:
        raise paging.wrong("start_date", "It is after end_date.")
    if end - start > longest:
        raise paging.wrong("start_date", f"The period is longer than {longest.days} days.")
    return Asked(start, end, periods.through(start, end, now))


def rate(total: Delta) -> float:
    """Delivered ones in percent of all, to one decimal; 0 of none."""
    return round(100 * total.delivered / sum(total), 1) if sum(total) else 0.0


def _breakdown(found: Delivery, group_by: str, asked: Asked) -> list[forms.DeliveryRow]:
    match group_by:
        case "domain":
            return [_row(*delta[:3], domain=name) for name, delta in found.by_domain]
        case "hour":
            return [
                forms.DeliveryRow(UNSET, _hours(at // DAY)[at // HOUR % 24], UNSET, sent, delivered, bounced, deferred)
                for at, delivered, bounced, deferred, _ in found.by_time
                if (sent := delivered + bounced + deferred)
            ]
    days = {at // DAY: counts for at, *counts, _ in found.by_time}
    return [_row(*days.get(day, (0, 0, 0)), date=_date(day)) for day in _days(asked)]


def _days(asked: Asked) -> range:
    """The days of a period, counted from 1970, newest first."""
    return range(to_micros(asked.end) // DAY, to_micros(asked.start) // DAY - 1, -1)


def _date(day: int) -> str:
    return from_micros(day * DAY).date().isoformat()


@lru_cache(maxsize=LONGEST.days)
def _hours(day: int) -> tuple[str, ...]:
    """The hours of a day as JSON shows times: a year has thousands, which the general way would take the most of."""
    return tuple(f"{_date(day)}T{hour:02}:00:00Z" for hour in range(24))


def _hour(at: int) -> str:
    return _hours(at // DAY)[at // HOUR % 24]


def _row(delivered: int, bounced: int, deferred: int, *, date: Key = UNSET, domain: Key = UNSET) -> forms.DeliveryRow:
    return forms.DeliveryRow(date, UNSET, domain, delivered + bounced + deferred, delivered, bounced, deferred)


def _summary(total: Delta) -> forms.DeliverySummary:
    return forms.DeliverySummary(sum(total), *total, delivery_rate=rate(total))


def _came(one: Inbound) -> dict[str, Any]:
    return {"total": one.accepted + one.rejected, **one._asdict()}


def _queue(found: Queue) -> forms.QueueCounts:
    oldest = None if found.oldest_at is None else shapes.moment(found.oldest_at)
    return forms.QueueCounts(found.messages, found.pending, found.deferred, oldest)


def _span(asked: Asked) -> forms.Span:
    return forms.Span(shapes.moment(asked.start), shapes.moment(asked.end))
