"""Arrivals follow the log: whatever happened, lists show it when the call comes back."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Delete, Update, delete, func, select, update

from restante.clock import ManualClock
from restante.core import arrivals, events, folders, mailboxes, messages, routing
from restante.core.arrivals import Arrival, Filter, query, surveying
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.core.messages import Flag
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId, JobId, MessageId
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.services import arrivals as service
from restante.services import reception, verification
from restante.services.reception import Envelope, Source
from tests.fakes import FakePressure
from tests.makers import eml, make_mailbox, make_message

ALL = Filter()
SOURCE = Source("192.0.2.1", "out.test", "ESMTP", "mail.example.test")
JOB = Job(JobId(1), None, "follow-arrivals", {}, 1)


async def listed(rt: Runtime, box: Mailbox, wanted: Filter = ALL) -> list[Arrival]:
    """All that a filter lets pass."""
    found = await service.list_page(rt, box.account_id, wanted, page=1, limit=1000)
    assert found.total == len(found.arrivals)
    return found.arrivals


async def move(rt: Runtime, box: Mailbox, message_id: MessageId, folder: str) -> None:
    place = await rt.db.read(folders.get_folder, box.account_id, box.id, folder)
    await rt.db.write(messages.move, box.account_id, box.id, [message_id], place.id, now=rt.clock.now())


@pytest.mark.parametrize("is_followed", [True, False])
async def test_everything_that_happens_to_a_message(rt: Runtime, is_followed: bool) -> None:
    """The same rows come of following each event and of a fill at the end."""
    box = await make_mailbox(rt)
    if is_followed:
        await service.ready(rt, box.account_id)
    made = [await make_message(rt, box, eml(f"number {place}")) for place in range(5)]
    ids = [one.message_id for one in made]

    async def flag(message_id: MessageId, add: Flag, remove: Flag = messages.NO_FLAGS) -> None:
        await rt.db.write(
            messages.set_flags, box.account_id, box.id, [message_id], add=add, remove=remove, now=rt.clock.now()
        )

    await flag(ids[0], Flag.SEEN | Flag.FLAGGED)
    await flag(ids[1], Flag.SEEN)
    await flag(ids[1], messages.NO_FLAGS, Flag.SEEN)
    await move(rt, box, ids[2], "Trash")
    await rt.db.write(messages.remove, box.account_id, box.id, [ids[3]], now=rt.clock.now())
    await move(rt, box, ids[4], "Archive")
    found = await listed(rt, box)
    assert [(one.subject, one.read_at is not None, one.is_favorite) for one in found] == [
        ("number 4", False, False),
        ("number 1", False, False),
        ("number 0", True, True),
    ]
    assert [one.subject for one in await listed(rt, box, Filter(is_unread=True))] == ["number 4", "number 1"]
    assert [one.subject for one in await listed(rt, box, Filter(is_favorite=True))] == ["number 0"]
    await move(rt, box, ids[2], "INBOX")
    assert [one.subject for one in await listed(rt, box, Filter(subject="number 2"))] == ["number 2"]
    await rt.db.write(mailboxes.remove, box.account_id, box.id, rt.clock.now(), force=True)
    assert await listed(rt, box) == []
    daily = await rt.db.read(arrivals.daily, box.account_id)
    assert daily.emails_received == (5 if is_followed else 4)
    assert daily.emails_deleted == daily.emails_received
    assert (daily.storage_used, daily.inboxes_created) == (0, 1)


async def test_an_arrival(rt: Runtime) -> None:
    box = await make_mailbox(rt)
    raw = eml("hello", sender="Ada <ADA@Example.org>").replace(b"Message-ID", b"Cc: C <c@example.org>\r\nMessage-ID")
    made = await make_message(rt, box, raw)
    (found,) = await listed(rt, box)
    assert (str(found.id), found.message_id, found.mailbox_id) == (made.public_id, made.message_id, box.id)
    assert (found.sender.address, found.sender.display_name) == ("ada@example.org", "Ada")
    assert (found.inbox.address, found.inbox.display_name) == ("bob@example.test", "Bob")
    assert (found.has_text, found.has_html, found.attachments, found.structure) == (True, False, 0, None)
    assert found.carbon_copies == (("C", "c@example.org"),)
    assert found.created_at == rt.clock.now()
    assert await rt.db.read(arrivals.find, box.account_id, found.id) == found
    assert await rt.db.read(arrivals.knows_sender, box.account_id, "Ada@example.org")
    assert not await rt.db.read(arrivals.knows_inbox, box.account_id, "ada@example.org")
    await move(rt, box, made.message_id, "Trash")
    await service.ready(rt, box.account_id)
    with pytest.raises(NotFound):
        await rt.db.read(arrivals.find, box.account_id, found.id)


async def test_copies_of_what_was_sent_are_none(rt: Runtime) -> None:
    box = await make_mailbox(rt)
    await make_message(rt, box, folder="Sent")
    await make_message(rt, box, folder="Drafts")
    assert await listed(rt, box) == []
    await make_message(rt, box, folder="Sent")
    assert await listed(rt, box) == []


async def test_the_job_follows(rt: Runtime) -> None:
    box = await make_mailbox(rt)
    await service.ready(rt, box.account_id)
    await make_message(rt, box)
    assert not await rt.db.read(arrivals.is_current, box.account_id)
    await service.follow(rt, JOB)
    assert await rt.db.read(arrivals.is_current, box.account_id)
    assert len(await listed(rt, box)) == 1


async def test_what_says_nothing_of_messages_is_not_followed(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make_mailbox(rt)
    monkeypatch.setattr(surveying, "UNWRITTEN", 3)
    await make_message(rt, box)
    await service.ready(rt, box.account_id)
    stood = await rt.db.read(surveying.stand, box.account_id)
    assert stood is not None
    for is_current in (True, True, False):
        await rt.db.write(events.record, box.account_id, "mailbox.password_set", {}, now=rt.clock.now())
        assert await rt.db.read(arrivals.is_current, box.account_id) is is_current
        assert await rt.db.read(surveying.stand, box.account_id) == stood
    await service.ready(rt, box.account_id)
    assert await rt.db.read(surveying.stand, box.account_id) == stood._replace(event_number=stood.event_number + 3)
    await make_message(rt, box)
    assert not await rt.db.read(arrivals.is_current, box.account_id)
    assert len(await listed(rt, box)) == 2


async def test_the_job_does_little_under_pressure(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make_mailbox(rt)
    await service.ready(rt, box.account_id)
    for _ in range(3):
        await make_message(rt, box)
    monkeypatch.setattr(service, "BATCH", 1)
    monkeypatch.setattr(service, "BATCHES_A_RUN", 2 * (1 + service.PRESSED))
    pressed = replace(rt, pressure=FakePressure(1.0))
    for is_done in (False, True):
        await service.follow(pressed, JOB)
        assert await rt.db.read(arrivals.is_current, box.account_id) is is_done
    assert len(await listed(rt, box)) == 3


async def report_of(rt: Runtime, *, repair: bool = False) -> dict[str, Any]:
    *_, report = [item async for item in verification.verify(rt, repair)]
    return report


T = tables
DAMAGES: dict[str, Update | Delete] = {
    "a row says read": update(T.arrivals).values(read_at=1),
    "a row is lost": delete(T.arrivals).where(T.arrivals.c.message_id == 1),
    "a posting is lost": delete(T.arrival_postings).where(T.arrival_postings.c.word_id == 1),
    "a total is wrong": update(T.arrival_cursors).values(listed=7),
    "a sender's count is wrong": update(T.correspondents).values(arrivals=7),
    "a subject's count is wrong": update(T.arrival_subjects).values(arrivals=7),
}


def damage(conn: WriteConn, statement: Update | Delete) -> None:
    assert conn.execute(statement).rowcount


@pytest.mark.parametrize("name", DAMAGES)
async def test_verification_finds_and_repairs(rt: Runtime, name: str) -> None:
    box = await make_mailbox(rt)
    routes = await rt.db.read(routing.resolve, box.address)
    for place in range(3):
        await reception.receive(rt, Envelope("ada@example.org", routes), SOURCE, eml(f"number {place}"))
    right = await listed(rt, box)
    assert (await report_of(rt))["ok"]
    await rt.db.write(damage, DAMAGES[name])
    report = await report_of(rt)
    assert not report["ok"]
    assert [one["kind"] for one in report["problems"]] == ["arrivals"]
    assert (await report_of(rt, repair=True))["ok"]
    assert await listed(rt, box) == right
    assert (await report_of(rt))["problem_count"] == 0


async def test_a_pruned_log_is_made_good(rt: Runtime) -> None:
    """What was pruned before it was followed is found in the messages."""
    box = await make_mailbox(rt)
    await make_message(rt, box, eml("first"))
    before = await listed(rt, box)
    second = await make_message(rt, box, eml("second"))
    await rt.db.write(messages.remove, box.account_id, box.id, [before[0].message_id], now=rt.clock.now())
    await rt.db.write(events.prune, box.account_id, rt.clock.now() + timedelta(days=1), 0, 1000)
    assert [one.message_id for one in await listed(rt, box)] == [second.message_id]
    assert (await report_of(rt))["ok"]


async def test_a_reader_does_not_wait_long(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make_mailbox(rt)
    await make_message(rt, box)
    monkeypatch.setattr(service, "PATIENCE_SECONDS", -1)
    with pytest.raises(Unavailable) as caught:
        await listed(rt, box)
    assert caught.value.code == service.NOT_READY
    with pytest.raises(Unavailable):
        await rt.db.read(arrivals.list_page, AccountId(99), ALL, page=1, limit=1)
    await service.follow(rt, JOB)
    assert len(await listed(rt, box)) == 1


async def test_a_filter_is_counted_once_until_something_changes(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make_mailbox(rt)
    await make_message(rt, box)
    wanted = Filter(since=rt.clock.now() - timedelta(days=1))
    assert len(await listed(rt, box, wanted)) == 1

    def fail(_: object) -> int:
        raise AssertionError("counted again")

    monkeypatch.setattr(query.Query, "_count", fail)
    assert len(await listed(rt, box, wanted)) == 1
    await make_message(rt, box)
    with pytest.raises(AssertionError, match="counted again"):
        await listed(rt, box, wanted)


async def test_bounds(rt: Runtime) -> None:
    box = await make_mailbox(rt)
    await make_message(rt, box)
    await service.ready(rt, box.account_id)
    for page, limit, count in ((10**9, 1000, 0), (2, 1, 0), (0, 0, 1), (-5, 10**9, 1)):
        found = await rt.db.read(arrivals.list_page, box.account_id, ALL, page=page, limit=limit)
        assert (len(found.arrivals), found.total) == (count, 1)
    for text in ("x" * 100_000, "*" * 10_000, "\x00\ud800", "%_\\"):
        for wanted in (Filter(inbox=text), Filter(sender=text), Filter(subject=text), Filter(search=text)):
            found = await rt.db.read(arrivals.list_page, box.account_id, wanted, page=1, limit=1)
            assert found.total == (1 if set(text) == {"*"} and wanted.subject else 0), wanted


async def test_a_removed_account_leaves_nothing(rt: Runtime) -> None:
    box = await make_mailbox(rt)
    await make_message(rt, box)
    await listed(rt, box)
    while await rt.db.write(arrivals.purge, AccountId(box.account_id + 1), 10):
        raise AssertionError("it has none")
    while await rt.db.write(arrivals.purge, box.account_id, 2):
        pass
    assert await rt.db.read(rows_left) == 0


def rows_left(conn: ReadConn) -> int:
    mine = [table for name, table in tables.metadata.tables.items() if name.startswith(("arrival", "correspondents"))]
    assert len(mine) == 8
    return sum(conn.execute(select(func.count()).select_from(table)).scalar_one() for table in mine)


async def test_days(rt: Runtime, clock: ManualClock) -> None:
    box = await make_mailbox(rt)
    await service.ready(rt, box.account_id)
    first = await make_message(rt, box)
    clock.advance(timedelta(days=3))
    second = await make_message(rt, box)
    await move(rt, box, first.message_id, "Trash")
    (kept,) = await listed(rt, box)
    assert kept.message_id == second.message_id
    size, today = kept.size_bytes, clock.now().date()
    found = await rt.db.read(arrivals.daily, box.account_id, today=today)
    assert [(day.emails_received, day.emails_deleted, day.cumulative_storage_used) for day in found.days] == [
        (1, 0, size),
        (0, 0, size),
        (0, 0, size),
        (1, 1, size),
    ]
    assert [day.inboxes_created for day in found.days] == [1, 0, 0, 0]
    assert found.days[-1].date == today
    assert (found.emails_received, found.storage_used, found.emails_deleted) == (2, size, 1)
    await move(rt, box, first.message_id, "INBOX")
    await service.ready(rt, box.account_id)
    later = await rt.db.read(arrivals.daily, box.account_id, 2, today=today + timedelta(days=1))
    assert [(day.emails_received, day.emails_deleted) for day in later.days] == [(1, 0), (0, 0)]
    assert later.storage_used == later.days[-1].cumulative_storage_used == 2 * size


async def test_one_is_found_without_bringing_all_up_to_date(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BATCH", 3)
    box = await make_mailbox(rt)
    made = [await make_message(rt, box, eml(f"number {place}")) for place in range(10)]
    await service.ready(rt, box.account_id)
    later = [await make_message(rt, box, eml(f"later {place}")) for place in range(10)]
    row = await rt.db.read(messages.get, box.account_id, later[0].message_id)
    assert (await service.find(rt, box.account_id, row.public_id, 60.0)).subject == "later 0"
    assert not await rt.db.read(arrivals.is_current, box.account_id)
    await rt.db.write(messages.remove, box.account_id, box.id, [made[0].message_id], now=rt.clock.now())
    gone = await rt.db.read(messages.get, box.account_id, later[9].message_id)
    await rt.db.write(messages.remove, box.account_id, box.id, [later[9].message_id], now=rt.clock.now())
    with pytest.raises(NotFound):
        await service.find(rt, box.account_id, gone.public_id, 60.0)


async def test_one_that_somebody_else_has_just_listed_is_found(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make_mailbox(rt)
    await service.ready(rt, box.account_id)
    made = await make_message(rt, box, eml("now"))
    step = service._step

    async def late(*args: Any) -> bool:
        while await step(*args):
            pass
        return False

    monkeypatch.setattr(service, "_step", late)
    row = await rt.db.read(messages.get, box.account_id, made.message_id)
    assert (await service.find(rt, box.account_id, row.public_id, 60.0)).subject == "now"
