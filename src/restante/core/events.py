"""The event log: each fact is a row written in the transaction that caused it, numbered without gaps per account.

The number comes from the account's counter row, taken inside the transaction: no reader ever sees n+1 before n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, ColumnElement, Integer, bindparam, delete, insert, select, update

from restante import clock
from restante.core.event_types import TYPES, expand
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId, EventNumber, MailboxId
from restante.schema import tables
from restante.schema.arrays import Rows
from restante.schema.connections import ReadConn, WriteConn, is_remote, touch
from restante.schema.prepared import Prepared

SCANNED = 10_000  # events that one reading call looks at

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


def _at_once() -> Prepared:
    """Both statements as one, for one event, on engines where each is a journey; no row for an unknown account."""
    taken = _TAKE_NUMBERS.statement.cte("taken")
    columns = {c.name: bindparam(c.name, type_=c.type) for c in tables.events.columns} | {
        "number": taken.c.event_number
    }
    recorded = insert(tables.events).from_select(list(columns), select(*columns.values()).select_from(taken))
    return Prepared(recorded.returning(_e.number))


_RECORD = _at_once()


_counted = Rows(
    "counted", [Column("account_id", BigInteger), Column("count", Integer), Column("more_bytes", BigInteger)]
)
_given = Rows(
    "given", [*(column for column in tables.events.columns if column.name != "number"), Column("place", Integer)]
)


def _together() -> Prepared:
    """Takes numbers for each account and writes its events."""
    a = tables.accounts.c
    taken = (
        update(tables.accounts)
        .where(a.id == _counted.c.account_id)
        .values(event_number=a.event_number + _counted.c.count, used_bytes=a.used_bytes + _counted.c.more_bytes)
        .returning(a.id, a.event_number)
        .cte("taken")
    )
    columns: dict[str, ColumnElement[Any]] = {c.name: c for c in _given.c if c.name != "place"}
    columns["number"] = taken.c.event_number - _given.c.place
    chosen = select(*columns.values()).select_from(_given.table.join(taken, taken.c.id == _given.c.account_id))
    return Prepared(insert(tables.events).from_select(list(columns), chosen))


_RECORD_TOGETHER = _together()
_BOUNDS = Prepared(
    select(tables.accounts.c.event_number, tables.accounts.c.events_pruned).where(
        tables.accounts.c.id == bindparam("in_account")
    )
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. ``mailbox`` is the address that the mailbox it is about has now, None when it is removed."""

    account_id: AccountId
    number: EventNumber
    type: str
    version: int
    created_at: datetime
    mailbox_id: MailboxId | None
    mailbox: str | None
    body: Mapping[str, Any]


class NewEvent(NamedTuple):
    """A fact about to be recorded."""

    type: str
    body: Mapping[str, Any]
    mailbox_id: int | None = None


class Facts(NamedTuple):
    """Several facts of one account, recorded at one moment; ``more_bytes`` is added to what the account uses."""

    account_id: int
    facts: list[NewEvent]
    created_at: int  # microseconds
    more_bytes: int


def record(
    conn: WriteConn,
    account_id: int,
    type_: str,
    body: Mapping[str, Any],
    *,
    now: datetime,
    mailbox_id: int | None = None,
) -> EventNumber:
    """Write one event and note the account for a signal after the commit. Raises NotFound for an unknown account.

    ``type_`` and ``body`` are as ``event_types`` says.
    """
    return record_all(conn, account_id, [NewEvent(type_, body, mailbox_id)], now=now)


def record_all(
    conn: WriteConn, account_id: int, facts: Sequence[NewEvent], *, now: datetime, more_bytes: int = 0
) -> EventNumber:
    """Write several events of one account; returns the number of the last.

    ``more_bytes`` is added to what the account uses, as its row is being changed anyway.
    """
    created_at = clock.to_micros(now)
    last = _record_rows(conn, account_id, [_row(account_id, fact, created_at) for fact in facts], more_bytes)
    touch(conn, account_id)
    return EventNumber(last)


def record_together(conn: WriteConn, told: Sequence[Facts]) -> None:
    """Write the events of several accounts, counting in each account once; each account's in this order."""
    given: dict[int, list[dict[str, Any]]] = {}
    more_bytes: dict[int, int] = {}
    for account_id, facts, created_at, more in told:
        given.setdefault(account_id, []).extend(_row(account_id, fact, created_at) for fact in facts)
        more_bytes[account_id] = more_bytes.get(account_id, 0) + more
    if is_remote(conn):
        counted = [
            {"account_id": account_id, "count": len(given[account_id]), "more_bytes": more_bytes[account_id]}
            for account_id in sorted(given)
        ]
        rows = [row | {"place": len(rows) - at} for rows in given.values() for at, row in enumerate(rows, 1)]
        if _RECORD_TOGETHER.run(conn, _counted.values(counted) | _given.values(rows)) != len(rows):
            raise NotFound("no such account", code="account_not_found")
    else:
        for account_id, rows in given.items():
            _record_rows(conn, account_id, rows, more_bytes[account_id])
    for account_id in given:
        touch(conn, account_id)


def _record_rows(conn: WriteConn, account_id: int, rows: Sequence[dict[str, Any]], more_bytes: int) -> int:
    """Number events of an account and write them; returns the number of the last. Raises NotFound."""
    taken = {"in_account": account_id, "count": len(rows), "more_bytes": more_bytes}
    is_one_journey = len(rows) == 1 and is_remote(conn)
    row = _RECORD.row(conn, taken | rows[0]) if is_one_journey else _TAKE_NUMBERS.row(conn, taken)
    if row is None:
        raise NotFound("no such account", code="account_not_found")
    last = int(row[0])
    if not is_one_journey:
        _INSERT.many(conn, [one | {"number": number} for number, one in enumerate(rows, last - len(rows) + 1)])
    return last


