"""Couriers: they make the calls that places of users are promised, each place in a lane of its own.

Nothing of it is in the way of what happens: a courier wakes after commits, asks the store which places have something
to do, and gives each a lane. A lane holds its place's lease, so that of several servers one calls it. All that must
not be forgotten is in the rows; a lane that ends at any point leaves work that the next one finds.
"""

import abc
import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from restante import ids, log
from restante.config import machine_name
from restante.core.attempts import Result
from restante.ids import AccountId, EventNumber
from restante.jobs.turns import Turns
from restante.net.egress import Egress
from restante.net.http import HttpClient
from restante.runtime import Runtime

GATHER_SECONDS = 0.02  # commits closer together are one wake-up
SWEEP_SECONDS = 5.0  # looks at everything: retries that became due, leases that ended, signals that were lost
TURN_SECONDS = 0.1  # from one look at all places to the next: while much happens, few looks find much
FLUSH_SECONDS = 0.5  # likewise from one record of a place's results to the next
BATCH = 200  # calls that a lane takes at one time
AT_ONCE = 20  # calls of a place that needs no order
LEASE = timedelta(seconds=60)
LINGER_SECONDS = 10.0  # a lane without work stays so long
FAILED_SECONDS = 1.0  # after storage failed a lane
MAX_ERROR = 500  # characters kept of a failure

_log = log.logger(__name__)

Key = tuple[AccountId, int]
"""A place: its account and its number there."""


class Numbered(Protocol):
    """A call that is due."""

    @property
    def number(self) -> EventNumber:
        """Of the event that it is about: one call of a place has it."""


