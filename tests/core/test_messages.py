"""Listing, flags, moves, removal, and the counters they keep."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from restante.core import contents, events, folders, messages
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.core.messages import Flag
from restante.errors import Invalid, NotFound
from restante.ids import AccountId, EventNumber, FolderId, MailboxId, MessageId
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import WIDTH
from tests.makers import eml, make_mailbox, make_message, refresh


@pytest.fixture
async def bob(rt: Runtime) -> Mailbox:
    return await make_mailbox(rt)


async def folder(rt: Runtime, mailbox: Mailbox, name: str = "INBOX") -> Folder:
    return await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, name)


def vanished(conn: ReadConn, folder_id: int) -> list[tuple[int, int]]:
    e = tables.expunged.c
    rows = conn.execute(select(e.modseq, e.uid).where(e.folder_id == folder_id).order_by(e.uid))
    return [(row.modseq, row.uid) for row in rows]


def recount(conn: ReadConn, folder_id: int) -> tuple[int, int, int]:
    """What the folder's counters must say."""
    m = tables.messages.c
    unseen = func.coalesce(func.sum(1 - m.flags % 2), 0)
    row = conn.execute(
        select(func.count(), unseen, func.coalesce(func.sum(m.size_bytes), 0)).where(m.folder_id == folder_id)
    ).one()
    return row[0], row[1], row[2]


def queued(conn: ReadConn) -> list[int]:
    return list(conn.execute(select(tables.index_queue.c.message_id).order_by(tables.index_queue.c.id)).scalars())


async def require_counters(rt: Runtime, mailbox: Mailbox) -> None:
    found = await rt.db.read(folders.list_folders, mailbox.account_id, mailbox.id)
    total, size = 0, 0
    for each in found:
        assert (each.messages, each.unseen, each.size_bytes) == await rt.db.read(recount, each.id), each.name
        total, size = total + each.messages, size + each.size_bytes
    now = await refresh(rt, mailbox)
    assert (now.messages, now.used_bytes) == (total, size)


async def test_by_any_number_of_ids_in_the_order_given(rt: Runtime, bob: Mailbox) -> None:
    made = [(await make_message(rt, bob)).message_id for _ in range(WIDTH + 2)]
    for wanted in ([], made[:1], made[:WIDTH], [*reversed(made), MessageId(10**9)], [made[0], made[3], made[1]]):
        rows = await rt.db.read(messages.by_ids, bob.account_id, wanted)
        assert [row.id for row in rows] == [one for one in wanted if one in made]


async def test_a_new_mailbox_has_its_folders(rt: Runtime, bob: Mailbox) -> None:
    found = await rt.db.read(folders.list_folders, bob.account_id, bob.id)
    assert [(each.name, each.role) for each in found] == list(folders.DEFAULTS)
    assert all(each.uid_next == 1 and each.modseq == 1 and each.uid_validity > 0 for each in found)


@pytest.mark.parametrize("name", ["inbox", "Inbox", "SPAM", "spam", "junk"])
async def test_special_folders_in_any_case(rt: Runtime, bob: Mailbox, name: str) -> None:
    found = await folder(rt, bob, name)
    assert found.name == ("INBOX" if name.lower() == "inbox" else "Junk")


@pytest.mark.parametrize("name", ["", "a//b", "/a", "a/", "a\r\nb", "x" * 256, "..", "a/../b", "/".join("a" * 21)])
async def test_names_that_are_none(rt: Runtime, bob: Mailbox, name: str) -> None:
    with pytest.raises(Invalid):
        await rt.db.write(folders.create, bob.account_id, bob.id, name, rt.clock.now())


