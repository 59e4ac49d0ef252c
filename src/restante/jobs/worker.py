"""The worker: claims due jobs as it has room for them, runs them side by side, retries failures, sleeps in between.

A job that takes long holds nobody up: its lease is renewed, others are claimed beside it, and only so many of one lane
(the mail for one domain, say) run at a time.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from restante import ids, log
from restante.config import machine_name
from restante.core import jobs
from restante.core.jobs import Job
from restante.errors import Conflict, Unavailable
from restante.runtime import Runtime
from restante.storage.signals import INSTANCE, Subscription

Settled = bool
"""What a handler returns: True when its own transaction has completed the job or put it back, so that nothing is left
to do; None or False: it is done, and the worker forgets it."""
Handler = Callable[[Runtime, Job], Awaitable[Settled | None]]

SLOTS = 200  # jobs that run at one time
LANE_SLOTS = 50  # of those, jobs of one lane
LEASE = timedelta(minutes=5)
LONGEST_SLEEP_SECONDS = 60.0  # the clock may jump; look again now and then
GATHER_SECONDS = 0.02  # from one claim to the next: a claim costs as much as a job's own rows, so few take many
FAILED_SECONDS = 1.0  # between two tries when the queue itself cannot be used
GRACE_SECONDS = 10.0  # for what runs when the server ends: a message half handed over would go twice
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
        # one server at a time holds a data directory, so claims of an earlier one there are nobody's
        self._place = f"{machine_name()}:{rt.config.data_dir}#"
        self._owner = self._place + ids.new_uuid().hex
        self._running: dict[asyncio.Task[None], Job] = {}

    async def run(self) -> None:
        """Work until cancelled; what is under way then has a moment to come to its end."""
        renewing = asyncio.create_task(self._renew())
        try:
            await self._work()
        finally:
            renewing.cancel()
            await self._wind_up()

    async def _work(self) -> None:
        is_planned = False
        with self._rt.signals.subscribe(INSTANCE) as changes:
            while True:
                try:
                    if not is_planned:
                        await self._rt.db.write(jobs.release_all, self._place, self._rt.clock.now())
                        await self._plan()
                        is_planned = True
                    if await self._start_due():
                        await asyncio.sleep(GATHER_SECONDS)
                    else:
                        await self._sleep(changes)
                except Exception as error:  # noqa: BLE001 - storage is away for the moment, say; the worker stays
                    _log.warning("worker_failed", error=f"{type(error).__name__}: {error}"[:MAX_ERROR])
                    await asyncio.sleep(FAILED_SECONDS)

    async def _plan(self) -> None:
        for kind in self._periodic:
            await self._rt.db.write(jobs.enqueue, None, kind, {}, now=self._rt.clock.now(), unique_key=kind)

    async def _sleep(self, changes: Subscription) -> None:
        """Until a job may be claimed: one is enqueued, one becomes due, or one ends while all room is taken."""
        pause = LONGEST_SLEEP_SECONDS
        if self._room():
            due = await self._rt.db.read(jobs.next_run_at, self._full_lanes())
            if due is not None:
                pause = min(pause, max(0.0, (due - self._rt.clock.now()).total_seconds()))
        woken = asyncio.ensure_future(changes.wait())
        limits = self._running if self._room() == 0 or self._full_lanes() else ()
        try:
            await asyncio.wait((woken, *limits), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    def _room(self) -> int:
        return SLOTS - len(self._running)

    def _lanes(self) -> Counter[str]:
        return Counter(job.lane for job in self._running.values() if job.lane is not None)

    def _full_lanes(self) -> list[str]:
        return [lane for lane, count in self._lanes().items() if count >= LANE_SLOTS]

    async def run_due(self) -> bool:
        """Run one batch of what is due to its end; False when nothing was."""
        started = await self._start_due()
        await asyncio.gather(*started)
        return bool(started)

    async def _start_due(self) -> list[asyncio.Task[None]]:
        """Claim what is due and fits, and let it run."""
        room = self._room()
        if not room:
            return []
        now = self._rt.clock.now()
        due = await self._rt.db.read(jobs.next_run_at, self._full_lanes())
        if due is None or due > now:
            return []
        claimed = await self._rt.db.write(jobs.claim, self._owner, room, LEASE, now, LANE_SLOTS, self._lanes())
        started = []
        for job in claimed:
            task = asyncio.create_task(self._run(job))
            self._running[task] = job
            task.add_done_callback(self._running.pop)
            started.append(task)
        return started

    async def _renew(self) -> None:
        """Keep the leases of what still runs, long before they end."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 5)
            await self.renew()

    async def renew(self) -> None:
        """Hold every running job for another lease; a failure is logged and made good the next time."""
        held = [job.id for job in self._running.values()]
        if not held:
            return
        try:
            kept = await self._rt.db.write(jobs.renew, self._owner, held, LEASE, self._rt.clock.now())
        except Exception as error:  # noqa: BLE001 - the next turn comes before the lease ends
            _log.warning("leases not renewed", error=f"{type(error).__name__}: {error}"[:MAX_ERROR])
        else:
            _log.debug("leases renewed", jobs=kept)

    async def _wind_up(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE_SECONDS)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        """Run one job and settle it. Never raises: what storage cannot note now is run again after the lease."""
        try:
            settled = await self._handlers[job.kind](self._rt, job)
            if job.kind in self._periodic:
                await self._put_back(job, self._periodic[job.kind], None)
            elif not settled:
                await self._rt.db.write(jobs.complete, self._owner, [job.id])
        except Exception as error:  # noqa: BLE001 - a job may fail in any way; it is tried again
            if isinstance(error, Unavailable) and error.code == "storage_ended":
                self._stop_all()
                return
            text = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            _log.warning("job failed", job=job.id, kind=job.kind, attempts=job.attempts, error=text)
            with contextlib.suppress(Exception):
                await self._put_back(job, self._retry_pause(job.attempts), text)

    def _stop_all(self) -> None:
        """Nothing can be noted any more, so nothing more may be done that would have to be: this server is ending."""
        for task in self._running:
            if task is not asyncio.current_task():
                task.cancel()

    async def _put_back(self, job: Job, pause: timedelta, error: str | None) -> None:
        try:
            await self._rt.db.write(jobs.put_back, self._owner, job.id, self._rt.clock.now() + pause, error)
        except Conflict:
            _log.warning("job taken over by another worker", job=job.id, kind=job.kind)

    @staticmethod
    def _retry_pause(attempts: int) -> timedelta:
        pause: timedelta = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(attempts - 1, 20))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, keeps no secret