D = TypeVar("D", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Found(Generic[D]):
    """What there is to do for a place now.

    ``call`` makes one call, ``slots`` of them at a time; ``is_failing``: the last one failed; ``next_at``: when a call
    that waits becomes due; ``is_all``: nothing else can be found now.
    """

    due: Sequence[D]
    next_at: datetime | None
    is_all: bool
    slots: int
    is_failing: bool
    call: Callable[[D], Awaitable[Result]]


class Courier(abc.ABC):
    """Calls the places of all accounts of one server."""

    def __init__(self, rt: Runtime, turns: Turns) -> None:
        self._rt, self._turns = rt, turns
        # one server at a time holds a data directory, so leases of an earlier one there are nobody's
        self._place = f"{machine_name()}:{rt.config.data_dir}#"
        self._owner = self._place + ids.new_uuid().hex
        self._client = HttpClient(rt.resolver, Egress(rt.config.egress.allow))
        self._lanes: dict[Key, Lane[Any]] = {}
        self._tasks: dict[asyncio.Task[None], Key] = {}
        self._touched: set[int] = set()
        self._woken = asyncio.Event()
        rt.signals.on_any(self._note)

    @abc.abstractmethod
    async def _list_waiting(self, account_ids: set[int] | None) -> Sequence[Key]:
        """Places (of these accounts) that have something to do and that nobody else has leased."""

    @abc.abstractmethod
    async def _release_all(self) -> None:
        """Let go of what earlier servers of this data directory had leased."""

    @abc.abstractmethod
    def _lane(self, key: Key, linger_seconds: float) -> "Lane[Any]":
        """A lane for a place."""

    def _note(self, touched: frozenset[int]) -> None:
        self._touched |= touched
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; calls under way then are made again by the next server."""
        loop = asyncio.get_running_loop()
        is_first, sweep_at, turned_at = True, 0.0, 0.0
        try:
            while True:
                try:
                    if is_first:
                        await self._release_all()
                        is_first = False
                    await self._turns.take()
                    turned_at = loop.time()
                    is_sweep = turned_at >= sweep_at
                    await self._start(None if is_sweep else self._take_touched())
                    if is_sweep:
                        sweep_at = loop.time() + SWEEP_SECONDS
                except Exception as error:  # noqa: BLE001 - storage is away for the moment, say; the courier stays
                    _log.warning("courier_failed", error=f"{type(error).__name__}: {error}"[:MAX_ERROR])
                    await asyncio.sleep(FAILED_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(sweep_at):
                        await self._woken.wait()
                await asyncio.sleep(max(GATHER_SECONDS, turned_at + TURN_SECONDS - loop.time()))
                self._woken.clear()
        finally:
            await self.close()

    async def close(self) -> None:
        """End every lane; what came back is recorded."""
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.close()

    async def run_due(self) -> None:
        """Do all that can be done now, to its end."""
        await self._start(None, linger_seconds=0.0)
        await asyncio.gather(*self._tasks)

    def _take_touched(self) -> set[int]:
        touched, self._touched = self._touched, set()
        return touched

    async def _start(self, account_ids: set[int] | None, *, linger_seconds: float = LINGER_SECONDS) -> None:
        """Give a lane to each place that has something to do and has none."""
        if account_ids is not None:
            for key, lane in self._lanes.items():
                if key[0] in account_ids:
                    lane.poke()
            if not account_ids:
                return
        for key in await self._list_waiting(account_ids):
            running = self._lanes.get(key)
            if running is not None:
                running.poke()
                continue
            lane = self._lanes[key] = self._lane(key, linger_seconds)
            task = asyncio.create_task(lane.run())
            self._tasks[task] = key
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        key = self._tasks.pop(task)
        if self._lanes.pop(key).is_stale:
            self._note(frozenset([key[0]]))  # poked while it ended


class Lane(abc.ABC, Generic[D]):
    """The calls of one place: in order one by one, else some at a time."""

    def __init__(self, rt: Runtime, turns: Turns, key: Key, owner: str, linger_seconds: float) -> None:
        self._rt, self._turns, self._key, self._owner = rt, turns, key, owner
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._is_stale = True  # there may be more than this lane knows
        self._found: Found[D] | None = None  # at the last look
        self._queue: deque[D] = deque()
        self._running: dict[asyncio.Task[None], EventNumber] = {}
        self._results: list[Result] = []
        self._flushed_at = float("-inf")
        self._idle_at = self._loop.time()
        self._leased_at = 0.0
        self._fault: BaseException | None = None

    @abc.abstractmethod
    async def _claim(self) -> bool:
        """Take or keep the place's lease for ``LEASE``; False when another has it."""

    @abc.abstractmethod
    async def _release(self) -> None:
        """Let the place go."""

    @abc.abstractmethod
    async def _look(self, busy: frozenset[EventNumber]) -> Found[D] | None:
        """What is to be done, without the calls of ``busy``; None when the place is not to be called."""

    @abc.abstractmethod
    async def _record(self, results: list[Result]) -> None:
        """Note what calls came to."""

    @property
    def is_stale(self) -> bool:
        """Whether it was poked and has not looked since."""
        return self._is_stale

    def poke(self) -> None:
        """Look at the store again."""
        self._is_stale = True
        self._changed.set()

    async def run(self) -> None:
        """Work until nothing has been to do for a while, or the place is not this server's to call."""
        try:
            while await self._turn():
                pass
        except Exception as error:  # noqa: BLE001 - storage failed: another lane goes on from what is recorded
            _log.warning(
                "lane failed",
                lane=f"{type(self).__name__} {self._key}",
                error=f"{type(error).__name__}: {error}"[:MAX_ERROR],
            )
            await asyncio.sleep(FAILED_SECONDS)
        finally:
            await self._end()

    async def _turn(self) -> bool:
        """One look at everything; False at the end."""
        if self._fault is not None:
            raise self._fault
        await self._turns.take()
        if not await self._keep_lease():
            return False
        if self._must_flush():
            await self._flush()
        if self._wants_more() and not await self._fill():
            return False
        self._start_calls()
        return await self._wait()

    async def _keep_lease(self) -> bool:
        now = self._loop.time()
        if self._leased_at and now < self._leased_at + LEASE.total_seconds() / 3:
            return True
        is_ours = await self._claim()
        self._leased_at = now
        return is_ours

    def _slots(self) -> int:
        return 1 if self._found is None else self._found.slots

    def _wants_more(self) -> bool:
        return self._is_stale and not self._queue and len(self._running) < self._slots()

    def _must_flush(self) -> bool:
        """Failures, and successes after them, change what may be called next; all else waits for company."""
        if not self._results:
            return False
        is_failing = self._found is not None and self._found.is_failing
        return is_failing or not self._results[-1].is_delivered or self._flush_pause() <= 0

    def _flush_pause(self) -> float:
        """Until results are to be recorded; a lane that does not linger does so at once."""
        return self._flushed_at + min(FLUSH_SECONDS, self._linger_seconds) - self._loop.time()

    async def _flush(self) -> None:
        results, self._results = self._results, []
        await self._record(results)
        self._flushed_at = self._loop.time()
        is_probe = self._found is not None and self._found.is_failing
        if is_probe or not all(one.is_delivered for one in results):
            self._queue.clear()
            self._is_stale = True

    async def _fill(self) -> bool:
        """Take further calls; False when the place is not to be called."""
        self._is_stale = False
        self._found = await self._look(frozenset([*self._running.values(), *(one.number for one in self._results)]))
        if self._found is None:
            return False
        self._queue.extend(self._found.due)
        self._is_stale = self._is_stale or not self._found.is_all
        return True

    def _start_calls(self) -> None:
        if self._slots() == 1 and not all(one.is_delivered for one in self._results):
            return  # what follows a failure waits until that is recorded
        while self._queue and self._found is not None and len(self._running) < self._slots():
            due = self._queue.popleft()
            task = asyncio.create_task(self._call(self._found, due))
            self._running[task] = due.number
            task.add_done_callback(self._called)

    async def _call(self, found: Found[D], due: D) -> None:
        result = await found.call(due)
        self._results.append(result)  # to the list that is there now: a flush may have replaced it meanwhile

    def _called(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._changed.set()

    async def _wait(self) -> bool:
        """Until something is to be done; False after a while of nothing."""
        now = self._loop.time()
        if self._wants_more() or self._must_flush():
            self._idle_at = now
            await asyncio.sleep(0)  # reads may take no turn of the loop
            return True
        if self._running or self._results:
            self._idle_at = now
            pause = self._flush_pause() if self._results else LEASE.total_seconds() / 3
        else:
            left = self._idle_at + self._linger_seconds - now
            if left <= 0:
                return False
            next_at = None if self._found is None else self._found.next_at
            pause = left if next_at is None else min(left, self._until(next_at))
        try:
            async with asyncio.timeout(pause):
                await self._changed.wait()
        except TimeoutError:
            self._is_stale = self._is_stale or not self._running
        self._changed.clear()
        return True

    def _until(self, moment: datetime) -> float:
        return max(0.0, (moment - self._rt.clock.now()).total_seconds())

    async def _end(self) -> None:
        """Record what came back and let the place go; what storage cannot note now is called again."""
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with contextlib.suppress(Exception):
            if self._results:
                await self._flush()
            await self._release()
