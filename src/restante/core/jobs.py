"""Jobs: background work that survives a crash, done at least once.

A job is enqueued in the transaction that needs it. A worker claims a batch with a lease; a worker that dies loses its
lease and the job is claimed again. ``unique_key`` keeps a second waiting job of the same kind out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from restante import clock
from restante.errors import Conflict
from restante.ids import AccountId, JobId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, concurrent, touch

INSTANCE = 0  # signalled when a job of no account is enqueued

_j = tables.jobs.c


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; ``attempts`` counts this one."""

    id: JobId
    account_id: AccountId | None
    kind: str
    payload: Mapping[str, Any]
    attempts: int


def enqueue(
    conn: WriteConn,
    account_id: int | None,
    kind: str,
    payload: Mapping[str, Any],
    *,
    now: datetime,
    run_at: datetime | None = None,
    unique_key: str | None = None,
) -> JobId | None:
    """Add a job, to run at ``run_at`` (default: at once); None when one with this ``unique_key`` waits already."""
    if unique_key is not None and conn.execute(select(_j.id).where(_j.unique_key == unique_key)).first():
        return None
    row = conn.execute(
        insert(tables.jobs)
        .values(
            account_id=account_id,
            kind=kind,
            payload=json.dumps(payload, separators=(",", ":")),
            unique_key=unique_key,
            run_at=clock.to_micros(run_at or now),
            created_at=clock.to_micros(now),
        )
        .returning(_j.id)
    ).one()
    touch(conn, account_id or INSTANCE)
    return JobId(row.id)


def next_run_at(conn: ReadConn) -> datetime | None:
    """When the next job may be claimed; None when there is none."""
    return clock.optional_from_micros(conn.execute(select(func.min(_j.run_at))).scalar())


@concurrent
def claim(conn: WriteConn, owner: str, limit: int, lease: timedelta, now: datetime) -> list[Job]:
    """Take up to ``limit`` due jobs for ``lease``, oldest first. A claimed job is due again when its lease ends."""
    micros = clock.to_micros(now)
    chosen = conn.execute(
        select(_j.id)
        .where(_j.run_at <= micros)
        .order_by(_j.run_at, _j.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in chosen]
    if not ids:
        return []
    rows = conn.execute(
        update(tables.jobs)
        .where(_j.id.in_(ids))
        .values(lease_owner=owner, run_at=micros + lease // clock.MICROSECOND, attempts=_j.attempts + 1)
        .returning(_j.id, _j.account_id, _j.kind, _j.payload, _j.attempts)
    ).all()
    order = {job_id: at for at, job_id in enumerate(ids)}
    return [
        Job(JobId(row.id), row.account_id, row.kind, json.loads(row.payload), row.attempts)
        for row in sorted(rows, key=lambda row: order[row.id])
    ]


@concurrent
def complete(conn: WriteConn, owner: str, job_ids: Sequence[JobId]) -> int:
    """Forget jobs that are done; returns how many this owner still held."""
    return conn.execute(delete(tables.jobs).where(_j.id.in_(job_ids), _j.lease_owner == owner)).rowcount


@concurrent
def put_back(conn: WriteConn, owner: str, job_id: JobId, run_at: datetime, error: str | None = None) -> None:
    """Let a claimed job run again at ``run_at`` (a retry with its ``error``, or a periodic job's next turn).

    Raises Conflict(code="lease_lost") when another worker has it now.
    """
    values: dict[str, Any] = {"run_at": clock.to_micros(run_at), "lease_owner": None}
    values |= {"last_error": error} if error else {"attempts": 0, "last_error": None}
    changed = conn.execute(
        update(tables.jobs).where(_j.id == job_id, _j.lease_owner == owner).values(**values)
    ).rowcount
    if not changed:
        raise Conflict("another worker has this job now", code="lease_lost")
