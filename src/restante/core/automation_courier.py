"""What the courier (``jobs.automations``) finds to do for automations, and what it notes of it.

As ``core.webhook_courier``: everything that must not be forgotten is in the rows; what was not recorded is done again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, func, select, update

from restante import clock
from restante.core import attempts, automation_runs, automations, events, leases
from restante.core.attempts import Result
from restante.core.automations import Automation
from restante.ids import AccountId, AutomationId, EventNumber, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared, PreparedByIds

_a, _r = tables.automations.c, tables.automation_runs.c
_ACTIVE = _a.status == "active"
_PENDING = _r.status == "pending"


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
            why = None if change["becomes"] == "done" else _reason(one)
            facts.append(automation_runs.ended(found, row.message_id, UUID(bytes=row.public_id), why))
    if changes:
        _RECORD.many(conn, changes)
        _judge(conn, found, results, now)
    if ended:
        events.record_all(conn, account_id, facts, now=now)
        automation_runs.settle(conn, account_id, ended, now)


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
