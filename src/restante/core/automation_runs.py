"""Runs of automations: one message for one automation, from the log to its end.

``find_fresh`` and ``open_runs`` turn received messages into runs: the cursor moves in the transaction that writes them
and counts them, so each message runs once. ``jobs.automations`` does the work of those that are due, under the
automation's lease, as long as it takes; whatever it had not recorded is done again.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Select, bindparam, delete, exists, func, insert, select, update

from restante import clock
from restante.core import attempts, automations, events, folders, leases, messages
from restante.core.attempts import Result
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
_PENDING = _r.status == "pending"


@dataclass(frozen=True, slots=True)
class Match:
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
class Due:
    """A run to be done now for the ``attempt``-th time."""

    number: EventNumber
    attempt: int
    message_id: MessageId
    public_id: UUID


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be done for an automation now; ``next_at``: when a run that waits becomes due."""

    automation: Automation
    due: tuple[Due, ...]
    next_at: datetime | None


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
        facts = [_ran(every[one.automation_id], one.message_id, UUID(bytes=one.public_id)) for one in done]
        events.record_all(conn, account_id, facts, now=now)
        _settle(conn, account_id, [one.number for one in done], now)
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


# --- runs that are due ------------------------------------------------------------------------------------------------


def _waiting() -> Select[Any]:
    now = bindparam("now", type_=BigInteger)
    due = select(_r.event_number).where(
        _r.account_id == _a.account_id, _r.automation_id == _a.id, _PENDING, _r.next_attempt_at <= now
    )
    return select(_a.account_id, _a.id).where(
        _ACTIVE,
        (_a.retry_at.is_(None)) | (_a.retry_at <= now),
        leases.free(tables.automations, bindparam("owner"), now),
        due.exists(),
    )


_WAITING = Prepared(_waiting())
_WAITING_OF = Prepared(_waiting().where(_a.account_id == bindparam("account")))


def list_waiting(
    conn: ReadConn, owner: str, now: datetime, account_ids: Collection[int] | None = None
) -> list[tuple[AccountId, AutomationId]]:
    """Automations of all accounts (or of these) that have runs to do and that nobody else has leased."""
    values = {"owner": owner, "now": clock.to_micros(now)}
    if account_ids is None:
        rows = _WAITING.rows(conn, values)
    else:
        rows = [row for one in sorted(account_ids) for row in _WAITING_OF.rows(conn, {**values, "account": one})]
    return [(AccountId(row[0]), AutomationId(row[1])) for row in rows]


def claim(
    conn: WriteConn, account_id: AccountId, automation_id: AutomationId, owner: str, lease: timedelta, now: datetime
) -> bool:
    """Take or keep an automation for ``lease``; False when another has it."""
    return leases.take(conn, account_id, tables.automations, automation_id, owner, lease, now)


def release(conn: WriteConn, account_id: AccountId, automation_id: AutomationId, owner: str) -> None:
    """Let an automation go."""
    leases.release(conn, account_id, tables.automations, automation_id, owner)


def release_all(conn: WriteConn, owners: str) -> int:
    """Let everything go whose owner's name begins so: of a server that is known to be gone."""
    return leases.release_all(conn, tables.automations, owners)


_MINE = _r.account_id == bindparam("account"), _r.automation_id == bindparam("automation"), _PENDING
_NOW = bindparam("now", type_=BigInteger)
_DUE = Prepared(
    select(_r.event_number, _r.attempts, _r.message_id, _r.message_public_id)
    .where(*_MINE, _r.next_attempt_at <= _NOW)
    .order_by(_r.event_number)
    .limit(bindparam("limit"))
)
_LATER = Prepared(select(func.min(_r.next_attempt_at)).where(*_MINE, _r.next_attempt_at > _NOW))


def survey(
    conn: ReadConn,
    account_id: AccountId,
    automation_id: AutomationId,
    skip: frozenset[EventNumber],
    limit: int,
    now: datetime,
) -> Survey | None:
    """Runs to be done now, oldest first, without those of ``skip``; None when the automation is removed.

    One that has failed too often is given one run when its pause is over.
    """
    found = automations.find(conn, account_id, automation_id)
    if found is None:
        return None
    if found.retry_at is not None and found.retry_at > now:
        return Survey(found, (), found.retry_at)
    limit = 1 if found.retry_at is not None else limit
    key = {"account": account_id, "automation": automation_id, "now": clock.to_micros(now)}
    rows = _DUE.rows(conn, {**key, "limit": limit + len(skip)})
    due = [Due(row[0], row[1] + 1, row[2], UUID(bytes=row[3])) for row in rows if row[0] not in skip]
    ((later,),) = _LATER.rows(conn, key)
    return Survey(found, tuple(due[:limit]), clock.optional_from_micros(later))


class _Held(NamedTuple):
    """A run that waits for its end."""

    number: int
    attempts: int
    tried_since: int | None
    message_id: int
    public_id: bytes


