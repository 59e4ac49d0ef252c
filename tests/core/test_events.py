"""The event log: pages, filters, bounds, pruning, and what another account sees of it."""

from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import event_types, events
from restante.core.events import NewEvent
from restante.core.mailboxes import Mailbox
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId, EventNumber
from restante.runtime import Runtime
from tests.makers import make_mailbox, make_message

START = EventNumber(0)


@pytest.fixture
async def bob(rt: Runtime) -> Mailbox:
    return await make_mailbox(rt)


async def fill(rt: Runtime, bob: Mailbox, count: int) -> EventNumber:
    facts = [NewEvent("mailbox.quota_set", {"quota_bytes": number}, bob.id) for number in range(count)]
    return await rt.db.write(events.record_all, bob.account_id, facts, now=rt.clock.now())


async def test_pages_join_without_a_gap(rt: Runtime, bob: Mailbox) -> None:
    last = await fill(rt, bob, 25)
    seen: list[int] = []
    cursor, is_last = START, False
    while not is_last:
        page = await rt.db.read(events.list_after, bob.account_id, cursor, 7)
        seen += [event.number for event in page.events]
        cursor, is_last = page.cursor, page.is_last
    assert seen == list(range(1, last + 1))
    assert cursor == last
    assert (await rt.db.read(events.list_after, bob.account_id, cursor, 7)).events == []


async def test_a_rare_type_is_found_in_bounded_steps(
    rt: Runtime, bob: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SCANNED", 10)
    await fill(rt, bob, 35)
    await make_message(rt, bob)
    wanted = event_types.expand(["message.*"])
    cursor, steps = START, 0
    while not (page := await rt.db.read(events.list_after, bob.account_id, cursor, 5, types=wanted)).events:
        assert not page.is_last
        assert page.cursor == cursor + 10
        cursor, steps = page.cursor, steps + 1
    assert [event.type for event in page.events] == ["message.received"]
    assert page.is_last
    assert steps == 3


async def test_one_mailbox_sees_its_own(rt: Runtime, bob: Mailbox) -> None:
    eve = await make_mailbox(rt, "eve@example.test")
    await make_message(rt, eve)
    await make_message(rt, bob)
    page = await rt.db.read(events.list_after, eve.account_id, START, 100, mailbox_id=eve.id)
    assert {event.mailbox_id for event in page.events} == {eve.id}
    assert [event.type for event in page.events] == ["mailbox.created", "message.received"]


async def test_another_account_has_a_log_of_its_own(rt: Runtime, bob: Mailbox) -> None:
    with pytest.raises(NotFound):
        await rt.db.read(events.list_after, AccountId(bob.account_id + 1), START, 10)


async def test_a_cursor_of_the_future_is_refused(rt: Runtime, bob: Mailbox) -> None:
    newest, _ = await rt.db.read(events.bounds, bob.account_id)
    with pytest.raises(Invalid) as caught:
        await rt.db.read(events.list_after, bob.account_id, EventNumber(newest + 1), 10)
    assert caught.value.code == "invalid_cursor"


async def test_what_is_pruned_is_told(rt: Runtime, bob: Mailbox, clock: ManualClock) -> None:
    old = await fill(rt, bob, 5)
    clock.advance(timedelta(days=40))
    await fill(rt, bob, 5)
    before = clock.now() - timedelta(days=30)
    assert await rt.db.write(events.prune, bob.account_id, before, 1000, 3) == 3
    assert await rt.db.write(events.prune, bob.account_id, before, 1000, 100) == old - 3
    assert await rt.db.write(events.prune, bob.account_id, before, 1000, 100) == 0
    with pytest.raises(Conflict) as caught:
        await rt.db.read(events.list_after, bob.account_id, EventNumber(old - 1), 10)
    assert caught.value.code == "events_pruned"
    page = await rt.db.read(events.list_after, bob.account_id, old, 10)
    assert [event.number for event in page.events] == list(range(old + 1, old + 6))


async def test_pruning_by_number_keeps_the_newest(rt: Runtime, bob: Mailbox) -> None:
    last = await fill(rt, bob, 20)
    await rt.db.write(events.prune, bob.account_id, rt.clock.now() - timedelta(days=1), 4, 1000)
    assert await rt.db.read(events.bounds, bob.account_id) == (last, last - 4)
    assert await fill(rt, bob, 1) == last + 1


@pytest.mark.parametrize("pattern", ["message.gone", "", "message", "mess*", ".*", "message.*.*"])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        event_types.expand([pattern])


def test_patterns_name_types() -> None:
    assert event_types.expand(["*"]) == set(event_types.TYPES)
    assert event_types.expand(["token.*", "message.read"]) == {
        name for name in event_types.TYPES if name[:6] == "token."
    } | {"message.read"}
