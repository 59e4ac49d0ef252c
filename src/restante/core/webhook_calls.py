"""Calls of webhooks: one event for one webhook, from the log to its last attempt. Lists, calling again, pruning.

What makes the calls is ``core.webhook_courier`` under ``jobs.webhooks``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, select, update

from restante import clock
from restante.core import automations, events, idempotency, webhooks
from restante.core.idempotency import Once
from restante.core.webhooks import Webhook
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId, EventNumber, WebhookId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, touch
from restante.schema.counters import Missing

Status = Literal["pending", "delivered", "dead"]

STATUSES: tuple[Status, ...] = ("pending", "delivered", "dead")
MAX_AGAIN = 10_000  # calls that one request repeats

_w, _c, _a, _e = tables.webhooks.c, tables.webhook_calls.c, tables.webhook_attempts.c, tables.events.c
_NEW = Missing(tables.webhook_calls)
_AGAIN = (
    update(tables.webhook_calls)
    .where(
        _c.account_id == bindparam("in_account"),
        _c.webhook_id == bindparam("of_webhook"),
        _c.event_number == bindparam("of_event"),
    )
    .values(status="pending", tries=0, tried_since=None, next_attempt_at=bindparam("at"), finished_at=None)
)
_CALLS = select(tables.webhook_calls, _e.type).outerjoin(
    tables.events, (_e.account_id == _c.account_id) & (_e.number == _c.event_number)
)


@dataclass(frozen=True, slots=True)
class Call:
    """One event for one webhook; ``number`` is the event's, ``type`` None when the log has it no more."""

    number: EventNumber
    type: str | None
    status: Status
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. ``status`` is HTTP's, or ``error`` says why there was none; ``answer``: the first KiB of the body."""

    attempt: int
    attempted_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    answer: str


def insert(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, numbers: Sequence[EventNumber], now: datetime
) -> None:
    """Make calls of these events, to be made at once; those that there are stay as they are."""
    micros = clock.to_micros(now)
    rows = [
        {
            "account_id": account_id,
            "webhook_id": webhook_id,
            "event_number": number,
            "status": "pending",
            "attempts": 0,
            "tries": 0,
            "tried_since": None,
            "next_attempt_at": micros,
            "created_at": micros,
            "finished_at": None,
        }
        for number in numbers
    ]
    _NEW.add(conn, rows)


def ping(
    conn: WriteConn, account_id: AccountId, public_id: UUID, now: datetime, once: Once | None = None
) -> EventNumber:
    """Call a webhook once about nothing (``webhook.tested``), whatever types it is for; returns the call's number.

    Errors: NotFound ``webhook_not_found``, Conflict ``webhook_not_active``, ``idempotency_conflict``.
    """
    webhook = _get_active(conn, account_id, public_id)
    if once is not None and (first := idempotency.find(conn, account_id, once, now)) is not None:
        return EventNumber(int(first))
    number = events.record(conn, account_id, "webhook.tested", {"webhook": str(public_id)}, now=now)
    insert(conn, account_id, webhook.id, [number], now)
    if once is not None:
        idempotency.take(conn, account_id, once, b"%d" % number, now)
    return number


@dataclass(frozen=True, slots=True)
class Chosen:
    """Calls to be made again: numbers from ``first`` to ``last``, or (with neither) all that are dead."""

    first: EventNumber | None = None
    last: EventNumber | None = None


def call_again(
    conn: WriteConn, account_id: AccountId, public_id: UUID, chosen: Chosen, now: datetime, once: Once | None = None
) -> int:
    """Let calls that are delivered or dead be made anew, at most ``MAX_AGAIN``, oldest first; returns how many.

    Errors: NotFound ``webhook_not_found``, ``call_not_found`` (of one call), Conflict ``webhook_not_active``,
    ``events_pruned`` (the log has the event no more), ``idempotency_conflict``.
    """
    webhook = _get_active(conn, account_id, public_id)
    if once is not None and (first := idempotency.find(conn, account_id, once, now)) is not None:
        return int(first)
    _, pruned = events.bounds(conn, account_id)
    of_it = _c.account_id == account_id, _c.webhook_id == webhook.id
    if chosen.first is not None and chosen.first == chosen.last:
        get_call(conn, account_id, webhook.id, chosen.first)
        if chosen.first <= pruned:
            raise Conflict(f"Events up to {pruned} are kept no more.", code="events_pruned")
    where: list[ColumnElement[bool]] = [*of_it, _c.event_number > pruned]
    if chosen.first is None:
        where.append(_c.status == "dead")
    else:
        where += [_c.status.in_(("delivered", "dead")), _c.event_number.between(chosen.first, chosen.last)]
    numbers = list(
        conn.execute(select(_c.event_number).where(*where).order_by(_c.event_number).limit(MAX_AGAIN)).scalars()
    )
    if numbers:
        place = {"in_account": account_id, "of_webhook": webhook.id, "at": clock.to_micros(now)}
        conn.execute(_AGAIN, [place | {"of_event": number} for number in numbers])
        touch(conn, account_id)
    if once is not None:
        idempotency.take(conn, account_id, once, b"%d" % len(numbers), now)
    return len(numbers)