_HELD = PreparedByIds(
    select(_r.event_number, _r.attempts, _r.tried_since, _r.message_id, _r.message_public_id).where(*_MINE),
    _r.event_number,
)
_RECORD = Prepared(
    update(tables.automation_runs)
    .where(
        _r.account_id == bindparam("in_account"),
        _r.automation_id == bindparam("of_automation"),
        _r.event_number == bindparam("of_event"),
        _PENDING,
    )
    .values(
        status=bindparam("becomes"),
        attempts=_r.attempts + 1,
        tried_since=bindparam("since"),
        next_attempt_at=bindparam("again_at"),
        finished_at=bindparam("ended_at"),
        http_status=bindparam("http_status"),
        error=bindparam("error"),
        answer=bindparam("answer"),
    )
)


def record(
    conn: WriteConn, account_id: AccountId, automation_id: AutomationId, results: Sequence[Result], now: datetime
) -> None:
    """Note what attempts came to, in the order in which they ended.

    A run that failed waits for its next attempt or is given up (``automation.failed``); one that succeeded is done
    (``automation.ran``). A message whose runs have all ended goes into the Trash where one of them was to do that. An
    automation that fails again and again pauses. Nothing happens when it is removed meanwhile.
    """
    found = automations.find(conn, account_id, automation_id)
    if found is None:
        return
    key = {"account": account_id, "automation": automation_id}
    held = {row[0]: _Held(*row) for row in _HELD.rows(conn, key, [one.number for one in results])}
    changes, facts, ended = [], [], []
    for one in results:
        row = held.pop(one.number, None)
        if row is None:
            continue
        change = _change(one, row, now)
        changes.append(change | {"in_account": account_id, "of_automation": automation_id})
        if change["becomes"] != "pending":
            ended.append(one.number)
            public_id = UUID(bytes=row.public_id)
            is_done = change["becomes"] == "done"
            facts.append(
                _ran(found, row.message_id, public_id) if is_done else _failed(found, row.message_id, public_id, one)
            )
    if changes:
        _RECORD.many(conn, changes)
        _judge(conn, found, results, now)
    if ended:
        events.record_all(conn, account_id, facts, now=now)
        _settle(conn, account_id, ended, now)


def _change(one: Result, row: _Held, now: datetime) -> dict[str, Any]:
    """What becomes of a run's row."""
    since = clock.optional_from_micros(row.tried_since) or one.attempted_at
    again_at = None if one.is_delivered else attempts.next_at(one, row.attempts, since, now)
    return {
        "of_event": one.number,
        "becomes": "done" if one.is_delivered else "failed" if again_at is None else "pending",
        "since": row.tried_since if one.is_delivered else clock.to_micros(since),
        "again_at": None if again_at is None else clock.to_micros(again_at),
        "ended_at": clock.to_micros(one.ended_at) if again_at is None else None,
        "http_status": one.status,
        "error": one.error,
        "answer": one.answer,
    }


def _judge(conn: WriteConn, automation: Automation, results: Sequence[Result], now: datetime) -> None:
    """Remember how the newest attempt went; pause an automation that fails in a row."""
    failures, _ = attempts.count_failures(results, automation.failures, None)
    newest = results[-1]
    retry_at = attempts.paused_until(failures, now)
    values: dict[str, Any] = {
        "failures": failures,
        "in_error": int(not newest.is_delivered),
        "retry_at": None if retry_at is None else clock.to_micros(retry_at),
    }
    failed = [one for one in results if not one.is_delivered]
    if failed:
        values["last_error"] = _reason(failed[-1])
    elif not (automation.in_error or automation.failures):
        return
    mine = _a.account_id == automation.account_id, _a.id == automation.id
    conn.execute(update(tables.automations).where(*mine).values(values))


def _reason(failed: Result) -> str:
    return failed.error or f"HTTP {failed.status}"


def _ran(automation: Automation, message_id: int, public_id: UUID) -> NewEvent:
    body = {"automation": str(automation.public_id), "message": message_id, "id": str(public_id)}
    return NewEvent("automation.ran", body)


def _failed(automation: Automation, message_id: int, public_id: UUID, result: Result) -> NewEvent:
    body = {"automation": str(automation.public_id), "message": message_id, "id": str(public_id)}
    return NewEvent("automation.failed", body | {"error": _reason(result)})


_ACTIVE_ONES = Prepared(select(_a.id, _a.deletes).where(_a.account_id == bindparam("account"), _ACTIVE))
_STANDING = PreparedByIds(
    select(_r.mailbox_id, _r.message_id, _r.status).where(
        _r.account_id == bindparam("account"), _r.automation_id == bindparam("automation")
    ),
    _r.event_number,
)


def _settle(conn: WriteConn, account_id: AccountId, numbers: Sequence[EventNumber], now: datetime) -> None:
    """Move messages into the Trash whose runs have all ended, where one that is done was to do that."""
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
                    _settle(conn, account_id, numbers, now)
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
