"""Accounts: creation, suspension, quota and their events."""

from datetime import datetime

import pytest

from restante.core import accounts, events
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId, EventNumber
from restante.schema.connections import WriteConn


def _events(conn: WriteConn, account_id: AccountId) -> list[str]:
    return [event.type for event in events.list_after(conn, account_id, EventNumber(0), 100).events]


def test_create_find_list(conn: WriteConn, now: datetime) -> None:
    made = accounts.create(conn, "  Red  ", now, 5000)
    assert (made.name, made.status, made.quota_bytes, made.used_bytes, made.created_at) == (
        "Red",
        "active",
        5000,
        0,
        now,
    )
    assert accounts.find(conn, "Red") == made == accounts.get(conn, made.id)
    assert accounts.find(conn, "Blue") is None
    assert accounts.get_public_id(conn, made.id) == made.public_id
    with pytest.raises(NotFound):
        accounts.get_public_id(conn, AccountId(9_999))
    blue = accounts.create(conn, "Blue", now)
    assert accounts.list_accounts(conn) == [made, blue]


def test_name_is_unique(conn: WriteConn, now: datetime) -> None:
    accounts.create(conn, "red", now)
    with pytest.raises(Conflict) as caught:
        accounts.create(conn, "red", now)
    assert caught.value.code == "account_exists"


@pytest.mark.parametrize(("name", "quota"), [("", None), ("  ", None), ("x" * 201, None), ("red", -1), ("red", 2**63)])
def test_nonsense_is_refused(conn: WriteConn, now: datetime, name: str, quota: int | None) -> None:
    with pytest.raises(Invalid):
        accounts.create(conn, name, now, quota)


def test_suspend_and_resume_record_once(conn: WriteConn, now: datetime) -> None:
    made = accounts.create(conn, "red", now)
    assert accounts.suspend(conn, made.id, now).status == "suspended"
    assert accounts.suspend(conn, made.id, now).status == "suspended"
    assert accounts.resume(conn, made.id, now).status == "active"
    assert accounts.set_quota(conn, made.id, 10, now).quota_bytes == 10
    assert accounts.set_quota(conn, made.id, None, now).quota_bytes is None
    assert _events(conn, made.id) == [
        "account.created",
        "account.suspended",
        "account.resumed",
        "account.quota_set",
        "account.quota_set",
    ]