def _row(account_id: int, fact: NewEvent, created_at: int) -> dict[str, Any]:
    """The columns of an event, but for its number."""
    return {
        "account_id": account_id,
        "type": fact.type,
        "version": TYPES[fact.type].version,
        "created_at": created_at,
        "mailbox_id": fact.mailbox_id,
        "body": msgspec.json.encode(fact.body).decode(),
    }


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order, and ``cursor``: after which the next page begins. ``is_last``: nothing more is there yet."""

    events: list[Event]
    cursor: EventNumber
    is_last: bool


def list_after(
    conn: ReadConn,
    account_id: AccountId,
    after: EventNumber,
    limit: int,
    *,
    types: frozenset[str] | None = None,
    mailbox_id: MailboxId | None = None,
) -> EventPage:
    """The events behind number ``after``, oldest first: all, or those of some types or of one mailbox.

    One call looks at ``SCANNED`` events at most, so a page of a rare type may be empty and not the last. Raises
    Conflict(code="events_pruned") when events behind ``after`` are kept no more, Invalid for a number of the future.
    """
    newest, pruned = bounds(conn, account_id)
    if after < pruned:
        details = {"after": f"{pruned} or more"}
        raise Conflict(f"Events up to {pruned} are kept no more.", code="events_pruned", details=details)
    if after > newest:
        raise Invalid(f"The newest event is {newest}.", code="invalid_cursor", details={"after": f"at most {newest}"})
    reach = min(newest, after + SCANNED)
    b = tables.mailboxes.c
    statement = (
        select(tables.events, b.address)
        .outerjoin(tables.mailboxes, (b.account_id == _e.account_id) & (b.id == _e.mailbox_id))
        .where(_e.account_id == account_id, _e.number > after, _e.number <= reach)
    )
    if types is not None:
        statement = statement.where(_e.type.in_(sorted(types)))
    if mailbox_id is not None:
        statement = statement.where(_e.mailbox_id == mailbox_id)
    found = [_event(row) for row in conn.execute(statement.order_by(_e.number).limit(limit))]
    cursor = found[-1].number if len(found) == limit else EventNumber(reach)
    return EventPage(found, cursor, cursor >= newest)


def list_of_message(
    conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, public_id: UUID, received_at: datetime
) -> tuple[list[Event], bool]:
    """What was told of a message since it came; whether that is all (the log is looked through in bounds)."""
    newest, pruned = bounds(conn, account_id)
    after = _before(conn, account_id, received_at, pruned, newest)
    page = list_after(conn, account_id, after, SCANNED, types=expand(["message.*"]), mailbox_id=mailbox_id)
    told = [event for event in page.events if event.body["id"] == str(public_id)]
    return told, page.is_last and any(event.type in ("message.received", "message.stored") for event in told)


def _before(
    conn: ReadConn, account_id: AccountId, moment: datetime, low: EventNumber, high: EventNumber
) -> EventNumber:
    """The last number behind ``low`` whose event is older than ``moment``: found by halving."""
    wanted = clock.to_micros(moment)
    while low < high:
        middle = EventNumber((low + high + 1) // 2)
        at = conn.execute(select(_e.created_at).where(_e.account_id == account_id, _e.number == middle)).scalar_one()
        low, high = (middle, high) if at < wanted else (low, EventNumber(middle - 1))
    return low


def bounds(conn: ReadConn, account_id: AccountId) -> tuple[EventNumber, EventNumber]:
    """The number of the newest event, and the one up to which none are kept. Raises NotFound for no such account."""
    row = _BOUNDS.row(conn, {"in_account": account_id})
    if row is None:
        raise NotFound("no such account", code="account_not_found")
    return EventNumber(row[0]), EventNumber(row[1])


def prune(
    conn: WriteConn, account_id: AccountId, before: datetime, keep: int, limit: int, *, up_to: int | None = None
) -> int:
    """Delete up to ``limit`` of the oldest events that are from before ``before`` or not among the ``keep`` newest.

    None behind number ``up_to``. Returns how many went; readers behind them are told.
    """
    newest, pruned = bounds(conn, account_id)
    oldest = conn.execute(
        select(_e.number, _e.created_at)
        .where(_e.account_id == account_id, _e.number > pruned, _e.number <= pruned + limit)
        .order_by(_e.number)
    ).all()
    moment = clock.to_micros(before)
    last = pruned
    for row in oldest:
        is_wanted = row.created_at >= moment and row.number > newest - keep
        if is_wanted or (up_to is not None and row.number > up_to):
            break
        last = row.number
    if last == pruned:
        return 0
    gone = delete(tables.events).where(_e.account_id == account_id, _e.number > pruned, _e.number <= last)
    a = tables.accounts.c
    conn.execute(update(tables.accounts).where(a.id == account_id).values(events_pruned=last))
    return conn.execute(gone).rowcount


def _event(row: Any) -> Event:
    return Event(
        AccountId(row.account_id),
        EventNumber(row.number),
        row.type,
        row.version,
        clock.from_micros(row.created_at),
        row.mailbox_id,
        row.address,
        msgspec.json.decode(row.body),
    )
