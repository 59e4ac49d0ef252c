"""What the courier (``jobs.webhooks``) finds to do for webhooks, and what it notes of it.

Whoever makes the calls of a webhook holds its lease, surveys what is to be done, turns events into calls
(``open_calls``), makes them and records what came back. Everything that it must not forget is in the rows, so it may
end at any moment; what it had not recorded is called again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Select, and_, bindparam, func, or_, select, update

from restante import clock
from restante.core import attempts, event_types, events, leases, webhook_calls, webhooks
from restante.core.attempts import Result
from restante.core.events import NewEvent
from restante.core.webhooks import Webhook
from restante.ids import AccountId, EventNumber, WebhookId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.counters import Missing
from restante.schema.prepared import Prepared

NOTHING = EventNumber(0)
SCANNED = 500  # events that one survey looks at
BROKEN_AFTER = timedelta(days=5)  # of nothing but failures
GONE = 410

_w, _c, _e = tables.webhooks.c, tables.webhook_calls.c, tables.events.c
_PENDING = _c.status == "pending"


@dataclass(frozen=True, slots=True)
class Due:
    """A call to be made now for the ``attempt``-th time; ``body`` is the event's JSON, None: it is kept no more."""

    number: EventNumber
    attempt: int
    type: str | None
    version: int | None
    created_at: datetime | None
    mailbox: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be done for a webhook now: ``webhook`` None: nothing, it is not active.

    ``fresh``: events up to ``reach`` that have no call yet; ``is_last``: nothing lies behind; ``next_at``: when a call
    that waits becomes due.
    """

    webhook: Webhook | None
    fresh: tuple[EventNumber, ...] = ()
    reach: EventNumber = NOTHING
    is_last: bool = True
    due: tuple[Due, ...] = ()
    next_at: datetime | None = None


def _waiting() -> Select[Any]:
    a = tables.accounts.c
    now = bindparam("now", type_=BigInteger)
    due = select(_c.event_number).where(
        _c.account_id == _w.account_id, _c.webhook_id == _w.id, _PENDING, _c.next_attempt_at <= now
    )
    return (
        select(_w.account_id, _w.id)
        .join(tables.accounts, a.id == _w.account_id)
        .where(
            _w.status == "active",
            or_(_w.retry_at.is_(None), _w.retry_at <= now),
            leases.free(tables.webhooks, bindparam("owner"), now),
            or_(_w.event_number < a.event_number, due.exists()),
        )
    )


_WAITING = Prepared(_waiting())
_WAITING_OF = Prepared(_waiting().where(_w.account_id == bindparam("account")))


def list_waiting(
    conn: ReadConn, owner: str, now: datetime, account_ids: Collection[int] | None = None
) -> list[tuple[AccountId, WebhookId]]:
    """Webhooks of all accounts (or of these) that have something to do and that nobody else has leased."""
    values = {"owner": owner, "now": clock.to_micros(now)}
    if account_ids is None:
        rows = _WAITING.rows(conn, values)
    else:  # after every commit, mostly of one account
        rows = [row for one in sorted(account_ids) for row in _WAITING_OF.rows(conn, {**values, "account": one})]
    return [(AccountId(row[0]), WebhookId(row[1])) for row in rows]


def claim(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, owner: str, lease: timedelta, now: datetime
) -> bool:
    """Take or keep a webhook for ``lease``; False when another has it."""
    return leases.take(conn, account_id, tables.webhooks, webhook_id, owner, lease, now)


def release(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, owner: str, seen: EventNumber | None = None
) -> None:
    """Let a webhook go. ``seen``: up to there nothing in the log was for it."""
    leases.release(conn, account_id, tables.webhooks, webhook_id, owner)
    if seen is not None:
        behind = update(tables.webhooks).where(_w.account_id == account_id, _w.id == webhook_id)
        conn.execute(behind.where(_w.event_number < seen).values(event_number=seen))


def release_all(conn: WriteConn, owners: str) -> int:
    """Let everything go whose owner's name begins so: of a server that is known to be gone."""
    return leases.release_all(conn, tables.webhooks, owners)