async def test_messages_are_listed_newest_first_and_paged(rt: Runtime, bob: Mailbox) -> None:
    for number in range(5):
        await make_message(rt, bob, eml(f"number {number}"))
    inbox = await folder(rt, bob)
    assert (inbox.messages, inbox.unseen, inbox.uid_next, inbox.modseq) == (5, 5, 6, 6)
    page = await rt.db.read(messages.list_page, bob.account_id, inbox.id, limit=2, before_uid=5)
    assert [(row.uid, row.subject) for row in page] == [(4, "number 3"), (3, "number 2")]
    below = await rt.db.read(messages.list_page, bob.account_id, inbox.id, limit=10, before_uid=3)
    assert [row.uid for row in below] == [2, 1]
    row = page[0]
    assert (row.from_.name, row.from_.email, row.to[0].email) == ("Ada", "ada@example.org", "bob@example.test")
    assert (row.message_id_header, row.preview, row.attachments, row.flags) == ("<m1@example.org>", "It works.", 0, ())
    assert row.sent_at is not None
    assert row.sent_at.isoformat() == "2026-11-21T10:00:00+00:00"
    await require_counters(rt, bob)


async def test_flags_change_counters_modseq_and_events(rt: Runtime, bob: Mailbox) -> None:
    first, second = [await make_message(rt, bob) for _ in range(2)]
    inbox = await folder(rt, bob)
    changed = await rt.db.write(
        messages.set_flags, bob.account_id, bob.id, [first.message_id, second.message_id], add=Flag.SEEN | Flag.FLAGGED,
        now=rt.clock.now(),
    )  # fmt: skip
    assert changed == 2
    after = await folder(rt, bob)
    assert (after.unseen, after.modseq) == (0, inbox.modseq + 1)
    row = await rt.db.read(messages.get, bob.account_id, first.message_id)
    assert row.flags == ("\\Seen", "\\Flagged")
    assert row.modseq == after.modseq
    again = await rt.db.write(
        messages.set_flags, bob.account_id, bob.id, [first.message_id], add=Flag.SEEN, now=rt.clock.now()
    )
    assert again == 0
    await rt.db.write(
        messages.set_flags, bob.account_id, bob.id, [first.message_id], remove=Flag.SEEN, now=rt.clock.now()
    )
    assert (await folder(rt, bob)).unseen == 1
    await require_counters(rt, bob)


async def test_a_move_keeps_the_id_and_gives_a_new_uid(rt: Runtime, bob: Mailbox) -> None:
    kept, moved = [await make_message(rt, bob, eml(name)) for name in ("kept", "moved")]
    await make_message(rt, bob, folder="Archive")
    archive = await folder(rt, bob, "Archive")
    answer = await rt.db.write(
        messages.move, bob.account_id, bob.id, [moved.message_id], archive.id, now=rt.clock.now()
    )
    assert answer == [(moved.message_id, 2)]
    row = await rt.db.read(messages.get, bob.account_id, moved.message_id)
    assert (row.folder_id, row.uid, row.public_id.hex) == (archive.id, 2, moved.public_id.replace("-", ""))
    inbox = await folder(rt, bob)
    assert [found.uid for found in await rt.db.read(messages.list_page, bob.account_id, inbox.id, limit=9)] == [
        kept.uid
    ]
    assert await rt.db.read(vanished, inbox.id) == [(inbox.modseq, moved.uid)]
    assert (
        await rt.db.write(messages.move, bob.account_id, bob.id, [moved.message_id], archive.id, now=rt.clock.now())
        == []
    )
    await require_counters(rt, bob)


async def test_removal_releases_the_bytes(rt: Runtime, bob: Mailbox) -> None:
    gone = await make_message(rt, bob)
    row = await rt.db.read(messages.get, bob.account_id, gone.message_id)
    assert await rt.db.write(messages.remove, bob.account_id, bob.id, [gone.message_id], now=rt.clock.now()) == 1
    assert await rt.db.write(messages.remove, bob.account_id, bob.id, [gone.message_id], now=rt.clock.now()) == 0
    with pytest.raises(NotFound):
        await rt.db.read(messages.get, bob.account_id, gone.message_id)
    unused = await rt.db.read(contents.list_unused, rt.clock.now() + timedelta(days=1), 10)
    assert [one.id for one in unused] == [row.content_id]
    assert await rt.db.read(queued) == [gone.message_id, gone.message_id]
    await require_counters(rt, bob)
    assert await rt.db.write(contents.remove_unused, bob.account_id, [row.content_id]) == []
    with pytest.raises(NotFound):
        await rt.db.read(contents.get, bob.account_id, row.content_id)


