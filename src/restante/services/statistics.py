"""Statistics: the standing job that counts what came in."""

from restante.core import statistics
from restante.core.jobs import Job
from restante.runtime import Runtime

BATCH = 500  # events of one transaction: some 5 ms of the writer
BATCHES_A_RUN = 200  # then the job ends and comes back: a run stays well inside its lease


async def count_arrivals(rt: Runtime, _job: Job) -> None:
    """Count the mail that came in since the last run (a periodic job). A second run beside it does no harm."""
    for _ in range(BATCHES_A_RUN):
        found = await rt.db.read(statistics.find_uncounted, BATCH)
        if found is None:
            return
        await rt.db.write(statistics.count_arrivals, found.account_id, found)
