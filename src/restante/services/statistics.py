"""Statistics: the standing job that counts what came in, and the refusals that no event tells of."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping

from restante import clock, log
from restante.core import inbound
from restante.core.jobs import Job
from restante.core.periods import HOUR
from restante.errors import Unavailable
from restante.runtime import Runtime

REFUSALS = 500  # refused domains of one transaction: some 5 ms of the writer
ARRIVALS = 500  # of one transaction: mostly 1 ms of the writer, 12 where each sender has a domain of its own
BATCHES_A_RUN = 200  # then the job ends and comes back: a run stays well inside its lease

PAUSE_SECONDS = 10.0  # so many seconds of refusals a crash loses at most

_log = log.logger(__name__)


class Refusals:
    """Recipients refused mail from outside, counted in memory and stored together: a flood of them makes few writes.

    ``take`` gives those since its last call, by domain, for each listener. What cannot be stored now is stored later.
    """

    def __init__(self, rt: Runtime, take: Callable[[], Iterable[Mapping[str, int]]]) -> None:
        self._rt, self._take = rt, take
        self._waiting: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Store them now and then until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            await self.store()

    async def store(self) -> None:
        """Store those that were counted, under the present hour."""
        hour = clock.to_micros(self._rt.clock.now()) // HOUR * HOUR
        for refused in self._take():
            for domain, count in refused.items():
                self._waiting[domain, hour] = self._waiting.get((domain, hour), 0) + count
        while self._waiting:
            some = dict(itertools.islice(self._waiting.items(), REFUSALS))
            try:
                await self._rt.db.write(inbound.record_rejected, some)
            except Unavailable as error:
                _log.warning("refusals not stored yet", why=error.message)
                return
            for key in some:
                del self._waiting[key]


async def count_arrivals(rt: Runtime, _job: Job) -> None:
    """Count the mail that came in since the last run (a periodic job). A second run beside it does no harm."""
    for _ in range(BATCHES_A_RUN):
        found = await rt.db.read(inbound.find_uncounted, ARRIVALS)
        if found is None:
            return
        await rt.db.write(inbound.count, found.account_id, found)