async def test_an_id_is_never_used_again(rt: Runtime, bob: Mailbox) -> None:
    last = await make_message(rt, bob)
    await rt.db.write(messages.remove, bob.account_id, bob.id, [last.message_id], now=rt.clock.now())
    fresh = await make_message(rt, bob)
    assert fresh.message_id > last.message_id
    assert fresh.uid > last.uid


async def test_events_are_numbered_without_gaps(rt: Runtime, bob: Mailbox) -> None:
    one = await make_message(rt, bob)
    await rt.db.write(messages.set_flags, bob.account_id, bob.id, [one.message_id], add=Flag.SEEN, now=rt.clock.now())
    await rt.db.write(messages.remove, bob.account_id, bob.id, [one.message_id], now=rt.clock.now())
    log = (await rt.db.read(events.list_after, bob.account_id, EventNumber(0), 100)).events
    assert [event.number for event in log] == list(range(1, len(log) + 1))
    told = ["message.received", "message.read", "message.flagged", "message.deleted"]
    assert [event.type for event in log][-4:] == told
    assert {event.body["message"] for event in log[-4:]} == {one.message_id}
    assert {event.body["id"] for event in log[-4:]} == {one.public_id}


@pytest.mark.parametrize("name", ["with space", "", "\\Seen", "a" * 65, "ünïcode", "a(b", "a%b"])
def test_keywords_that_imap_could_not_carry(name: str) -> None:
    with pytest.raises(Invalid):
        messages.require_keywords([name])


async def test_another_account_sees_nothing(rt: Runtime, bob: Mailbox) -> None:
    one = await make_message(rt, bob)
    inbox, archive = await folder(rt, bob), await folder(rt, bob, "Archive")
    stranger, nobody = AccountId(bob.account_id + 1), MailboxId(bob.id + 1)
    now = rt.clock.now()
    reads: list[tuple[Any, ...]] = [
        (messages.get, stranger, one.message_id),
        (messages.trace, stranger, one.message_id),
        (contents.get, stranger, (await rt.db.read(messages.get, bob.account_id, one.message_id)).content_id),
        (folders.get_folder, stranger, bob.id, "INBOX"),
    ]
    for fn, *args in reads:
        with pytest.raises(NotFound):
            await rt.db.read(fn, *args)
    assert await rt.db.read(messages.find, stranger, inbox.id, one.uid) is None
    assert await rt.db.read(messages.list_page, stranger, inbox.id, limit=9) == []
    assert await rt.db.read(messages.by_ids, stranger, [one.message_id]) == []
    assert await rt.db.read(folders.list_folders, stranger, bob.id) == []
    for account_id, mailbox_id in ((stranger, bob.id), (bob.account_id, nobody)):
        ids = [one.message_id, MessageId(999)]
        assert await rt.db.write(messages.set_flags, account_id, mailbox_id, ids, add=Flag.SEEN, now=now) == 0
        assert await rt.db.write(messages.remove, account_id, mailbox_id, ids, now=now) == 0
        with pytest.raises(NotFound):
            await rt.db.write(messages.move, account_id, mailbox_id, ids, archive.id, now=now)
    with pytest.raises(NotFound):
        await rt.db.write(messages.move, bob.account_id, bob.id, [one.message_id], FolderId(9999), now=now)
    assert (await rt.db.read(messages.get, bob.account_id, one.message_id)).flags == ()
