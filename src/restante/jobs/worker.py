"""The worker: claims due jobs in batches, runs them side by side, retries failures, sleeps until something is due."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from restante import ids, log
from restante.core import jobs
from restante.core.jobs import Job
from restante.errors import Conflict
from restante.runtime import Runtime
from restante.storage.signals import INSTANCE, Subscription

Handler = Callable[[Runtime, Job], Awaitable[None]]

BATCH = 20
LEASE = timedelta(minutes=5)
LONGEST_SLEEP_SECONDS = 60.0  # the clock may jump; look again now and then
FAILED_SECONDS = 1.0  # between two tries when the queue itself cannot be used
FIRST_RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(hours=1)
MAX_ERROR = 500  # characters kept of a failure

_log = log.logger(__name__)


class Worker:
    """Runs the jobs of one runtime. ``periodic`` maps kinds to the pause between two of their runs."""

    def __init__(
        self, rt: Runtime, handlers: Mapping[str, Handler], periodic: Mapping[str, timedelta] | None = None
    ) -> None:
        self._rt, self._handlers, self._periodic = rt, handlers, dict(periodic or {})
        self._owner = ids.new_uuid().hex

    async def run(self) -> None:
        """Work until cancelled."""
        is_planned = False
        with self._rt.signals.subscribe(INSTANCE) as changes:
            while True:
                try:
                    if not is_planned:
                        await self._plan()
                        is_planned = True
                    if not await self.run_due():
                        await self._sleep(changes)
                except Exception as error:  # noqa: BLE001 - storage is away for the moment, say; the worker stays
                    _log.warning("worker_failed", error=f"{type(error).__name__}: {error}"[:MAX_ERROR])
                    await asyncio.sleep(FAILED_SECONDS)

    async def _plan(self) -> None:
        for kind in self._periodic:
            await self._rt.db.write(jobs.enqueue, None, kind, {}, now=self._rt.clock.now(), unique_key=kind)

    async def _sleep(self, changes: Subscription) -> None:
        due = await self._rt.db.read(jobs.next_run_at)
        pause = LONGEST_SLEEP_SECONDS
        if due is not None:
            pause = min(pause, max(0.0, (due - self._rt.clock.now()).total_seconds()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):  # wait_for of Python 3.11 loses a cancellation that comes with a change
                await changes.wait()

    async def run_due(self) -> bool:
        """Run one batch of what is due; False when nothing was."""
        now = self._rt.clock.now()
        due = await self._rt.db.read(jobs.next_run_at)
        if due is None or due > now:
            return False
        claimed = await self._rt.db.write(jobs.claim, self._owner, BATCH, LEASE, now)
        await asyncio.gather(*[self._run(job) for job in claimed])
        return bool(claimed)

    async def _run(self, job: Job) -> None:
        try:
            await self._handlers[job.kind](self._rt, job)
        except Exception as error:  # noqa: BLE001 - a job may fail in any way; it is tried again
            text = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            _log.warning("job failed", job=job.id, kind=job.kind, attempts=job.attempts, error=text)
            await self._put_back(job, self._retry_pause(job.attempts), text)
            return
        if job.kind in self._periodic:
            await self._put_back(job, self._periodic[job.kind], None)
        else:
            await self._rt.db.write(jobs.complete, self._owner, [job.id])

    async def _put_back(self, job: Job, pause: timedelta, error: str | None) -> None:
        try:
            await self._rt.db.write(jobs.put_back, self._owner, job.id, self._rt.clock.now() + pause, error)
        except Conflict:
            _log.warning("job taken over by another worker", job=job.id, kind=job.kind)

    @staticmethod
    def _retry_pause(attempts: int) -> timedelta:
        pause: timedelta = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(attempts - 1, 20))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, keeps no secret
