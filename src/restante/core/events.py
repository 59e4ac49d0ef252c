"""The event log: each fact is a row written in the transaction that caused it, numbered without gaps per account.

The number comes from the account's counter row, taken inside the transaction: no reader ever sees n+1 before n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update

from restante import clock
from restante.errors import NotFound
from restante.ids import AccountId, EventNumber, MailboxId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, touch
from restante.schema.prepared import Prepared

VERSION = 1  # of every body shape so far

_e = tables.events.c

_TAKE_NUMBERS = Prepared(
    update(tables.accounts)
    .where(tables.accounts.c.id == bindparam("in_account"))
    .values(
        event_number=tables.accounts.c.event_number + bindparam("count"),
        used_bytes=tables.accounts.c.used_bytes + bindparam("more_bytes"),
    )
    .returning(tables.accounts.c.event_number)
)
_INSERT = Prepared(insert(tables.events))


@dataclass(frozen=True, slots=True)
class Event:
    """One fact."""

    account_id: AccountId
    number: EventNumber
    type: str
    version: int
    created_at: datetime
    mailbox_id: MailboxId | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact about to be recorded."""

    type: str
    body: Mapping[str, Any]
    mailbox_id: int | None = None


def record(
    conn: WriteConn,
    account_id: int,
    type_: str,
    body: Mapping[str, Any],
    *,
    now: datetime,
    mailbox_id: int | None = None,
) -> EventNumber:
    """Write one event and note the account for a signal after the commit. Raises NotFound for an unknown account."""
    return record_all(conn, account_id, [NewEvent(type_, body, mailbox_id)], now=now)


def record_all(
    conn: WriteConn, account_id: int, facts: Sequence[NewEvent], *, now: datetime, more_bytes: int = 0
) -> EventNumber:
    """Write several events of one account; returns the number of the last.

    ``more_bytes`` is added to what the account uses, as its row is being changed anyway.
    """
    row = _TAKE_NUMBERS.row(conn, {"in_account": account_id, "count": len(facts), "more_bytes": more_bytes})
    if row is None:
        raise NotFound("no such account", code="account_not_found")
    last = int(row[0])
    created_at = clock.to_micros(now)
    _INSERT.many(
        conn,
        [
            {
                "account_id": account_id,
                "number": number,
                "type": fact.type,
                "version": VERSION,
                "created_at": created_at,
                "mailbox_id": fact.mailbox_id,
                "body": msgspec.json.encode(fact.body).decode(),
            }
            for number, fact in enumerate(facts, last - len(facts) + 1)
        ],
    )
    touch(conn, account_id)
    return EventNumber(last)


def list_after(conn: ReadConn, account_id: AccountId, after: EventNumber, limit: int) -> list[Event]:
    """The events behind number ``after``, oldest first."""
    rows = conn.execute(
        select(tables.events).where(_e.account_id == account_id, _e.number > after).order_by(_e.number).limit(limit)
    )
    return [
        Event(
            AccountId(row.account_id),
            EventNumber(row.number),
            row.type,
            row.version,
            clock.from_micros(row.created_at),
            row.mailbox_id,
            msgspec.json.decode(row.body),
        )
        for row in rows
    ]
