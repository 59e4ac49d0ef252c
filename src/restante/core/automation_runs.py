"""Runs of automations: one message for one automation, from the log to its end. Beginning them, lists, pruning.

``find_fresh`` and ``open_runs`` turn received messages into runs: the cursor moves in the transaction that writes them
and counts them, so each message runs once. What does their work is ``core.automation_courier`` under
``jobs.automations``.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Select, bindparam, delete, exists, insert, select, update

from restante import clock
from restante.core import automations, events, folders, messages
from restante.core.automations import Automation
from restante.core.events import NewEvent
from restante.errors import Invalid
from restante.ids import AccountId, AutomationId, EventNumber, MailboxId, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning, touch
from restante.schema.prepared import Prepared, PreparedByIds

Status = Literal["pending", "done", "failed"]

STATUSES: tuple[Status, ...] = ("pending", "done", "failed")
SCANNED = 500  # events that one look reads
OPENED = 1000  # runs that one transaction begins, about

_a, _x, _r = tables.automations.c, tables.automation_cursors.c, tables.automation_runs.c
_e, _m = tables.events.c, tables.messages.c
_ACTIVE = _a.status == "active"


class Match(NamedTuple):
    """A message that an automation is to run for; ``number`` is that of the event that told of it."""

    automation_id: AutomationId
    number: EventNumber
    mailbox_id: MailboxId
    message_id: MessageId
    public_id: bytes


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the log says behind the cursor (``after``) up to ``reach``; ``is_last``: nothing lies behind."""

    after: EventNumber
    reach: EventNumber
    matches: tuple[Match, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One message for one automation. ``http_status``, ``error`` and ``answer`` (1 KiB) are of the newest attempt."""

    number: EventNumber
    message_id: UUID
    status: Status
    attempts: int
    http_status: int | None
    error: str | None
    answer: str
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None


# --- from the log to runs ---------------------------------------------------------------------------------------------


def _behind() -> Select[Any]:
    c = tables.accounts.c
    watched = exists().where(_a.account_id == c.id, _ACTIVE)
    joined = tables.accounts.join(tables.automation_cursors, _x.account_id == c.id)
    return select(c.id).select_from(joined).where(c.event_number > _x.event_number, watched)


_BEHIND = Prepared(_behind())
_BEHIND_OF = Prepared(_behind().where(tables.accounts.c.id == bindparam("account")))


def list_behind(conn: ReadConn, account_ids: Collection[int] | None = None) -> list[AccountId]:
    """Accounts (of these) with automations whose log goes on behind the cursor."""
    if account_ids is None:
        rows = _BEHIND.rows(conn, {})
    else:
        rows = [row for one in sorted(account_ids) for row in _BEHIND_OF.rows(conn, {"account": one})]
    return [AccountId(row[0]) for row in rows]


_RECEIVED = Prepared(
    select(_e.number, _e.body)
    .where(
        _e.account_id == bindparam("account"),
        _e.number > bindparam("after"),
        _e.number <= bindparam("reach"),
        _e.type == "message.received",
    )
    .order_by(_e.number)
)


class _Received(msgspec.Struct):
    """What is needed of the event's body."""

    message: int
    recipient: str


_bodies = msgspec.json.Decoder(_Received)


@scanning
def find_fresh(conn: ReadConn, account_id: AccountId, seen: EventNumber) -> Fresh | None:
    """Messages behind the cursor that automations run for; None when the account has none.

    ``seen``: up to there the caller knows that there is nothing. What its owner put there (no recipient) is no mail
    that came in; a message that is gone is none any more.
    """
    every = automations.list_automations(conn, account_id)
    if not every:
        return None
    after = EventNumber(conn.execute(select(_x.event_number).where(_x.account_id == account_id)).scalar_one())
    newest, pruned = events.bounds(conn, account_id)
    start = max(after, seen, pruned)
    reach = EventNumber(min(newest, start + SCANNED))
    rows = _RECEIVED.rows(conn, {"account": account_id, "after": start, "reach": reach})
    told = [(EventNumber(number), _bodies.decode(body)) for number, body in rows]
    arrived = _arrived(conn, account_id, [one.message for _, one in told if one.recipient])
    matches: list[Match] = []
    for number, one in told:
        row = arrived.get(one.message)
        if row is not None:
            matches += _matching(every, number, row)
        if len(matches) >= OPENED:
            return Fresh(after, number, tuple(matches), is_last=False)
    return Fresh(after, reach, tuple(matches), reach >= newest)


def _arrived(conn: ReadConn, account_id: AccountId, message_ids: Sequence[int]) -> Mapping[int, Any]:
    """What conditions look at, by message."""
    columns = (_m.id, _m.public_id, _m.mailbox_id, _m.from_email, _m.envelope_recipient, _m.subject, _m.attachments)
    if not message_ids:
        return {}
    rows = conn.execute(select(*columns).where(_m.account_id == account_id, _m.id.in_(message_ids)))
    return {row.id: row for row in rows}


def _matching(every: Iterable[Automation], number: EventNumber, row: Any) -> list[Match]:
    return [
        Match(one.id, number, MailboxId(row.mailbox_id), MessageId(row.id), bytes(row.public_id))
        for one in every
        if one.since_number < number
        and one.conditions.match(row.from_email, row.envelope_recipient, row.subject, row.attachments)
    ]


_INSERT = Prepared(
    insert(tables.automation_runs).values(
        {column.name: bindparam(column.name) for column in tables.automation_runs.columns}
    )
)


def open_runs(conn: WriteConn, account_id: AccountId, fresh: Fresh, now: datetime) -> bool:
    """Begin the runs of these messages, count them, and note that the log up to ``fresh.reach`` is done.

    One whose automation neither calls nor forwards is done with that. False, and nothing changes, when the log up to
    another number than ``fresh.after`` was done already.
    """
    moved = update(tables.automation_cursors).where(_x.account_id == account_id, _x.event_number == fresh.after)
    if not conn.execute(moved.values(event_number=fresh.reach)).rowcount:
        return False
    every = {one.id: one for one in automations.list_automations(conn, account_id)}
    mine = [one for one in fresh.matches if one.automation_id in every]
    if not mine:
        return True
    micros = clock.to_micros(now)
    _INSERT.many(conn, [_row(account_id, one, micros, has_action=every[one.automation_id].has_action) for one in mine])
    for automation_id, count in sorted(Counter(one.automation_id for one in mine).items()):
        counted = update(tables.automations).where(_a.account_id == account_id, _a.id == automation_id)
        conn.execute(counted.values(emails_received=_a.emails_received + count))
    done = [one for one in mine if not every[one.automation_id].has_action]
    if done:
        facts = [ended(every[one.automation_id], one.message_id, UUID(bytes=one.public_id)) for one in done]
        events.record_all(conn, account_id, facts, now=now)
        settle(conn, account_id, [one.number for one in done], now)
    touch(conn, account_id)
    return True


def _row(account_id: AccountId, match: Match, micros: int, *, has_action: bool) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "automation_id": match.automation_id,
        "event_number": match.number,
        "mailbox_id": match.mailbox_id,
        "message_id": match.message_id,
        "message_public_id": match.public_id,
        "status": "pending" if has_action else "done",
        "attempts": 0,
        "tried_since": None,
        "next_attempt_at": micros if has_action else None,
        "http_status": None,
        "error": None,
        "answer": "",
        "created_at": micros,
        "finished_at": None if has_action else micros,
    }


