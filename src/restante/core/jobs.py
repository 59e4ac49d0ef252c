"""Jobs: background work that survives a crash, done at least once.

A job is enqueued in the transaction that needs it. A worker claims a batch with a lease; a worker that dies loses its
lease and the job is claimed again. ``unique_key`` keeps a second waiting job of the same kind out.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, delete, insert, null, or_, select, true, update

from restante import clock
from restante.errors import Conflict
from restante.ids import AccountId, JobId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, concurrent, touch
from restante.schema.prepared import Prepared

INSTANCE = 0  # signalled when a job of no account is enqueued

_j = tables.jobs.c


class Job(NamedTuple):
    """A claimed job; ``attempts`` counts this one, ``owner`` has claimed it."""

    id: JobId
    account_id: AccountId | None
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    owner: str = ""
    lane: str | None = None


_FIND = Prepared(select(_j.id).where(_j.unique_key == bindparam("key")))
_INSERT = Prepared(
    insert(tables.jobs)
    .values(
        {
            name: bindparam(name)
            for name in ("account_id", "kind", "payload", "unique_key", "lane", "run_at", "created_at")
        }
        | {"attempts": 0}
    )
    .returning(_j.id)
)
_DELETE = Prepared(delete(tables.jobs).where(_j.id == bindparam("job"), _j.lease_owner == bindparam("owner")))
_PUT_BACK = Prepared(
    update(tables.jobs)
    .where(_j.id == bindparam("job"), _j.lease_owner == bindparam("owner"))
    .values(run_at=bindparam("at"), lease_owner=null(), attempts=0, last_error=null())
)


def enqueue(
    conn: WriteConn,
    account_id: int | None,
    kind: str,
    payload: Mapping[str, Any],
    *,
    now: datetime,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    lane: str | None = None,
) -> JobId | None:
    """Add a job, to run at ``run_at`` (default: at once); None when one with this ``unique_key`` waits already.

    Only so many jobs of one ``lane`` run at a time, so that those for a slow peer leave room for others.
    """
    if unique_key is not None and _FIND.row(conn, {"key": unique_key}):
        return None
    values = {
        "account_id": account_id,
        "kind": kind,
        "payload": json.dumps(payload, separators=(",", ":")),
        "unique_key": unique_key,
        "lane": lane,
        "run_at": clock.to_micros(run_at or now),
        "created_at": clock.to_micros(now),
    }
    row = _INSERT.row(conn, values)
    assert row is not None
    touch(conn, INSTANCE)
    return JobId(row[0])


def next_run_at(conn: ReadConn, full_lanes: Collection[str] = ()) -> datetime | None:
    """When the next job outside of these lanes may be claimed; None when there is none."""
    first = select(_j.run_at).where(_outside(full_lanes)).order_by(_j.run_at, _j.id).limit(1)
    return clock.optional_from_micros(conn.execute(first).scalar())


def _outside(lanes: Collection[str]) -> ColumnElement[bool]:
    return or_(_j.lane.is_(None), _j.lane.not_in(lanes)) if lanes else true()


@concurrent
def claim(
    conn: WriteConn,
    owner: str,
    limit: int,
    lease: timedelta,
    now: datetime,
    lane_limit: int | None = None,
    lanes: Mapping[str, int] | None = None,
) -> list[Job]:
    """Take up to ``limit`` due jobs for ``lease``, oldest first. A claimed job is due again when its lease ends.

    ``lanes`` says how many jobs of each lane run already: none is taken that would be one over ``lane_limit``.
    """
    micros = clock.to_micros(now)
    used = dict(lanes or {})
    full = [lane for lane, count in used.items() if lane_limit is not None and count >= lane_limit]
    due = conn.execute(
        select(_j.id, _j.lane)
        .where(_j.run_at <= micros, _outside(full))
        .order_by(_j.run_at, _j.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = []
    for job_id, lane in due:
        if lane is not None and lane_limit is not None:
            if used.get(lane, 0) >= lane_limit:
                continue
            used[lane] = used.get(lane, 0) + 1
        ids.append(job_id)
    if not ids:
        return []
    rows = conn.execute(
        update(tables.jobs)
        .where(_j.id.in_(ids))
        .values(lease_owner=owner, run_at=micros + lease // clock.MICROSECOND, attempts=_j.attempts + 1)
        .returning(_j.id, _j.account_id, _j.kind, _j.payload, _j.attempts, _j.lane)
    ).all()
    order = {job_id: at for at, job_id in enumerate(ids)}
    return [
        Job(JobId(row.id), row.account_id, row.kind, json.loads(row.payload), row.attempts, owner, row.lane)
        for row in sorted(rows, key=lambda row: order[row.id])
    ]


@concurrent
def complete(conn: WriteConn, owner: str, job_ids: Sequence[JobId]) -> int:
    """Forget jobs that are done; returns how many this owner still held."""
    return conn.execute(delete(tables.jobs).where(_j.id.in_(job_ids), _j.lease_owner == owner)).rowcount


@concurrent
def renew(conn: WriteConn, owner: str, job_ids: Sequence[JobId], lease: timedelta, now: datetime) -> int:
    """Hold claimed jobs for ``lease`` from now on; returns how many this owner still held."""
    until = clock.to_micros(now + lease)
    mine = _j.id.in_(job_ids), _j.lease_owner == owner
    return conn.execute(update(tables.jobs).where(*mine).values(run_at=until)).rowcount


def release_all(conn: WriteConn, owners: str, now: datetime) -> int:
    """Let the jobs be claimed anew whose owner's name begins so: those of a worker that is known to be gone."""
    left = _j.lease_owner.startswith(owners, autoescape=True)
    return conn.execute(update(tables.jobs).where(left).values(run_at=clock.to_micros(now), lease_owner=None)).rowcount


def settle(conn: WriteConn, job: Job, run_at: datetime | None) -> bool:
    """Complete a claimed job, or let it run again at ``run_at``, in the transaction that did its work.

    False when another worker has it now: then that one settles it.
    """
    mine = {"job": job.id, "owner": job.owner}
    if run_at is None:
        return _DELETE.run(conn, mine) > 0
    return _PUT_BACK.run(conn, {**mine, "at": clock.to_micros(run_at)}) > 0


def hasten(conn: WriteConn, unique_keys: Sequence[str], now: datetime) -> int:
    """Let waiting jobs run at once; returns how many do. Those that a worker has are left to it."""
    waiting = _j.unique_key.in_(unique_keys), _j.lease_owner.is_(None)
    touch(conn, INSTANCE)
    return conn.execute(update(tables.jobs).where(*waiting).values(run_at=clock.to_micros(now))).rowcount


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
