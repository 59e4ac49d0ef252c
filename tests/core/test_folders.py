"""Folders of a user's own: made, renamed with those below, deleted when empty."""

from datetime import datetime

import pytest

from restante.core import events, folders
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import EventNumber
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def _names(conn: WriteConn, tenant: Tenant) -> list[str]:
    found = folders.list_folders(conn, tenant.account.id, tenant.mailbox.id)
    return [folder.name for folder in found if folder.role is None]


def test_made_renamed_deleted_and_told(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, red.mailbox.id
    start = events.list_after(conn, red.account.id, EventNumber(0), 100).events[-1].number
    work = folders.create(conn, *place, "Work", now)
    folders.create(conn, *place, "Work/2026", now)
    folders.create(conn, *place, "Workshop", now)
    renamed = folders.rename(conn, *place, "Work", "Jobs/Old", now)
    assert (renamed.id, renamed.uid_validity) == (work.id, work.uid_validity)
    assert _names(conn, red) == ["Jobs/Old", "Jobs/Old/2026", "Workshop"]
    assert folders.rename(conn, *place, "Workshop", "Workshop", now).name == "Workshop"
    assert folders.remove(conn, *place, "Jobs/Old", now) == renamed
    assert _names(conn, red) == ["Jobs/Old/2026", "Workshop"]
    told = [(event.type, event.body) for event in events.list_after(conn, red.account.id, start, 100).events]
    assert told == [
        ("folder.created", {"folder": "Work"}),
        ("folder.created", {"folder": "Work/2026"}),
        ("folder.created", {"folder": "Workshop"}),
        ("folder.renamed", {"folder": "Work", "name": "Jobs/Old"}),
        ("folder.removed", {"folder": "Jobs/Old"}),
    ]


@pytest.mark.parametrize("name", ["INBOX", "inbox", "Spam", "Junk", "Sent", "Trash"])
def test_special_folders_stay(conn: WriteConn, red: Tenant, now: datetime, name: str) -> None:
    place = red.account.id, red.mailbox.id
    with pytest.raises(Conflict, match="every mailbox"):
        folders.rename(conn, *place, name, "Other", now)
    with pytest.raises(Conflict, match="every mailbox"):
        folders.remove(conn, *place, name, now)


def test_names_in_use_and_nonsense(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, red.mailbox.id
    folders.create(conn, *place, "Work", now)
    folders.create(conn, *place, "Other", now)
    for taken in ("Other", "SPAM", "inbox"):
        with pytest.raises(Conflict) as caught:
            folders.rename(conn, *place, "Work", taken, now)
        assert caught.value.code == "folder_exists"
    for wrong in ("", "a//b", "../x", "a\0b", "x" * 256, "Work/Below"):
        with pytest.raises(Invalid):
            folders.rename(conn, *place, "Work", wrong, now)
    for unknown in ("Nothing", "a\0b", "work"):
        with pytest.raises(NotFound):
            folders.remove(conn, *place, unknown, now)


def test_a_mailbox_has_a_bounded_number(
    conn: WriteConn, red: Tenant, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MAX_FOLDERS", 7)
    folders.create(conn, red.account.id, red.mailbox.id, "Work", now)
    with pytest.raises(LimitExceeded):
        folders.create(conn, red.account.id, red.mailbox.id, "More", now)


def test_another_tenant_reaches_nothing(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    folders.create(conn, red.account.id, red.mailbox.id, "Work", now)
    foreign = blue.account.id, red.mailbox.id
    with pytest.raises(NotFound):
        folders.rename(conn, *foreign, "Work", "Mine", now)
    with pytest.raises(NotFound):
        folders.remove(conn, *foreign, "Work", now)
    assert _names(conn, red) == ["Work"]
