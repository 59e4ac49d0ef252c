"""Arrivals of an account, brought up to date before each reading, and by a standing job in between."""

import time
import weakref
from collections import OrderedDict
from uuid import UUID

from restante.core import arrivals
from restante.core.arrivals import Arrival, ArrivalPage, Filter, Total
from restante.core.jobs import Job
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId
from restante.runtime import Runtime
from restante.storage.database import Database

BATCH = 100  # messages or events of one transaction: some 20 ms of the writer
PATIENCE_SECONDS = 2.0  # that a reader waits for arrivals to be brought up to date
BATCHES_A_RUN = 5_000  # then the job ends and comes back
PRESSED = 250  # batches that one counts for under full pressure
NOT_READY = "arrivals_not_ready"
KEPT = 1_000  # totals of filters that are remembered

Totals = OrderedDict[tuple[AccountId, Filter], Total]

_totals: weakref.WeakKeyDictionary[Database, Totals] = weakref.WeakKeyDictionary()


async def ready(rt: Runtime, account_id: AccountId) -> None:
    """Bring the account's arrivals up to date: what was committed before this call is in them afterwards.

    The first call of an account makes them. Raises Unavailable(code="arrivals_not_ready") when that takes longer than a
    reader may wait (the standing job goes on with it), NotFound for no such account.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    if await rt.db.read(arrivals.is_current, account_id):
        return
    while await _step(rt, account_id):
        if time.monotonic() > until:
            raise _not_ready()


async def find(rt: Runtime, account_id: AccountId, public_id: UUID, patience_seconds: float) -> Arrival:
    """One arrival; the account's are brought up to date only as far as it takes to find it.

    Raises NotFound, and as ``ready``.
    """
    until = time.monotonic() + patience_seconds
    is_last = False
    while True:
        try:
            return await rt.db.read(arrivals.find, account_id, public_id)
        except (NotFound, Unavailable):
            if is_last:
                raise
        if time.monotonic() > until:
            raise _not_ready()
        is_last = not await _step(rt, account_id)  # another one may have done the last step: look once more


async def list_page(rt: Runtime, account_id: AccountId, wanted: Filter, *, page: int, limit: int) -> ArrivalPage:
    """As ``core.arrivals.list_page``, up to date; each filter is counted once until something changes.

    Raises as ``ready``.
    """
    await ready(rt, account_id)
    totals = _totals.setdefault(rt.db, OrderedDict())
    key = account_id, wanted
    found = await rt.db.read(arrivals.list_page, account_id, wanted, page=page, limit=limit, kept=totals.pop(key, None))
    totals[key] = Total(found.event_number, found.total)
    while len(totals) > KEPT:
        totals.popitem(last=False)
    return found


async def follow(rt: Runtime, _job: Job) -> None:
    """Bring the arrivals of all accounts that have them up to date (a periodic job). A second run does no harm."""
    left = float(BATCHES_A_RUN)
    for account_id in await rt.db.read(arrivals.list_followed):
        while left and await _step(rt, account_id):
            left = max(0.0, left - 1 - PRESSED * rt.pressure.level)


async def _step(rt: Runtime, account_id: AccountId) -> bool:
    """Do the next piece of work for an account; False when there was none."""
    piece = await rt.db.read(arrivals.survey, account_id, BATCH)
    if piece is None:
        return False
    await rt.db.write(arrivals.advance, account_id, piece, BATCH)
    return True


def _not_ready() -> Unavailable:
    return Unavailable("The list is being made; ask again in a few seconds.", code=NOT_READY)
