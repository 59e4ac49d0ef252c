"""Statistics: recipients counted as things happen, by the hour, by sender and by domain.

Outbound counts belong to the hour in which the message was submitted, whatever happens to it later: a recipient that
is delivered at last leaves ``deferred`` and joins ``delivered`` there. A period that cuts an hour (or, for recipient
domains, a day) has that piece counted from its rows, so that every period is exact.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from restante import clock
from restante.ids import AccountId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.schema.counters import Counter

INSTANCE = AccountId(0)  # counts what all accounts send
ALL_SENDERS = ""
HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR

_OUTBOUND_HOURS = Counter(tables.outbound_hours)
_OUTBOUND_DOMAINS = Counter(tables.outbound_domains)


class Delta(NamedTuple):
    """Recipients that became this; negative for those that are it no longer."""

    delivered: int = 0
    bounced: int = 0
    deferred: int = 0
    rejected: int = 0


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
    total = Delta(*map(sum, zip(*changes.values(), strict=True)))
    micros = clock.to_micros(submitted_at)
    local, domain = addresses.split(sender)
    places = [(INSTANCE, ALL_SENDERS), *((account_id, name) for name in (ALL_SENDERS, domain, base(local, domain)))]
    _OUTBOUND_HOURS.add(
        conn,
        [
            {"account_id": account, "sender": name, "hour": micros - micros % HOUR, **total._asdict()}
            for account, name in places
        ],
    )
    spans = (("day", micros - micros % DAY), ("month", _month(micros)))
    counted = [(name, delta) for name, delta in sorted(changes.items()) if any(delta[:3])]
    _OUTBOUND_DOMAINS.add(
        conn,
        [
            {
                "account_id": account,
                "sender": name,
                "span": span,
                "begins_at": begins_at,
                "domain": recipient_domain,
                "delivered": delta.delivered,
                "bounced": delta.bounced,
                "deferred": delta.deferred,
            }
            for account, name in places
            for span, begins_at in spans
            for recipient_domain, delta in counted
        ],
    )


def base(local: str, domain: str) -> str:
    """The sender that an address counts under: itself without its tag."""
    return f"{addresses.without_tag(local)}@{domain}"


def _month(micros: int) -> int:
    """The first microsecond of the month."""
    first = clock.from_micros(micros).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return clock.to_micros(first)
