"""Endpoints 9 and 10: what became of mail that was sent, and a domain's mail in both directions."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

from restante.api.mail_api import auth, paging, shapes
from restante.clock import from_micros
from restante.core import access, domains, mailboxes, permissions, statistics
from restante.core.access import Principal
from restante.core.statistics import DAY, HOUR, Delta, Inbound, Period
from restante.errors import Invalid
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.ids import AccountId
from restante.mail import address as addresses
from restante.schema.connections import ReadConn, scanning

DEFAULT_DAYS = timedelta(days=7)
LONGEST = timedelta(days=366)
TOP_ROWS = 100  # recipient domains in a breakdown
TOP_DOMAINS = 10


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
    """Counts as read in one transaction: by the beginning of a day or an hour, or by recipient domain."""

    by_time: dict[int, Delta]
    by_domain: list[tuple[str, Delta]]


class BothWays(NamedTuple):
    """A domain's counts as read in one transaction."""

    domain: str
    outbound: Delta
    top_recipients: list[tuple[str, Delta]]
    inbound: Inbound
    top_senders: list[tuple[str, int]]


async def get_delivery(call: Call) -> Answer:
    """Count recipients by what became of them, by day, hour or recipient domain.

    A user token sees what its own addresses sent; with `view_stats` on a domain, `sender` may be the domain or any of
    its addresses. A recipient counts in the period in which its message was submitted; refused ones are counted by the
    hour.
    """
    caller = await auth.require(call)
    query = schemas.query(call, shapes.DeliveryQuery)
    asked = require_period(query, call.rt.clock.now())
    sender = require_sender(query.sender)
    found = await call.rt.db.read(read_delivery, caller.principal, sender, query.group_by, asked.within)
    total = statistics.total(found.by_time.values())
    summary = shapes.DeliverySummary(sum(total), *total, delivery_rate=rate(total))
    shape = shapes.DeliveryStatistics(True, _span(asked), summary, _breakdown(found, query.group_by, asked))
    return shapes.answer(shape)


async def get_domain(call: Call) -> Answer:
    """Count a domain's outbound and inbound mail, with the domains most of it went to and came from.

    Needs `view_stats` on the domain. Inbound counts are by the hour and follow within seconds.
    """
    caller = await auth.require(call)
    asked = require_period(schemas.query(call, shapes.PeriodQuery), call.rt.clock.now())
    found = await call.rt.db.read(read_domain, caller.principal, call.params["domain"], asked.within)
    delivered, bounced, deferred, _ = found.outbound
    recipients = [shapes.DomainCount(name, sum(delta)) for name, delta in found.top_recipients]
    senders = [shapes.DomainCount(*one) for one in found.top_senders]
    sent = shapes.OutboundCounts(delivered + bounced + deferred, delivered, bounced, deferred, recipients)
    accepted, rejected, spam = found.inbound
    received = shapes.InboundCounts(accepted + rejected, accepted, rejected, spam, senders)
    return shapes.answer(shapes.DomainStatistics(True, found.domain, _span(asked), sent, received))


@scanning
def read_delivery(conn: ReadConn, principal: Principal, sender: str, group_by: str, within: Period) -> Delivery:
    """The counts that the principal may see. Errors: Forbidden ``access_denied``."""
    scope = require_scope(conn, principal, sender)
    by_time = statistics.outbound_by_time(conn, *scope, within, HOUR if group_by == "hour" else DAY)
    by_domain = statistics.outbound_by_domain(conn, *scope, within, TOP_ROWS) if group_by == "domain" else []
    return Delivery(by_time, by_domain)


@scanning
def read_domain(conn: ReadConn, principal: Principal, name: str, within: Period) -> BothWays:
    """The counts of a domain that the principal may see. Errors: Forbidden, NotFound ``domain_not_found``."""
    domain = access.require_domain(conn, principal, name, permissions.VIEW_STATS)
    account_id, scope = domain.account_id, Scope(domain.account_id, (domain.name,))
    return BothWays(
        domain.name,
        statistics.total(statistics.outbound_by_time(conn, *scope, within, DAY).values()),
        statistics.outbound_by_domain(conn, *scope, within, TOP_DOMAINS),
        statistics.inbound_total(conn, account_id, domain.name, within),
        statistics.inbound_senders(conn, account_id, domain.name, within, TOP_DOMAINS),
    )


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
    own = {statistics.base(*addresses.split(address)) for address in _own_addresses(conn, principal)}
    if not sender or sender in own:
        return Scope(principal.account_id, tuple(own & {sender} or own))
    domain = access.require_domain(conn, principal, addresses.split(sender)[1], permissions.VIEW_STATS)
    return Scope(domain.account_id, (sender,))


def _own_addresses(conn: ReadConn, principal: Principal) -> list[str]:
    if principal.mailbox_id is None or principal.address is None:
        return []
    aliases = mailboxes.list_aliases(conn, principal.account_id, principal.mailbox_id)
    return [principal.address, *(alias.address for alias in aliases)]


def require_sender(text: str) -> str:
    """A sender as it is counted: an address without its tag, or a domain; "" stays. Errors: Invalid."""
    try:
        if "@" in text:
            return statistics.base(*addresses.split(addresses.normalise(text)))
        return domains.normalise_name(text) if text else ""
    except Invalid as error:
        wrong = {"sender": "Neither an address nor a domain."}
        raise Invalid("sender: neither an address nor a domain.", details=wrong) from error


def require_period(query: shapes.PeriodQuery, now: datetime) -> Asked:
    """The period of a query, its defaults filled in. Errors: Invalid (``start_date``, ``end_date``)."""
    end = paging.moment("end_date", query.end_date, time(23, 59, 59)) if query.end_date else now
    start = paging.moment("start_date", query.start_date, time()) if query.start_date else None
    if start is None:
        start = datetime.combine((end - DEFAULT_DAYS).date(), time(), UTC)
    if start > end:
        raise paging.wrong("start_date", "It is after end_date.")
    if end - start > LONGEST:
        raise paging.wrong("start_date", f"The period is longer than {LONGEST.days} days.")
    return Asked(start, end, statistics.period(start, end, now))


def rate(total: Delta) -> float:
    """Delivered ones in percent of all, to one decimal; 0 of none."""
    return round(100 * total.delivered / sum(total), 1) if sum(total) else 0.0


def _breakdown(found: Delivery, group_by: str, asked: Asked) -> list[shapes.DeliveryRow]:
    match group_by:
        case "domain":
            return [_row(delta, domain=name) for name, delta in found.by_domain]
        case "hour":
            hours = sorted(found.by_time.items(), reverse=True)
            rows = [_row(delta, hour=from_micros(at)) for at, delta in hours]
            return [row for row in rows if row.sent]
    days = {from_micros(at).date(): delta for at, delta in found.by_time.items()}
    first, last = asked.start.date(), asked.end.date()
    every = [last - timedelta(days=back) for back in range((last - first).days + 1)]
    return [_row(days.get(day, Delta()), date=day.isoformat()) for day in every]


def _row(delta: Delta, **key: Any) -> shapes.DeliveryRow:
    delivered, bounced, deferred, _ = delta
    sent = delivered + bounced + deferred
    return shapes.DeliveryRow(sent=sent, delivered=delivered, bounced=bounced, deferred=deferred, **key)


def _span(asked: Asked) -> shapes.Span:
    return shapes.Span(shapes.moment(asked.start), shapes.moment(asked.end))
