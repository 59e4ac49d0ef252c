"""The courier process: started when there is something to call, kept alive, ended in order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from restante.core import events, webhook_calls
from restante.core.automations import NewAutomation
from restante.core.mailboxes import Mailbox
from restante.core.webhooks import NewWebhook, Webhook
from restante.ids import EventNumber
from restante.runtime import Runtime
from restante.server import calling
from restante.server.calling import CourierProcess
from restante.services import automations
from restante.services import webhooks as service
from tests.makers import arrive, make_mailbox
from tests.receiver import Told, receiving

SECONDS = 60.0


@pytest.fixture
async def bob(near: Runtime) -> Mailbox:
    return await make_mailbox(near)


@pytest.fixture
async def running(near: Runtime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CourierProcess]:
    monkeypatch.setattr(calling, "RESTART_SECONDS", 0.01)
    process = CourierProcess(near)
    task = asyncio.create_task(process.run())
    yield process
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Arrivals:
    """Lets a test await what a receiver is told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()

    def __call__(self, told: Told) -> int:
        self.queue.put_nowait(told.data["id"])
        return 200

    async def next(self) -> int:
        """The number of the next event that comes."""
        return await asyncio.wait_for(self.queue.get(), SECONDS)


async def add(rt: Runtime, bob: Mailbox, url: str) -> Webhook:
    new = NewWebhook(url, "", ("mailbox.quota_set",), None, True)
    return (await service.create(rt, bob.account_id, new))[0]


async def happen(rt: Runtime, bob: Mailbox) -> EventNumber:
    body = {"quota_bytes": 1}
    return await rt.db.write(events.record, bob.account_id, "mailbox.quota_set", body, now=rt.clock.now())


async def test_nothing_runs_where_there_is_nothing_to_call(
    near: Runtime, bob: Mailbox, running: CourierProcess
) -> None:
    await happen(near, bob)
    await asyncio.sleep(0)
    assert running.pid is None


async def test_it_starts_with_the_first_webhook_and_again_when_it_died(
    near: Runtime, bob: Mailbox, running: CourierProcess
) -> None:
    arrivals = Arrivals()
    async with receiving(arrivals) as receiver:
        await add(near, bob, receiver.url)
        one = await happen(near, bob)
        assert await arrivals.next() == one
        first = running.pid
        assert first is not None
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, 0)
        os.kill(first, signal.SIGKILL)
        two = await happen(near, bob)
        while (number := await arrivals.next()) != two:
            assert number == one  # killed before that was recorded
        assert running.pid not in (first, None)


async def test_it_starts_with_the_first_automation(near: Runtime, bob: Mailbox, running: CourierProcess) -> None:
    subjects: asyncio.Queue[str] = asyncio.Queue()

    def answer(told: Told) -> int:
        subjects.put_nowait(told.data["data"]["subject"])
        return 200

    async with receiving(answer) as receiver:
        await automations.create(near, bob.account_id, NewAutomation("Every mail", url=receiver.url), None)
        await arrive(near, bob)
        assert await asyncio.wait_for(subjects.get(), SECONDS) == "hello"
    assert running.pid is not None


async def test_what_came_back_is_recorded_before_it_ends(near: Runtime, bob: Mailbox) -> None:
    arrivals = Arrivals()
    process = CourierProcess(near)
    task = asyncio.create_task(process.run())
    async with receiving(arrivals) as receiver:
        made = await add(near, bob, receiver.url)
        numbers = [await happen(near, bob) for _ in range(5)]
        assert [await arrivals.next() for _ in numbers] == numbers
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = await near.db.read(webhook_calls.list_calls, bob.account_id, made.id, None, EventNumber(0), 100)
    statuses = {call.number: call.status for call in found}
    assert [statuses[number] for number in numbers[:-1]] == ["delivered"] * 4  # the last answer may be on its way
    assert process.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_secrets_that_were_sealed_anew_are_read(near: Runtime, bob: Mailbox, running: CourierProcess) -> None:
    arrivals = Arrivals()
    async with receiving(arrivals) as receiver:
        await add(near, bob, receiver.url)
        await happen(near, bob)
        await arrivals.next()
        near.vault.rotate()
        await service.reseal_secrets(near)
        near.vault.forget_older()
        two = await happen(near, bob)
        while await arrivals.next() != two:
            pass