def _get_active(conn: ReadConn, account_id: AccountId, public_id: UUID) -> Webhook:
    webhook = webhooks.get(conn, account_id, public_id)
    if webhook.status != "active":
        raise Conflict(f"The webhook is {webhook.status}: make it active first.", code="webhook_not_active")
    return webhook


def list_calls(
    conn: ReadConn,
    account_id: AccountId,
    webhook_id: WebhookId,
    status: str | None,
    after: EventNumber,
    limit: int,
) -> list[Call]:
    """Calls behind number ``after``, oldest first. Invalid for a status that there is not."""
    if status is not None and status not in STATUSES:
        raise Invalid("There is no such status.", details={"status": ", ".join(STATUSES)})
    where = [_c.account_id == account_id, _c.webhook_id == webhook_id, _c.event_number > after]
    if status is not None:
        where.append(_c.status == status)
    return [_call(row) for row in conn.execute(_CALLS.where(*where).order_by(_c.event_number).limit(limit))]


def get_call(conn: ReadConn, account_id: AccountId, webhook_id: WebhookId, number: EventNumber) -> Call:
    """One call; NotFound ``call_not_found``."""
    where = _c.account_id == account_id, _c.webhook_id == webhook_id, _c.event_number == number
    row = conn.execute(_CALLS.where(*where)).first()
    if row is None:
        raise NotFound("There is no such call.", code="call_not_found")
    return _call(row)


def list_attempts(
    conn: ReadConn, account_id: AccountId, webhook_id: WebhookId, number: EventNumber, limit: int
) -> list[Attempt]:
    """The attempts of a call, the newest first."""
    where = _a.account_id == account_id, _a.webhook_id == webhook_id, _a.event_number == number
    rows = conn.execute(select(tables.webhook_attempts).where(*where).order_by(_a.attempt.desc()).limit(limit))
    return [
        Attempt(row.attempt, clock.from_micros(row.attempted_at), row.duration_ms, row.status, row.error, row.answer)
        for row in rows
    ]


def prune_log(conn: WriteConn, account_id: AccountId, before: datetime, keep: int, limit: int) -> int:
    """As ``events.prune``, but events that an active webhook or automation has still to be told stay."""
    needed: int | None = automations.find_cursor(conn, account_id)
    active = select(_w.id, _w.event_number).where(_w.account_id == account_id, _w.status == "active")
    for webhook_id, event_number in conn.execute(active).all():
        waiting = select(func.min(_c.event_number)).where(
            _c.account_id == account_id, _c.webhook_id == webhook_id, _c.status == "pending"
        )
        first = conn.execute(waiting).scalar()
        done = event_number if first is None else min(event_number, first - 1)
        needed = done if needed is None else min(needed, done)
    return events.prune(conn, account_id, before, keep, limit, up_to=needed)


def prune(conn: WriteConn, account_id: AccountId, before: datetime, limit: int) -> int:
    """Delete about ``limit`` calls that ended before then, and those of removed webhooks; returns how many."""
    for webhook_id, status in conn.execute(
        select(_w.id, _w.status).where(_w.account_id == account_id).order_by(_w.id)
    ).all():
        mine = _c.account_id == account_id, _c.webhook_id == webhook_id
        for which in STATUSES if status == "removed" else ("delivered", "dead"):
            oldest = select(_c.event_number).where(*mine, _c.status == which).order_by(_c.event_number).limit(limit)
            if status != "removed":
                oldest = oldest.where(_c.finished_at < clock.to_micros(before))
            if numbers := list(conn.execute(oldest).scalars()):
                for table in (tables.webhook_attempts, tables.webhook_calls):
                    k = table.c
                    of_it = k.account_id == account_id, k.webhook_id == webhook_id, k.event_number.in_(numbers)
                    conn.execute(delete(table).where(*of_it))
                return len(numbers)
        if status == "removed":
            conn.execute(delete(tables.webhooks).where(_w.account_id == account_id, _w.id == webhook_id))
    return 0


def purge(conn: WriteConn, account_id: AccountId, limit: int, now: datetime) -> bool:
    """Delete about ``limit`` calls of a removed account with its webhooks; False when nothing was left."""
    conn.execute(update(tables.webhooks).where(_w.account_id == account_id).values(status="removed"))
    return prune(conn, account_id, now, limit) > 0


def _call(row: Any) -> Call:
    return Call(
        EventNumber(row.event_number),
        row.type,
        row.status,
        row.attempts,
        clock.from_micros(row.created_at),
        clock.optional_from_micros(row.next_attempt_at),
        clock.optional_from_micros(row.finished_at),
    )
