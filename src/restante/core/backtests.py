"""Backtests: what conditions would have matched in mail that is there. Nothing is done about it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from restante import clock
from restante.core.automations import Conditions
from restante.ids import AccountId
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning

LOOKED_AT = 1000  # messages of one step

_m = tables.messages.c


@dataclass(frozen=True, slots=True)
class Matched:
    """A message that would have been one of them."""

    message_id: UUID
    received_at: datetime
    sender: str
    inbox: str
    subject: str


@dataclass(frozen=True, slots=True)
class Step:
    """Some messages looked at (``scanned``), and where to go on; None: that was all."""

    matched: tuple[Matched, ...]
    scanned: int
    after: UUID | None


@scanning
def step(conn: ReadConn, account_id: AccountId, conditions: Conditions, after: UUID, since: datetime) -> Step:
    """Look at the next messages behind the public id ``after`` that came in since then, oldest first."""
    columns = (_m.public_id, _m.received_at, _m.from_email, _m.envelope_recipient, _m.subject, _m.attachments)
    some = select(*columns).where(_m.account_id == account_id, _m.public_id > after.bytes)
    rows = conn.execute(some.order_by(_m.public_id).limit(LOOKED_AT)).all()
    came_in = [row for row in rows if row.envelope_recipient and row.received_at >= clock.to_micros(since)]
    matched = [
        Matched(
            UUID(bytes=row.public_id),
            clock.from_micros(row.received_at),
            row.from_email,
            row.envelope_recipient,
            row.subject,
        )
        for row in came_in
        if conditions.match(row.from_email, row.envelope_recipient, row.subject, row.attachments)
    ]
    return Step(tuple(matched), len(came_in), UUID(bytes=rows[-1].public_id) if len(rows) == LOOKED_AT else None)
