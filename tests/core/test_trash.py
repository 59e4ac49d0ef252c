"""Trash: since when a message is there, what goes in the end, and the way back."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from restante.core import delivery, folders, messages, trash, verification
from restante.core.delivery import Delivered, Target
from restante.core.folders import Folder
from restante.core.trash import Trash
from restante.errors import Conflict, NotFound
from restante.ids import AccountId, FolderId, new_uuid
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant

DAYS = timedelta(days=30)
FIRST = FolderId(0)


def deliver(conn: WriteConn, tenant: Tenant, now: datetime, folder: str = "INBOX", count: int = 1) -> list[Delivered]:
    target = Target(tenant.account.id, tenant.mailbox.id, folder, "", b"")
    parts = [(tenant.account.id, CONTENT)]
    return [delivery.deliver(conn, parts, SUMMARY, [target], now)[0] for _ in range(count)]


def folder(conn: WriteConn, tenant: Tenant, name: str) -> Folder:
    return folders.get_folder(conn, tenant.account.id, tenant.mailbox.id, name)


def move(conn: WriteConn, tenant: Tenant, done: list[Delivered], name: str, now: datetime) -> None:
    ids = [one.message_id for one in done]
    messages.move(conn, tenant.account.id, tenant.mailbox.id, ids, folder(conn, tenant, name).id, now=now)


def purge(conn: WriteConn, tenant: Tenant, now: datetime, limit: int = 100) -> int:
    """What the standing job does with one account; how many messages went."""
    account_id, gone = tenant.account.id, 0
    waiting, _ = trash.list_waiting(conn, account_id, now - DAYS, FIRST, 100)
    for one in waiting:
        trash.note(conn, account_id, one.folder_id, now)
        while done := trash.purge(conn, account_id, one, now - DAYS, limit, now):
            assert done <= limit
            gone += done
    return gone


def is_sound(conn: WriteConn, account_id: AccountId) -> bool:
    totals = verification.check_account(conn, account_id)
    assert totals is not None
    return totals.is_right and all(one.is_right for one in verification.check_mailboxes(conn, account_id))


def public_id(message: Delivered) -> UUID:
    return UUID(message.public_id)


def noted(conn: WriteConn) -> int:
    return len(conn.execute(select(tables.trashed)).all())


def test_time_counts_from_when_it_got_there(conn: WriteConn, red: Tenant, now: datetime) -> None:
    old = deliver(conn, red, now - timedelta(days=400))
    move(conn, red, old, "Trash", now)
    later = now + timedelta(days=10)
    move(conn, red, deliver(conn, red, later), "Trash", later)
    assert purge(conn, red, now + DAYS) == 0
    assert purge(conn, red, now + DAYS + timedelta(seconds=1)) == 1
    assert folder(conn, red, "Trash").messages == 1
    assert purge(conn, red, later + DAYS + timedelta(seconds=1)) == 1
    assert noted(conn) == 0
    assert is_sound(conn, red.account.id)


def test_what_was_stored_there_counts_from_when_it_is_seen(conn: WriteConn, red: Tenant, now: datetime) -> None:
    """An imported Trash is not emptied at once, however old its mail is."""
    deliver(conn, red, now - timedelta(days=4000), "Trash", 5)
    assert purge(conn, red, now) == 0
    deliver(conn, red, now, "Trash")
    move(conn, red, deliver(conn, red, now), "Trash", now + timedelta(days=1))
    assert purge(conn, red, now + DAYS) == 0
    assert purge(conn, red, now + DAYS + timedelta(seconds=1)) == 5
    assert purge(conn, red, now + DAYS + timedelta(days=1, seconds=1)) == 2
    assert noted(conn) == 0
    assert trash.list_waiting(conn, red.account.id, now + 3 * DAYS, FIRST, 9) == ([], None)


def test_small_steps(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    for tenant in (red, blue):
        move(conn, tenant, deliver(conn, tenant, now, count=7), "Trash", now)
    deliver(conn, red, now, count=2)
    assert purge(conn, red, now + 2 * DAYS, limit=2) == 7
    assert folder(conn, red, "Trash").messages == 0
    assert folder(conn, red, "INBOX").messages == 2
    assert folder(conn, blue, "Trash").messages == 7, "another tenant's"
    assert is_sound(conn, red.account.id)


def test_folders_are_looked_through_in_pages(conn: WriteConn, red: Tenant, now: datetime) -> None:
    move(conn, red, deliver(conn, red, now), "Trash", now)
    place = folder(conn, red, "Trash").id
    account_id, late = red.account.id, now + 2 * DAYS
    assert trash.list_waiting(conn, account_id, late, FIRST, 1) == ([Trash(red.mailbox.id, place)], place)
    assert trash.list_waiting(conn, account_id, late, place, 1) == ([], None)


def test_back_to_where_it_was(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    folders.create(conn, account_id, red.mailbox.id, "Work", now)
    one, other, third = deliver(conn, red, now, "Work", 3)
    move(conn, red, [one, other, third], "Trash", now)
    row = trash.undelete(conn, account_id, public_id(one), now)
    assert (row.id, row.folder_id) == (one.message_id, folder(conn, red, "Work").id)
    assert noted(conn) == 2
    with pytest.raises(Conflict) as caught:
        trash.undelete(conn, account_id, public_id(one), now)
    assert caught.value.code == "message_not_in_trash"
    move(conn, red, [one], "Trash", now)
    row = trash.undelete(conn, account_id, public_id(other), now)
    assert row.folder_id == folder(conn, red, "Work").id
    for message in (one, third):
        row = trash.undelete(conn, account_id, public_id(message), now)
    assert folder(conn, red, "Work").messages == 3
    assert noted(conn) == 0
    assert is_sound(conn, account_id)


def test_back_to_inbox_when_its_folder_is_gone_or_unknown(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id, mailbox_id = red.account.id, red.mailbox.id
    folders.create(conn, account_id, mailbox_id, "Work", now)
    gone = deliver(conn, red, now, "Work")
    move(conn, red, gone, "Trash", now)
    folders.remove(conn, account_id, mailbox_id, "Work", now)
    stored = deliver(conn, red, now, "Trash")
    for message in (*gone, *stored):
        row = trash.undelete(conn, account_id, public_id(message), now)
        assert row.folder_id == folder(conn, red, "INBOX").id


def test_another_tenants_message_does_not_exist(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    theirs = deliver(conn, blue, now)
    move(conn, blue, theirs, "Trash", now)
    for wanted in (public_id(theirs[0]), new_uuid()):
        with pytest.raises(NotFound):
            trash.undelete(conn, red.account.id, wanted, now)
    place = Trash(blue.mailbox.id, folder(conn, blue, "Trash").id)
    assert trash.purge(conn, red.account.id, place, now + DAYS, 9, now) == 0
    trash.note(conn, red.account.id, place.folder_id, now)
    assert noted(conn) == 1


def test_removal_leaves_no_note(conn: WriteConn, red: Tenant, now: datetime) -> None:
    done = deliver(conn, red, now, count=2)
    move(conn, red, done, "Trash", now)
    messages.remove(conn, red.account.id, red.mailbox.id, [one.message_id for one in done], now=now)
    assert noted(conn) == 0