def ended(automation: Automation, message_id: int, public_id: UUID, error: str | None = None) -> NewEvent:
    """The event that a run is done, or was given up for that reason."""
    body = {"automation": str(automation.public_id), "message": message_id, "id": str(public_id)}
    return NewEvent("automation.ran", body) if error is None else NewEvent("automation.failed", body | {"error": error})


_ACTIVE_ONES = Prepared(select(_a.id, _a.deletes).where(_a.account_id == bindparam("account"), _ACTIVE))
_STANDING = PreparedByIds(
    select(_r.mailbox_id, _r.message_id, _r.status).where(
        _r.account_id == bindparam("account"), _r.automation_id == bindparam("automation")
    ),
    _r.event_number,
)


def settle(conn: WriteConn, account_id: AccountId, numbers: Sequence[EventNumber], now: datetime) -> None:
    """Move messages into the Trash whose runs have all ended, where one that is done was to do that.

    ``numbers`` are those of the events that told of them.
    """
    active = [(row[0], bool(row[1])) for row in _ACTIVE_ONES.rows(conn, {"account": account_id})]
    if not any(deletes for _, deletes in active):
        return
    by_message: dict[tuple[int, int], list[tuple[str, bool]]] = defaultdict(list)
    for automation_id, deletes in active:
        key = {"account": account_id, "automation": automation_id}
        for mailbox_id, message_id, status in _STANDING.rows(conn, key, sorted(set(numbers))):
            by_message[mailbox_id, message_id].append((status, deletes))
    going: dict[int, list[MessageId]] = defaultdict(list)
    for (mailbox_id, message_id), runs in sorted(by_message.items()):
        if all(status != "pending" for status, _ in runs) and ("done", True) in runs:
            going[mailbox_id].append(MessageId(message_id))
    for mailbox_id, message_ids in going.items():
        trash = folders.find_folder(conn, account_id, MailboxId(mailbox_id), "Trash")
        if trash is not None:  # else the mailbox is gone
            messages.move(conn, account_id, MailboxId(mailbox_id), message_ids, trash.id, now=now)


