"""Arrivals follow the log: whatever happened, lists show it when the call comes back."""

from typing import Any

import pytest
from sqlalchemy import Delete, Update, delete, update

from restante.core import arrivals, folders, mailboxes, messages, routing
from restante.core.arrivals import Arrival, Filter
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.core.messages import Flag
from restante.errors import NotFound
from restante.ids import JobId, MessageId
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.services import arrivals as service
from restante.services import reception, verification
from restante.services.reception import Envelope, Source
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
