"""The courier over a real log and real receivers: order, retries, pauses, giving up, leases, what a crash leaves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from sqlalchemy import func, select

from restante.clock import ManualClock
from restante.core import events, mailboxes, removal, webhook_calls, webhook_courier, webhooks
from restante.core.attempts import Result
from restante.core.events import NewEvent
from restante.core.mailboxes import Mailbox
from restante.core.webhook_calls import Attempt, Chosen
from restante.core.webhook_courier import Due
from restante.core.webhooks import NewWebhook, Webhook
from restante.errors import Conflict, NotFound
from restante.ids import AccountId, EventNumber
from restante.jobs import courier as couriers
from restante.jobs.handlers import HANDLERS
from restante.jobs.turns import Turns
from restante.jobs.webhooks import Courier
from restante.jobs.worker import Worker
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.server.operations import instance
from restante.services import webhooks as service
from restante.services.webhooks import Caller
from tests.fakes import FakePressure
from tests.makers import make_mailbox, make_message
from tests.receiver import Told, receiving

START = EventNumber(0)


class Hook(NamedTuple):
    """A webhook and its secret."""

    webhook: Webhook
    secret: str


@pytest.fixture
async def bob(near: Runtime) -> Mailbox:
    return await make_mailbox(near)


@pytest.fixture
async def courier(near: Runtime) -> AsyncIterator[Courier]:
    made = Courier(near, Turns(near.pressure))
    yield made
    await made.close()


async def hook(
    rt: Runtime, bob: Mailbox, url: str, *types: str, is_ordered: bool = True, mailbox: Mailbox | None = None
) -> Hook:
    new = NewWebhook(url, "", types or ("mailbox.quota_set",), mailbox.id if mailbox else None, is_ordered)
    return Hook(*await service.create(rt, bob.account_id, new))


async def fill(rt: Runtime, bob: Mailbox, count: int) -> list[int]:
    """Record that many events; their numbers."""
    facts = [NewEvent("mailbox.quota_set", {"quota_bytes": number}, bob.id) for number in range(count)]
    last = await rt.db.write(events.record_all, bob.account_id, facts, now=rt.clock.now())
    return list(range(last - count + 1, last + 1))


async def state(rt: Runtime, made: Hook) -> Webhook:
    return await rt.db.read(webhooks.get, made.webhook.account_id, made.webhook.public_id)


async def statuses(rt: Runtime, made: Hook) -> dict[int, str]:
    place = made.webhook.account_id, made.webhook.id
    found = await rt.db.read(webhook_calls.list_calls, *place, None, START, 1000)
    return {call.number: call.status for call in found}


async def attempts(rt: Runtime, made: Hook, number: int) -> list[Attempt]:
    place = made.webhook.account_id, made.webhook.id
    return await rt.db.read(webhook_calls.list_attempts, *place, EventNumber(number), 100)


async def types_told(rt: Runtime, account_id: AccountId) -> list[str]:
    page = await rt.db.read(events.list_after, account_id, START, 1000)
    return [event.type for event in page.events]


async def test_what_happens_is_told_and_signed(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url, "message.received")
        stored = await make_message(near, bob)
        await courier.run_due()
        (told,) = receiver.told
    told.verify(made.secret)
    assert told.headers["content-type"] == "application/json"
    assert list(told.data) == ["type", "timestamp", "data", "id", "version", "mailbox"]
    assert (told.data["type"], told.data["mailbox"]) == ("message.received", bob.address)
    assert told.data["data"]["message"] == stored.message_id
    (attempt,) = await attempts(near, made, told.data["id"])
    assert (attempt.attempt, attempt.status, attempt.error, attempt.answer) == (1, 200, None, "hello")
    assert await statuses(near, made) == {told.data["id"]: "delivered"}


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_a_long_log_is_told_whole(near: Runtime, bob: Mailbox, courier: Courier, is_ordered: bool) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url, is_ordered=is_ordered)
        numbers = await fill(near, bob, 700)
        await courier.run_due()
    assert sorted(receiver.numbers) == numbers, "once each, as nothing failed"
    if is_ordered:
        assert receiver.numbers == numbers
    assert set((await statuses(near, made)).values()) == {"delivered"}


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_under_full_pressure_everything_is_told(near: Runtime, bob: Mailbox, is_ordered: bool) -> None:
    courier = Courier(near, Turns(FakePressure(1.0)))
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url, is_ordered=is_ordered)
        numbers = await fill(near, bob, 30)
        await courier.run_due()
    await courier.close()
    assert sorted(receiver.numbers) == numbers
    if is_ordered:
        assert receiver.numbers == numbers
    assert set((await statuses(near, made)).values()) == {"delivered"}


async def test_what_comes_back_while_results_are_written_counts(
    near: Runtime, bob: Mailbox, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "FLUSH_SECONDS", 0.0)
    is_written = asyncio.Event()
    write, call = near.db.write, Caller.call

    async def slow_write(fn: Any, *args: Any, **kwargs: Any) -> Any:
        done = await write(fn, *args, **kwargs)
        if fn is webhook_courier.record:
            is_written.set()
            for _ in range(10):
                await asyncio.sleep(0)  # the others come back here
        return done

    async def slow_call(caller: Caller, due: Due) -> Result:
        result = await call(caller, due)
        if due.number != numbers[0]:
            await is_written.wait()
        return result

    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url, is_ordered=False)
        numbers = await fill(near, bob, 15)
        monkeypatch.setattr(near.db, "write", slow_write)
        monkeypatch.setattr(Caller, "call", slow_call)
        await courier.run_due()
    assert sorted(receiver.numbers) == numbers
    assert set((await statuses(near, made)).values()) == {"delivered"}


async def test_only_what_is_wanted(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    eve = await make_mailbox(near, "eve@example.test")
    async with receiving() as receiver:
        await hook(near, bob, receiver.url, "message.*", mailbox=eve)
        await make_message(near, bob)
        await make_message(near, eve)
        await courier.run_due()
        assert [one.data["mailbox"] for one in receiver.told] == [eve.address]


async def test_events_of_no_interest_are_passed(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url, "message.*")
        numbers = await fill(near, bob, 1200)
        await courier.run_due()
        assert receiver.told == []
    assert (await state(near, made)).event_number == numbers[-1]


async def test_order_holds_behind_a_failure(near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock) -> None:
    failing = True
    async with receiving(lambda told: 500 if failing and told.data["id"] == numbers[2] else 200) as receiver:
        made = await hook(near, bob, receiver.url)
        numbers = await fill(near, bob, 5)
        await courier.run_due()
        assert receiver.numbers == numbers[:3]
        await courier.run_due()
        assert receiver.numbers == numbers[:3], "it is not due yet"
        failing = False
        clock.advance(timedelta(seconds=7))
        await courier.run_due()
    assert receiver.numbers == [*numbers[:3], *numbers[2:]]
    first, second = (one.headers["webhook-id"] for one in receiver.told[2:4])
    assert first == second
    assert [one.status for one in await attempts(near, made, numbers[2])] == [200, 500]
    assert (await state(near, made)).failures == 0


async def test_without_order_others_go_on(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving(lambda told: 503 if told.data["id"] == numbers[0] else 200) as receiver:
        made = await hook(near, bob, receiver.url, is_ordered=False)
        numbers = await fill(near, bob, 30)
        await courier.run_due()
    assert sorted(receiver.numbers) == numbers
    found = await statuses(near, made)
    assert found.pop(numbers[0]) == "pending"
    assert set(found.values()) == {"delivered"}


async def test_a_receiver_that_fails_at_random_gets_everything_in_order(
    near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock
) -> None:
    seen: dict[int, int] = {}

    def answer(told: Told) -> int:
        number = told.data["id"]
        seen[number] = seen.get(number, 0) + 1
        return [200, 500, 302, 0, 404][(number * 7 + seen[number]) % 5] if seen[number] < 4 else 201

    async with receiving(answer) as receiver:
        made = await hook(near, bob, receiver.url)
        numbers = await fill(near, bob, 60)
        for _ in range(300):
            await courier.run_due()
            if set((await statuses(near, made)).values()) == {"delivered"}:
                break
            clock.advance(timedelta(minutes=3))
    assert list(dict.fromkeys(receiver.numbers)) == numbers
    assert all(later - earlier <= 1 for earlier, later in pairwise(receiver.numbers))


async def test_a_dead_place_is_left_alone_and_given_up(
    near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock
) -> None:
    async with receiving(lambda _: 500) as receiver:
        made = await hook(near, bob, receiver.url, is_ordered=False)
        numbers = await fill(near, bob, 100)
        await courier.run_due()
        told = len(receiver.told)
        assert told < 40, "it pauses after ten failures and what was under way"
        paused = await state(near, made)
        assert paused.failures == told
        assert paused.retry_at is not None
        clock.advance(timedelta(hours=1, minutes=1))
        await courier.run_due()
        assert len(receiver.told) == told + 1, "one probe a pause"
        for _ in range(130):
            clock.advance(timedelta(hours=1, minutes=1))
            await courier.run_due()
    broken = await state(near, made)
    assert (broken.status, broken.retry_at) == ("broken", None)
    assert set(await statuses(near, made)) == set(numbers)
    assert "webhook.broken" in await types_told(near, bob.account_id)


async def test_a_call_is_tried_for_more_than_a_day(
    near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock
) -> None:
    is_bad = True
    async with receiving(lambda told: 500 if is_bad and told.data["id"] == numbers[0] else 200) as receiver:
        made = await hook(near, bob, receiver.url)
        numbers = await fill(near, bob, 1)
        began = clock.now()
        while (await statuses(near, made)).get(numbers[0], "pending") == "pending":
            clock.advance(timedelta(minutes=20))
            await courier.run_due()
        assert timedelta(hours=24) < clock.now() - began < timedelta(hours=32)
        assert await statuses(near, made) == {numbers[0]: "dead"}
        assert "webhook.call_dead" in await types_told(near, bob.account_id)
        is_bad = False
        chosen = Chosen()
        place = bob.account_id, made.webhook.public_id
        assert await near.db.write(webhook_calls.call_again, *place, chosen, near.clock.now()) == 1
        clock.advance(timedelta(hours=2))
        await courier.run_due()
        assert await statuses(near, made) == {numbers[0]: "delivered"}
    assert len(receiver.told) > 20


async def test_gone_is_gone(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving(lambda _: 410) as receiver:
        made = await hook(near, bob, receiver.url)
        await fill(near, bob, 3)
        await courier.run_due()
        assert len(receiver.told) == 1
    assert (await state(near, made)).status == "broken"
    with pytest.raises(Conflict):
        await near.db.write(webhook_calls.ping, bob.account_id, made.webhook.public_id, near.clock.now())


async def test_one_that_works_again_hears_what_it_missed(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        new = NewWebhook(receiver.url, "", ("mailbox.quota_set",), None, True, "disabled")
        await service.change(near, bob.account_id, made.webhook.public_id, new)
        numbers = await fill(near, bob, 3)
        await courier.run_due()
        assert receiver.told == []
        await service.change(near, bob.account_id, made.webhook.public_id, replace(new, status="active"))
        await courier.run_due()
        assert receiver.numbers == numbers


async def test_what_may_not_be_called_is_not(rt: Runtime, bob: Mailbox) -> None:
    courier = Courier(rt, Turns(rt.pressure))  # whose operator allows nothing
    async with receiving() as receiver:
        made = await hook(rt, bob, receiver.url)
        (number,) = await fill(rt, bob, 1)
        await courier.run_due()
        assert receiver.told == []
    await courier.close()
    (attempt,) = await attempts(rt, made, number)
    assert (attempt.status, attempt.error) == (None, "egress_refused")


async def test_both_secrets_sign_after_a_rotation(
    near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock
) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        _, newer = await service.rotate_secret(near, bob.account_id, made.webhook.public_id)
        assert newer != made.secret
        await fill(near, bob, 1)
        await courier.run_due()
        for secret in (made.secret, newer):
            receiver.told[0].verify(secret)
        clock.advance(timedelta(hours=25))
        await fill(near, bob, 1)
        await courier.run_due()
    assert len(receiver.told[0].headers["webhook-signature"].split(" ")) == 2
    assert len(receiver.told[1].headers["webhook-signature"].split(" ")) == 1


async def test_a_new_instance_secret_seals_them_anew(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        await service.rotate_secret(near, bob.account_id, made.webhook.public_id)
        assert (await instance.secret_rotate(near))["resealed"] == 2
        await fill(near, bob, 1)
        await courier.run_due()
        receiver.told[0].verify(made.secret)


async def test_without_its_secret_a_webhook_is_not_called(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        assert await near.db.read(webhooks.count_sealed) == 1
        await near.db.write(webhooks.forget_secrets)
        assert await near.db.read(webhooks.count_sealed) == 0
        assert await service.reseal_secrets(near) == 0
        await fill(near, bob, 1)
        await courier.run_due()
        assert receiver.told == []
        active = NewWebhook(receiver.url, "", ("mailbox.quota_set",), None, True)
        with pytest.raises(Conflict):
            await service.change(near, bob.account_id, made.webhook.public_id, active)
        _, secret = await service.rotate_secret(near, bob.account_id, made.webhook.public_id)
        await service.change(near, bob.account_id, made.webhook.public_id, active)
        await courier.run_due()
        receiver.told[0].verify(secret)


async def test_a_lease_keeps_others_away(near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        await fill(near, bob, 1)
        place = bob.account_id, made.webhook.id
        lease = timedelta(seconds=60)
        assert await near.db.write(webhook_courier.claim, *place, "another", lease, clock.now())
        await courier.run_due()
        assert receiver.told == []
        clock.advance(timedelta(seconds=61))
        await courier.run_due()
        assert len(receiver.told) == 1
    assert await near.db.write(webhook_courier.claim, *place, "another", lease, clock.now()), "it was let go"


async def test_a_courier_that_dies_leaves_its_work(near: Runtime, bob: Mailbox) -> None:
    """What came back but was not recorded is called again, by a successor that waits for no lease."""
    stuck = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        stuck.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    made = await hook(near, bob, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    numbers = await fill(near, bob, 3)
    first = asyncio.create_task(Courier(near, Turns(near.pressure)).run())
    await asyncio.wait_for(stuck.wait(), 60)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    server.close()
    async with receiving() as receiver:
        done = asyncio.Event()

        def answer(told: Told) -> int:
            if told.data["id"] == numbers[-1]:
                done.set()
            return 200

        receiver.answer = answer
        new = NewWebhook(receiver.url, "", ("mailbox.quota_set",), None, True)
        await service.change(near, bob.account_id, made.webhook.public_id, new)
        second = asyncio.create_task(Courier(near, Turns(near.pressure)).run())
        await asyncio.wait_for(done.wait(), 60)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert receiver.numbers == numbers


async def test_the_running_courier_wakes_for_an_event(near: Runtime, bob: Mailbox) -> None:
    done = asyncio.Event()

    def answer(_: Told) -> int:
        done.set()
        return 200

    async with receiving(answer) as receiver:
        await hook(near, bob, receiver.url)
        running = asyncio.create_task(Courier(near, Turns(near.pressure)).run())
        for _ in range(3):
            done.clear()
            await fill(near, bob, 1)
            await asyncio.wait_for(done.wait(), 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(receiver.told) >= 3


async def test_a_test_reaches_its_webhook_alone(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver, receiving() as other:
        made = await hook(near, bob, receiver.url, "message.*")
        await hook(near, bob, other.url, "message.*")
        number = await near.db.write(webhook_calls.ping, bob.account_id, made.webhook.public_id, near.clock.now())
        await courier.run_due()
        assert receiver.numbers == [number]
        assert receiver.told[0].data["type"] == "webhook.tested"
        assert other.told == []


async def count(rt: Runtime, name: str) -> int:
    return await rt.db.read(_count, name)


def _count(conn: ReadConn, name: str) -> int:
    return int(conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one())


async def test_the_log_waits_for_webhooks(near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock) -> None:
    near = replace(near, config=replace(near.config, events=replace(near.config.events, keep_days=1)))
    is_up = False
    async with receiving(lambda _: 200 if is_up else 500) as receiver:
        made = await hook(near, bob, receiver.url)
        numbers = await fill(near, bob, 3)
        await courier.run_due()
        clock.advance(timedelta(days=2))
        worker = Worker(near, HANDLERS, {"prune-events": timedelta(hours=1)})
        await worker._plan()
        await worker.run_due()
        _, pruned = await near.db.read(events.bounds, bob.account_id)
        assert pruned == numbers[0] - 1
        is_up = True
        await courier.run_due()
        assert list(dict.fromkeys(receiver.numbers)) == numbers
        clock.advance(timedelta(days=2))
        await worker.run_due()
    _, pruned = await near.db.read(events.bounds, bob.account_id)
    assert pruned == numbers[-1]
    assert await statuses(near, made) == {}
    assert await count(near, "webhook_attempts") == 0
    chosen = Chosen(EventNumber(numbers[0]), EventNumber(numbers[0]))
    place = bob.account_id, made.webhook.public_id
    with pytest.raises(NotFound):
        await near.db.write(webhook_calls.call_again, *place, chosen, near.clock.now())


async def test_a_removed_webhook_leaves_nothing(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        made = await hook(near, bob, receiver.url)
        await fill(near, bob, 250)
        await courier.run_due()
        await near.db.write(webhooks.remove, bob.account_id, made.webhook.public_id, near.clock.now())
        await fill(near, bob, 1)
        await courier.run_due()
        assert len(receiver.told) == 250
    while await near.db.write(webhook_calls.prune, bob.account_id, near.clock.now(), 100):
        pass
    for name in ("webhooks", "webhook_calls", "webhook_attempts"):
        assert await count(near, name) == 0


async def test_a_mailbox_takes_its_webhooks_along(near: Runtime, bob: Mailbox) -> None:
    made = await hook(near, bob, "http://hook.test/", mailbox=bob)
    other = await hook(near, bob, "http://hook.test/")
    await near.db.write(mailboxes.remove, bob.account_id, bob.id, near.clock.now(), force=True)
    left = await near.db.read(webhooks.list_webhooks, bob.account_id)
    assert [one.id for one in left] == [other.webhook.id] != [made.webhook.id]


async def test_an_account_takes_its_webhooks_along(near: Runtime, bob: Mailbox, courier: Courier) -> None:
    async with receiving() as receiver:
        await hook(near, bob, receiver.url)
        await fill(near, bob, 150)
        await courier.run_due()
    await near.db.write(removal.remove_account, bob.account_id, near.clock.now())
    assert await near.db.read(webhooks.list_webhooks, bob.account_id) == []
    while await near.db.write(webhook_calls.purge, bob.account_id, 100, near.clock.now()):
        pass
    assert await count(near, "webhooks") == 0
    assert await count(near, "webhook_calls") == 0


async def test_what_is_kept_no_more_is_dead(near: Runtime, bob: Mailbox, courier: Courier, clock: ManualClock) -> None:
    async with receiving(lambda _: 500) as receiver:
        made = await hook(near, bob, receiver.url)
        (number,) = await fill(near, bob, 1)
        await courier.run_due()
        new = NewWebhook(receiver.url, "", ("mailbox.quota_set",), None, True, "disabled")
        await service.change(near, bob.account_id, made.webhook.public_id, new)
        clock.advance(timedelta(days=2))
        now = clock.now()
        while await near.db.write(webhook_calls.prune_log, bob.account_id, now - timedelta(days=1), 0, 100):
            pass
        await service.change(near, bob.account_id, made.webhook.public_id, replace(new, status="active"))
        await courier.run_due()
        assert len(receiver.told) == 1
    assert await statuses(near, made) == {number: "dead"}
    assert (await attempts(near, made, number))[0].error == "events_pruned"
    chosen = Chosen(EventNumber(number), EventNumber(number))
    with pytest.raises(Conflict) as caught:
        await near.db.write(webhook_calls.call_again, bob.account_id, made.webhook.public_id, chosen, now)
    assert caught.value.code == "events_pruned"