# --- lists, pruning ---------------------------------------------------------------------------------------------------


def list_runs(
    conn: ReadConn,
    account_id: AccountId,
    automation_id: AutomationId,
    status: str | None,
    after: EventNumber,
    limit: int,
) -> list[Run]:
    """Runs behind number ``after``, oldest first. Invalid for a status that there is not."""
    if status is not None and status not in STATUSES:
        raise Invalid("There is no such status.", details={"status": ", ".join(STATUSES)})
    where = [_r.account_id == account_id, _r.automation_id == automation_id, _r.event_number > after]
    if status is not None:
        where.append(_r.status == status)
    rows = conn.execute(select(tables.automation_runs).where(*where).order_by(_r.event_number).limit(limit))
    return [_run(row) for row in rows]


def prune(conn: WriteConn, account_id: AccountId, before: datetime, limit: int, now: datetime) -> int:
    """Delete about ``limit`` runs that ended before then, and those of removed automations; returns how many.

    What waited for a removed automation's run waits no more.
    """
    for automation_id, status in conn.execute(
        select(_a.id, _a.status).where(_a.account_id == account_id).order_by(_a.id)
    ).all():
        mine = _r.account_id == account_id, _r.automation_id == automation_id
        for which in STATUSES if status == "removed" else ("done", "failed"):
            oldest = select(_r.event_number).where(*mine, _r.status == which).order_by(_r.event_number).limit(limit)
            if status != "removed":
                oldest = oldest.where(_r.finished_at < clock.to_micros(before))
            if numbers := list(conn.execute(oldest).scalars()):
                conn.execute(delete(tables.automation_runs).where(*mine, _r.event_number.in_(numbers)))
                if which == "pending":
                    settle(conn, account_id, numbers, now)
                return len(numbers)
        if status == "removed":
            conn.execute(delete(tables.automations).where(_a.account_id == account_id, _a.id == automation_id))
    return 0


def purge(conn: WriteConn, account_id: AccountId, limit: int, now: datetime) -> bool:
    """Delete about ``limit`` runs of a removed account with its automations; False when nothing was left."""
    conn.execute(update(tables.automations).where(_a.account_id == account_id).values(status="removed"))
    if prune(conn, account_id, now, limit, now):
        return True
    conn.execute(delete(tables.automation_cursors).where(_x.account_id == account_id))
    return False


def _run(row: Any) -> Run:
    return Run(
        number=EventNumber(row.event_number),
        message_id=UUID(bytes=row.message_public_id),
        status=row.status,
        attempts=row.attempts,
        http_status=row.http_status,
        error=row.error,
        answer=row.answer,
        created_at=clock.from_micros(row.created_at),
        next_attempt_at=clock.optional_from_micros(row.next_attempt_at),
        finished_at=clock.optional_from_micros(row.finished_at),
    )
