"""Jobs: claims, leases, retries, unique keys."""

from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import jobs
from restante.errors import Conflict
from restante.runtime import Runtime

LEASE = timedelta(minutes=5)


async def add(rt: Runtime, kind: str = "k", **options: object) -> object:
    return await rt.db.write(jobs.enqueue, None, kind, {"n": 1}, now=rt.clock.now(), **options)  # type: ignore[arg-type]


async def claim(rt: Runtime, owner: str = "me", limit: int = 10) -> list[jobs.Job]:
    return await rt.db.write(jobs.claim, owner, limit, LEASE, rt.clock.now())


async def test_jobs_come_in_order_and_once(rt: Runtime) -> None:
    for kind in "abc":
        await add(rt, kind)
    first = await claim(rt, limit=2)
    assert [(job.kind, job.payload, job.attempts) for job in first] == [("a", {"n": 1}, 1), ("b", {"n": 1}, 1)]
    assert [job.kind for job in await claim(rt, "other")] == ["c"]
    assert await claim(rt, "third") == []
    assert await rt.db.write(jobs.complete, "other", [job.id for job in first]) == 0
    assert await rt.db.write(jobs.complete, "me", [job.id for job in first]) == 2


async def test_a_lost_lease_is_claimed_again(rt: Runtime, clock: ManualClock) -> None:
    await add(rt)
    (mine,) = await claim(rt)
    clock.advance(LEASE)
    (again,) = await claim(rt, "other")
    assert (again.id, again.attempts) == (mine.id, 2)
    with pytest.raises(Conflict) as caught:
        await rt.db.write(jobs.put_back, "me", mine.id, rt.clock.now())
    assert caught.value.code == "lease_lost"


async def test_a_job_waits_for_its_time(rt: Runtime, clock: ManualClock) -> None:
    later = rt.clock.now() + timedelta(hours=1)
    await add(rt, run_at=later)
    assert await claim(rt) == []
    assert await rt.db.read(jobs.next_run_at) == later
    clock.advance(timedelta(hours=1))
    assert len(await claim(rt)) == 1


async def test_a_retry_counts_and_a_new_turn_does_not(rt: Runtime) -> None:
    await add(rt)
    (job,) = await claim(rt)
    await rt.db.write(jobs.put_back, "me", job.id, rt.clock.now(), "it failed")
    (job,) = await claim(rt)
    assert job.attempts == 2
    await rt.db.write(jobs.put_back, "me", job.id, rt.clock.now())
    (job,) = await claim(rt)
    assert job.attempts == 1


async def test_a_unique_key_waits_only_once(rt: Runtime) -> None:
    assert await add(rt, unique_key="sweep") is not None
    assert await add(rt, unique_key="sweep") is None
    assert len(await claim(rt)) == 1
