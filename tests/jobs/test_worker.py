"""The worker over real jobs, and what the standing jobs do."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from restante.clock import ManualClock
from restante.core import jobs, messages
from restante.core.jobs import Job
from restante.errors import Unavailable
from restante.jobs import worker as worker_module
from restante.jobs.handlers import HANDLERS, PERIODIC
from restante.jobs.worker import Handler, Worker
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from tests.makers import eml, make_mailbox, make_message


def recorder(seen: list[str]) -> Callable[[Runtime, Job], Awaitable[None]]:
    async def handle(_rt: Runtime, job: Job) -> None:
        seen.append(job.kind)
        if job.kind == "fails" and job.attempts < 3:
            raise RuntimeError("not yet")

    return handle


async def add(rt: Runtime, kind: str) -> None:
    await rt.db.write(jobs.enqueue, None, kind, {}, now=rt.clock.now())


def count(conn: ReadConn, table: str) -> int:
    return int(conn.execute(select(func.count()).select_from(tables.metadata.tables[table])).scalar_one())


async def test_jobs_are_done_and_forgotten(rt: Runtime) -> None:
    seen: list[str] = []
    worker = Worker(rt, {"a": recorder(seen)})
    await add(rt, "a")
    await add(rt, "a")
    assert await worker.run_due()
    assert not await worker.run_due()
    assert seen == ["a", "a"]
    assert await rt.db.read(count, "jobs") == 0


async def test_a_failing_job_is_tried_again_later_and_later(rt: Runtime, clock: ManualClock) -> None:
    seen: list[str] = []
    worker = Worker(rt, {"fails": recorder(seen)})
    await add(rt, "fails")
    await worker.run_due()
    assert not await worker.run_due()
    clock.advance(timedelta(seconds=13))
    await worker.run_due()
    assert not await worker.run_due()
    clock.advance(timedelta(seconds=25))
    await worker.run_due()
    assert seen == ["fails"] * 3
    assert await rt.db.read(count, "jobs") == 0


async def test_the_running_worker_wakes_for_a_new_job(rt: Runtime) -> None:
    done = asyncio.Event()

    async def handle(_rt: Runtime, _job: Job) -> None:
        done.set()

    worker = asyncio.create_task(Worker(rt, {"a": handle}).run())
    await asyncio.sleep(0)
    await add(rt, "a")
    await asyncio.wait_for(done.wait(), 60)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_standing_jobs_have_handlers_and_run_again(rt: Runtime, clock: ManualClock) -> None:
    assert set(PERIODIC) <= set(HANDLERS)
    done = asyncio.Event()
    seen: list[str] = []

    def noticing(kind: str) -> Handler:
        async def handle(rt: Runtime, job: Job) -> None:
            await HANDLERS[kind](rt, job)
            seen.append(kind)
            if len(seen) == len(PERIODIC):
                done.set()

        return handle

    running = asyncio.create_task(Worker(rt, {kind: noticing(kind) for kind in HANDLERS}, PERIODIC).run())
    await asyncio.wait_for(done.wait(), 120)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(seen) == sorted(PERIODIC)
    assert await rt.db.read(count, "jobs") == len(PERIODIC)


async def test_unused_bytes_go_after_the_grace_time(rt: Runtime, clock: ManualClock) -> None:
    bob = await make_mailbox(rt)
    small = await make_message(rt, bob)
    large = await make_message(rt, bob, eml("large") + bytes(range(32, 127)) * 20_000)
    await rt.db.write(messages.remove, bob.account_id, bob.id, [small.message_id, large.message_id], now=clock.now())
    worker = Worker(rt, HANDLERS)
    await add(rt, "sweep-contents")
    await worker.run_due()
    assert await rt.db.read(count, "contents") == 2
    clock.advance(timedelta(seconds=rt.config.storage.content_grace_seconds + 60))
    await add(rt, "sweep-contents")
    await worker.run_due()
    assert await rt.db.read(count, "contents") == 0
    assert list(rt.blobs.list_all()) == []


async def test_a_store_that_fails_for_a_moment_does_not_end_the_worker(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FAILED_SECONDS", 0.001)
    failures = [RuntimeError("a bug"), Unavailable("the disk is full"), RuntimeError("again")]
    write = rt.db.write

    async def failing(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(rt.db, "write", failing)
    done = asyncio.Event()

    async def handle(_rt: Runtime, _job: Job) -> None:
        done.set()

    running = asyncio.create_task(Worker(rt, {"standing": handle}, {"standing": timedelta(hours=1)}).run())
    await asyncio.wait_for(done.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not failures


async def test_a_slow_job_holds_nobody_up(rt: Runtime, clock: ManualClock) -> None:
    done, never = asyncio.Event(), asyncio.Event()

    async def slow(_rt: Runtime, _job: Job) -> None:
        await never.wait()

    async def quick(_rt: Runtime, _job: Job) -> None:
        done.set()

    worker = Worker(rt, {"slow": slow, "quick": quick})
    await add(rt, "slow")
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    await add(rt, "quick")
    await asyncio.wait_for(done.wait(), 60)
    clock.advance(timedelta(minutes=4))
    await worker.renew()  # as the worker itself does every minute
    clock.advance(timedelta(minutes=4))
    other = Worker(rt, {"slow": slow, "quick": quick})
    assert not await other.run_due(), "its lease was renewed"
    never.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await rt.db.read(count, "jobs") == 0, "what ran came to its end"


async def test_a_full_lane_leaves_room_for_others(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LANE_SLOTS", 2)
    free, done = asyncio.Event(), asyncio.Event()
    running_now: list[str] = []

    async def handle(_rt: Runtime, job: Job) -> None:
        running_now.append(job.lane or "")
        if job.lane is None:
            done.set()
        else:
            await free.wait()

    for _ in range(5):
        await rt.db.write(jobs.enqueue, None, "a", {}, now=rt.clock.now(), lane="stuck")
    await add(rt, "a")
    running = asyncio.create_task(Worker(rt, {"a": handle}).run())
    await asyncio.wait_for(done.wait(), 60)
    assert sorted(running_now) == ["", "stuck", "stuck"]
    free.set()
    while await rt.db.read(count, "jobs"):  # noqa: ASYNC110 - the worker takes the others as it has room
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running_now.count("stuck") == 5


async def test_claims_of_an_earlier_server_are_taken_over_at_once(rt: Runtime) -> None:
    done = asyncio.Event()

    async def handle(_rt: Runtime, _job: Job) -> None:
        done.set()

    await add(rt, "a")
    gone = Worker(rt, {"a": handle})
    claimed = await rt.db.write(
        jobs.claim, gone._owner, 10, worker_module.LEASE, rt.clock.now()
    )  # fmt: skip
    assert len(claimed) == 1
    assert not await Worker(rt, {"a": handle}).run_due()
    running = asyncio.create_task(Worker(rt, {"a": handle}).run())
    await asyncio.wait_for(done.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_handler_may_settle_its_job_itself(rt: Runtime, clock: ManualClock) -> None:
    async def handle(rt: Runtime, job: Job) -> bool:
        return await rt.db.write(jobs.settle, job, None if job.attempts > 5 else rt.clock.now() + timedelta(hours=1))

    await add(rt, "a")
    worker = Worker(rt, {"a": handle})
    assert await worker.run_due()
    assert await rt.db.read(jobs.next_run_at) == clock.now() + timedelta(hours=1)


async def test_the_end_of_storage_ends_all_jobs(rt: Runtime) -> None:
    sent: list[str] = []

    async def hand_over(_rt: Runtime, _job: Job) -> None:
        await asyncio.Event().wait()
        sent.append("what nobody can note")

    async def note(_rt: Runtime, _job: Job) -> None:
        raise Unavailable("the writer has ended", code="storage_ended")

    await add(rt, "hand over")
    await add(rt, "note")
    with pytest.raises(asyncio.CancelledError):
        await Worker(rt, {"hand over": hand_over, "note": note}).run_due()
    assert not sent
