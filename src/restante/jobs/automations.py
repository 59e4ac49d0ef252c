"""Automations at work: a follower turns received messages into runs, a courier does the runs.

Both wake after commits and look at everything now and then; deliveries pay nothing for either.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from restante import log
from restante.core import automation_courier, automation_runs
from restante.core.attempts import Result
from restante.core.automation_courier import Due
from restante.errors import Unavailable
from restante.ids import AccountId, AutomationId, EventNumber
from restante.jobs import courier
from restante.jobs.courier import Found, Key
from restante.jobs.turns import Turns
from restante.net.http import HttpClient
from restante.runtime import Runtime
from restante.services.automations import Runner
from restante.services.payloads import Payloads

TURN_SECONDS = 0.2  # from one turn to the next: while much comes in, few writes take many
UNWRITTEN = 500  # events of no interest that the follower passes before it notes so

_log = log.logger(__name__)


class Follower:
    """Turns what the logs of all accounts say of received messages into runs.

    Of several servers that do so at one time one succeeds: the cursor moves with the runs.
    """

    def __init__(self, rt: Runtime, turns: Turns) -> None:
        self._rt, self._turns = rt, turns
        self._touched: set[int] = set()
        self._woken = asyncio.Event()
        self._seen: dict[AccountId, EventNumber] = {}  # further than what is noted, where nothing was of interest
        self._wrote_at = 0.0
        rt.signals.on_any(self._note)

    def _note(self, touched: frozenset[int]) -> None:
        self._touched |= touched
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_at = 0.0
        while True:
            touched, self._touched = self._touched, set()
            is_sweep = loop.time() >= sweep_at
            try:
                await self._follow(None if is_sweep else touched)
                if is_sweep:
                    sweep_at = loop.time() + courier.SWEEP_SECONDS
            except Exception as error:  # noqa: BLE001 - storage is away for the moment, say; the follower stays
                _log.warning("follower_failed", error=f"{type(error).__name__}: {error}"[: courier.MAX_ERROR])
                await asyncio.sleep(courier.FAILED_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(sweep_at):
                    await self._woken.wait()
            await asyncio.sleep(max(courier.GATHER_SECONDS, self._wrote_at + TURN_SECONDS - loop.time()))
            self._woken.clear()

    async def run_due(self) -> None:
        """Turn all that there is."""
        await self._follow(None)

    async def _follow(self, account_ids: set[int] | None) -> None:
        if account_ids is not None and not account_ids:
            return
        for account_id in await self._rt.db.read(automation_runs.list_behind, account_ids):
            try:
                while await self._turn(account_id):
                    pass
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - what is wrong with one account's must not hold the others'
                text = f"{type(error).__name__}: {error}"[: courier.MAX_ERROR]
                _log.warning("automations_failed", account_id=account_id, error=text)

    async def _turn(self, account_id: AccountId) -> bool:
        """One look at an account's log, and what it gives written; False when nothing more is there."""
        await self._turns.take()
        seen = self._seen.pop(account_id, EventNumber(0))
        fresh = await self._rt.db.read(automation_runs.find_fresh, account_id, seen)
        if fresh is None:
            return False
        if fresh.matches or fresh.reach - fresh.after >= UNWRITTEN:
            await self._rt.db.write(automation_runs.open_runs, account_id, fresh, self._rt.clock.now())
            self._wrote_at = asyncio.get_running_loop().time()
        else:
            self._seen[account_id] = fresh.reach
        return not fresh.is_last


class Courier(courier.Courier):
    """Does the runs of all accounts of one server."""

    def __init__(self, rt: Runtime, turns: Turns) -> None:
        super().__init__(rt, turns)
        self._payloads = Payloads(rt)

    async def _list_waiting(self, account_ids: set[int] | None) -> Sequence[Key]:
        return await self._rt.db.read(automation_courier.list_waiting, self._owner, self._rt.clock.now(), account_ids)

    async def _release_all(self) -> None:
        await self._rt.db.write(automation_courier.release_all, self._place)

    def _lane(self, key: Key, linger_seconds: float) -> "_Lane":
        return _Lane(self._rt, self._turns, key, self._owner, linger_seconds, self._client, self._payloads)


class _Lane(courier.Lane[Due]):
    """The runs of one automation."""

    def __init__(
        self,
        rt: Runtime,
        turns: Turns,
        key: Key,
        owner: str,
        linger_seconds: float,
        client: HttpClient,
        payloads: Payloads,
    ) -> None:
        super().__init__(rt, turns, key, owner, linger_seconds)
        self._automation = key[0], AutomationId(key[1])
        self._client, self._payloads = client, payloads
        self._runner: Runner | None = None

    async def _claim(self) -> bool:
        now = self._rt.clock.now()
        return await self._rt.db.write(automation_courier.claim, *self._automation, self._owner, courier.LEASE, now)

    async def _release(self) -> None:
        await self._rt.db.write(automation_courier.release, *self._automation, self._owner)

    async def _record(self, results: list[Result]) -> None:
        await self._rt.db.write(automation_courier.record, *self._automation, results, self._rt.clock.now())

    async def _look(self, busy: frozenset[EventNumber]) -> Found[Due] | None:
        now = self._rt.clock.now()
        found = await self._rt.db.read(automation_courier.survey, *self._automation, busy, courier.BATCH, now)
        if found is None:
            return None
        if self._runner is None or self._runner.automation != found.automation:
            self._runner = Runner(self._rt, self._client, self._payloads, found.automation)
        return Found(
            due=found.due,
            next_at=found.next_at,
            is_all=len(found.due) < courier.BATCH,
            slots=1 if found.automation.retry_at is not None else courier.AT_ONCE,
            is_failing=found.automation.failures > 0,
            call=self._runner.run,
        )