def survey(
    conn: ReadConn,
    account_id: AccountId,
    webhook_id: WebhookId,
    after: EventNumber,
    skip: frozenset[EventNumber],
    limit: int,
    now: datetime,
) -> Survey:
    """What is to be done, without the calls of ``skip``; ``after``: up to there the caller knows the log.

    A webhook in order is given calls up to the first that may not be made yet; one that has failed too often, one call
    when its pause is over.
    """
    webhook = webhooks.find_active(conn, account_id, webhook_id)
    if webhook is None:
        return Survey(None)
    newest, pruned = events.bounds(conn, account_id)
    start = EventNumber(max(after, webhook.event_number, pruned))
    if webhook.retry_at is not None and webhook.retry_at > now:
        return Survey(webhook, reach=start, next_at=webhook.retry_at)
    due, next_at = _due(conn, webhook, skip, 1 if webhook.retry_at is not None else limit, now)
    is_held = webhook.retry_at is not None or (webhook.is_ordered and next_at is not None)
    if is_held or len(due) >= limit:
        return Survey(webhook, reach=start, is_last=is_held, due=due, next_at=next_at)
    reach = EventNumber(min(newest, start + SCANNED))
    fresh = _fresh(conn, webhook, start, reach)
    return Survey(webhook, fresh, reach, reach >= newest, due, next_at)


def _due(
    conn: ReadConn, webhook: Webhook, skip: frozenset[EventNumber], limit: int, now: datetime
) -> tuple[tuple[Due, ...], datetime | None]:
    """Calls to be made now, by number, and when another may be."""
    micros = clock.to_micros(now)
    b = tables.mailboxes.c
    mine = and_(_c.account_id == webhook.account_id, _c.webhook_id == webhook.id, _PENDING)
    statement = (
        select(_c.event_number, _c.attempts, _c.next_attempt_at, _e.type, _e.version, _e.created_at, _e.body, b.address)
        .outerjoin(tables.events, (_e.account_id == _c.account_id) & (_e.number == _c.event_number))
        .outerjoin(tables.mailboxes, (b.account_id == _c.account_id) & (b.id == _e.mailbox_id))
        .where(mine)
    )
    if not webhook.is_ordered:
        statement = statement.where(_c.next_attempt_at <= micros)
    rows = conn.execute(statement.order_by(_c.event_number).limit(limit + len(skip))).all()
    found: list[Due] = []
    next_at: int | None = None
    for row in rows:
        if row.event_number in skip:
            continue
        if row.next_attempt_at > micros:
            next_at = row.next_attempt_at
            break
        found.append(_due_call(row))
    if not webhook.is_ordered:
        later = select(func.min(_c.next_attempt_at)).where(mine, _c.next_attempt_at > micros)
        next_at = conn.execute(later).scalar()
    return tuple(found[:limit]), clock.optional_from_micros(next_at)


def _due_call(row: Any) -> Due:
    created_at = clock.optional_from_micros(row.created_at)
    number = EventNumber(row.event_number)
    return Due(number, row.attempts + 1, row.type, row.version, created_at, row.address, row.body)


def _fresh(conn: ReadConn, webhook: Webhook, after: EventNumber, reach: EventNumber) -> tuple[EventNumber, ...]:
    """Events behind ``after`` that the webhook wants. Of its own dead calls it is not told: that would never end."""
    if reach <= after:
        return ()
    own = (_e.type == "webhook.call_dead") & _e.body.contains(str(webhook.public_id))
    statement = select(_e.number).where(
        _e.account_id == webhook.account_id, _e.number > after, _e.number <= reach, ~own
    )
    if "*" not in webhook.types:
        statement = statement.where(_e.type.in_(sorted(event_types.expand(webhook.types))))
    if webhook.mailbox_id is not None:
        statement = statement.where(_e.mailbox_id == webhook.mailbox_id)
    return tuple(EventNumber(number) for number in conn.execute(statement.order_by(_e.number)).scalars())


def open_calls(
    conn: WriteConn,
    account_id: AccountId,
    webhook_id: WebhookId,
    before: EventNumber,
    numbers: Sequence[EventNumber],
    reach: EventNumber,
    now: datetime,
) -> bool:
    """Make calls of these events and note that the log up to ``reach`` is done.

    False, and nothing changes, when the log up to another number than ``before`` was done already.
    """
    mine = _w.account_id == account_id, _w.id == webhook_id, _w.event_number == before, _w.status == "active"
    if not conn.execute(update(tables.webhooks).where(*mine).values(event_number=reach)).rowcount:
        return False
    if numbers:
        webhook_calls.insert(conn, account_id, webhook_id, numbers, now)
    return True


