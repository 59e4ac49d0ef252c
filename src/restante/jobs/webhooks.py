"""The courier of webhooks: it makes calls of the events behind each webhook's number, and calls."""

from collections.abc import Sequence

from restante.core import webhook_courier
from restante.core.attempts import Result
from restante.core.webhook_courier import Due, Survey
from restante.ids import EventNumber, WebhookId
from restante.jobs import courier
from restante.jobs.courier import Found, Key
from restante.jobs.turns import Turns
from restante.net.http import HttpClient
from restante.runtime import Runtime
from restante.services.webhooks import Caller

UNWRITTEN = 500  # events of no interest that a lane passes before it notes so


class Courier(courier.Courier):
    """Calls the webhooks of all accounts of one server."""

    async def _list_waiting(self, account_ids: set[int] | None) -> Sequence[Key]:
        return await self._rt.db.read(webhook_courier.list_waiting, self._owner, self._rt.clock.now(), account_ids)

    async def _release_all(self) -> None:
        await self._rt.db.write(webhook_courier.release_all, self._place)

    def _lane(self, key: Key, linger_seconds: float) -> "_Lane":
        return _Lane(self._rt, self._turns, key, self._owner, linger_seconds, self._client)


class _Lane(courier.Lane[Due]):
    """The calls of one webhook."""

    def __init__(
        self, rt: Runtime, turns: Turns, key: Key, owner: str, linger_seconds: float, client: HttpClient
    ) -> None:
        super().__init__(rt, turns, key, owner, linger_seconds)
        self._webhook = key[0], WebhookId(key[1])
        self._client = client
        self._caller: Caller | None = None
        self._seen = EventNumber(0)  # of the log
        self._noted = EventNumber(0)  # in the row

    async def _claim(self) -> bool:
        now = self._rt.clock.now()
        return await self._rt.db.write(webhook_courier.claim, *self._webhook, self._owner, courier.LEASE, now)

    async def _release(self) -> None:
        seen = self._seen if self._seen > self._noted else None
        await self._rt.db.write(webhook_courier.release, *self._webhook, self._owner, seen)

    async def _record(self, results: list[Result]) -> None:
        await self._rt.db.write(webhook_courier.record, *self._webhook, results, self._rt.clock.now())

    async def _look(self, busy: frozenset[EventNumber]) -> Found[Due] | None:
        """Calls that are due; calls are made of further events."""
        now = self._rt.clock.now()
        found = await self._rt.db.read(webhook_courier.survey, *self._webhook, self._seen, busy, courier.BATCH, now)
        if found.webhook is None:
            return None
        if self._caller is None or self._caller.webhook != found.webhook:
            self._caller = Caller(self._rt, self._client, found.webhook)
        self._seen = max(self._seen, found.reach)
        self._noted = found.webhook.event_number
        if found.fresh or self._seen - self._noted >= UNWRITTEN:
            await self._open_calls(found)
        is_single = found.webhook.is_ordered or found.webhook.retry_at is not None
        return Found(
            due=found.due,
            next_at=found.next_at,
            is_all=found.is_last and not found.fresh,
            slots=1 if is_single else courier.AT_ONCE,
            is_failing=found.webhook.failures > 0,
            call=self._caller.call,
        )

    async def _open_calls(self, found: Survey) -> None:
        is_done = await self._rt.db.write(
            webhook_courier.open_calls, *self._webhook, self._noted, found.fresh, self._seen, self._rt.clock.now()
        )
        if is_done:
            self._noted = self._seen
        else:
            self._seen = EventNumber(0)