def record(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, results: Sequence[Result], now: datetime
) -> None:
    """Note what attempts came to, in the order in which they ended.

    A call that failed waits for its next attempt or is dead (``webhook.call_dead``); a webhook that fails again and
    again pauses, and is broken in the end (``webhook.broken``).
    """
    attempted = [
        {
            "account_id": account_id,
            "webhook_id": webhook_id,
            "event_number": one.number,
            "attempt": one.attempt,
            "attempted_at": clock.to_micros(one.attempted_at),
            "duration_ms": one.duration_ms,
            "status": one.status,
            "error": one.error,
            "answer": one.answer,
        }
        for one in results
    ]
    _ATTEMPTED.add(conn, attempted)
    delivered = [one for one in results if one.is_delivered]
    if delivered:
        _DELIVERED.many(conn, [_place(account_id, webhook_id, one) for one in delivered])
    failed = [one for one in results if not one.is_delivered]
    if failed:
        _record_failed(conn, account_id, webhook_id, failed, now)
    webhook = webhooks.find_active(conn, account_id, webhook_id)
    if webhook is not None and (failed or webhook.failures):
        _judge(conn, webhook, results, now)


_MINE = (
    _c.account_id == bindparam("in_account"),
    _c.webhook_id == bindparam("of_webhook"),
    _c.event_number == bindparam("of_event"),
    _PENDING,
)
_ATTEMPTED = Missing(tables.webhook_attempts)
_DELIVERED = Prepared(
    update(tables.webhook_calls)
    .where(*_MINE)
    .values(status="delivered", attempts=_c.attempts + 1, next_attempt_at=None, finished_at=bindparam("at"))
)
_FAILED = Prepared(
    update(tables.webhook_calls)
    .where(*_MINE)
    .values(
        status=bindparam("becomes"),
        attempts=_c.attempts + 1,
        tries=_c.tries + 1,
        tried_since=bindparam("since"),
        next_attempt_at=bindparam("again_at"),
        finished_at=bindparam("ended_at"),
    )
)


def _place(account_id: AccountId, webhook_id: WebhookId, one: Result) -> dict[str, Any]:
    at = clock.to_micros(one.ended_at)
    return {"in_account": account_id, "of_webhook": webhook_id, "of_event": one.number, "at": at}


def _record_failed(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, failed: Sequence[Result], now: datetime
) -> None:
    wanted = select(_c.event_number, _c.tries, _c.tried_since).where(
        _c.account_id == account_id,
        _c.webhook_id == webhook_id,
        _c.event_number.in_([one.number for one in failed]),
        _PENDING,
    )
    held = {row.event_number: row for row in conn.execute(wanted)}
    changes, dead = [], []
    for one in failed:
        row = held.get(one.number)
        if row is None:
            continue
        since = clock.optional_from_micros(row.tried_since) or one.attempted_at
        again_at = attempts.next_at(one, row.tries, since, now)
        change = _place(account_id, webhook_id, one)
        changes.append(
            change
            | {
                "becomes": "dead" if again_at is None else "pending",
                "since": clock.to_micros(since),
                "again_at": None if again_at is None else clock.to_micros(again_at),
                "ended_at": change["at"] if again_at is None else None,
            }
        )
        if again_at is None:
            dead.append(one.number)
    if changes:
        for change in changes:
            del change["at"]
        _FAILED.many(conn, changes)
    if dead:
        where = select(_w.public_id).where(_w.account_id == account_id, _w.id == webhook_id)
        public_id = conn.execute(where).scalar_one()
        told = [NewEvent("webhook.call_dead", {"webhook": public_id, "event": number}) for number in dead]
        events.record_all(conn, account_id, told, now=now)


def _judge(conn: WriteConn, webhook: Webhook, results: Sequence[Result], now: datetime) -> None:
    """Count failures in a row; pause or give up the webhook."""
    failures, since = attempts.count_failures(results, webhook.failures, webhook.failing_since)
    retry_at = attempts.paused_until(failures, now)
    is_gone = any(one.status == GONE for one in results)
    is_broken = is_gone or (since is not None and now - since >= BROKEN_AFTER)
    values = {
        "failures": failures,
        "failing_since": None if since is None else clock.to_micros(since),
        "retry_at": None if retry_at is None or is_broken else clock.to_micros(retry_at),
        "status": "broken" if is_broken else "active",
    }
    mine = _w.account_id == webhook.account_id, _w.id == webhook.id
    conn.execute(update(tables.webhooks).where(*mine).values(values))
    if is_broken:
        body = {"webhook": str(webhook.public_id), "url": webhook.url, "reason": "gone" if is_gone else "failing"}
        events.record(conn, webhook.account_id, "webhook.broken", body, now=now)
