"""Removal bit by bit: what stays marked, what goes in which order, and what is never touched."""

from datetime import datetime

import pytest
from sqlalchemy import delete, func, insert, select

from restante.core import (
    access,
    accounts,
    delivery,
    domains,
    folders,
    mailboxes,
    removal,
    submission,
    tokens,
    verification,
)
from restante.core.delivery import Target
from restante.errors import NotFound
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant, outgoing


def _deliver(conn: WriteConn, now: datetime, *tenants: Tenant, folder: str = "INBOX") -> None:
    targets = [Target(one.account.id, one.mailbox.id, folder, "", b"", 0, "") for one in tenants]
    parts = [(account_id, CONTENT) for account_id in dict.fromkeys(one.account.id for one in tenants)]
    delivery.deliver(conn, parts, SUMMARY, targets, now)


def _count(conn: WriteConn, name: str) -> int:
    found: int = conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
    return found


def test_mailbox_goes_in_batches_and_counters_stay_right(
    conn: WriteConn, red: Tenant, blue: Tenant, now: datetime
) -> None:
    bob = Tenant(red.account, red.domain, mailboxes.create(conn, red.account.id, "bob@red.example", now))
    _deliver(conn, now, red, bob, blue)
    for folder in ("INBOX", "INBOX", "Sent", "Sent"):
        _deliver(conn, now, red, folder=folder)
    before = {name: _count(conn, name) for name in ("events", "messages")}
    mailboxes.remove(conn, red.account.id, red.mailbox.id, now, True)
    assert _count(conn, "messages") == before["messages"] == 7
    assert removal.list_mailboxes(conn, 9) == [(red.account.id, red.mailbox.id)]
    left = []
    while removal.purge_mailbox(conn, red.account.id, red.mailbox.id, 2, now):
        left.append(_count(conn, "messages"))
        assert all(one.is_right for one in verification.check_mailboxes(conn, red.account.id))
        totals = verification.check_account(conn, red.account.id)
        assert totals is not None
        assert totals.is_right
    assert left[:3] == [5, 3, 2]
    assert left[-1] == 2
    assert removal.list_mailboxes(conn, 9) == []
    assert accounts.get(conn, red.account.id).used_bytes == 10
    assert _count(conn, "events") == before["events"] + 1, "the removal itself"
    assert _count(conn, "expunged") == 0
    assert [mailbox.address for mailbox in mailboxes.list_all(conn)] == ["ann@blue.example", "bob@red.example"]
    c = tables.contents.c
    rows = conn.execute(select(c.uses, c.unused_at.is_(None)).order_by(c.id)).all()
    assert [tuple(row) for row in rows] == [(1, True), (1, True)] + [(0, False)] * 4
    assert _count(conn, "index_queue") == 7 + 5


def test_mailbox_in_service_is_not_touched(conn: WriteConn, red: Tenant, now: datetime) -> None:
    _deliver(conn, now, red)
    mailboxes.disable(conn, red.account.id, red.mailbox.id, now)
    assert not removal.purge_mailbox(conn, red.account.id, red.mailbox.id, 9, now)
    assert not removal.purge_account(conn, red.account.id, 9, now)
    assert _count(conn, "messages") == 1


def test_mail_on_its_way_is_refused(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.remove(conn, red.account.id, red.mailbox.id, now)
    with pytest.raises(NotFound) as caught:
        _deliver(conn, now, red)
    assert caught.value.code == "mailbox_not_found"


def test_long_past_of_a_folder_goes_in_batches(conn: WriteConn, red: Tenant, now: datetime) -> None:
    inbox = folders.get_folder(conn, red.account.id, red.mailbox.id, "INBOX")
    rows = [{"account_id": red.account.id, "folder_id": inbox.id, "modseq": n // 2, "uid": n} for n in range(10)]
    conn.execute(insert(tables.expunged), rows)
    mailboxes.remove(conn, red.account.id, red.mailbox.id, now)
    left = []
    while removal.purge_mailbox(conn, red.account.id, red.mailbox.id, 3, now):
        left.append(_count(conn, "expunged"))
    assert left == [6, 2, 0, 0]


def test_removed_account_is_nowhere_and_goes_last(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    _deliver(conn, now, red, blue)
    _, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "x", now)
    new = outgoing(red.mailbox.address, access.of_mailbox(red.mailbox))
    submission.accept(conn, red.account.id, new, CONTENT, SUMMARY, now)
    removal.remove_account(conn, red.account.id, now)
    assert [account.name for account in accounts.list_accounts(conn)] == ["blue"]
    assert accounts.find(conn, "red") is None
    assert domains.find_by_name(conn, "red.example") is None
    assert mailboxes.find_login(conn, "ann@red.example") is None
    assert tokens.find_held(conn, "mail-api", plain) is None
    with pytest.raises(NotFound):
        accounts.resume(conn, red.account.id, now)
    assert accounts.create(conn, "red", now).id != red.account.id

    assert removal.list_accounts(conn, 9) == [red.account.id]
    assert removal.purge_account(conn, red.account.id, 2, now), "what it sent goes first"
    assert not removal.purge_account(conn, red.account.id, 2, now), "its mailbox is still there"
    while removal.purge_mailbox(conn, red.account.id, red.mailbox.id, 9, now):
        pass
    assert not removal.purge_account(conn, red.account.id, 2, now), "its bytes are still there"
    conn.execute(delete(tables.contents).where(tables.contents.c.account_id == red.account.id))
    while removal.purge_account(conn, red.account.id, 2, now):
        pass
    assert removal.list_accounts(conn, 9) == []
    for table in tables.metadata.sorted_tables:
        if "account_id" in table.c and table.name not in {"index_queue", "jobs"}:
            rows = conn.execute(select(table.c.account_id).where(table.c.account_id == red.account.id)).all()
            assert rows == [], table.name
    assert _count(conn, "messages") == 1


def test_expired_signup_goes_with_its_account(conn: WriteConn, now: datetime) -> None:
    account = accounts.create(conn, "new.example", now)
    domain = domains.add(conn, account.id, "new.example", now, created_by="ann@new.example", approved=False)
    mailboxes.create(conn, account.id, "ann@new.example", now)
    assert removal.expire_domain(conn, account.id, domain.id, now)
    assert accounts.list_accounts(conn) == []
    assert domains.list_all(conn) == []
    assert mailboxes.list_all(conn) == []


def test_expiry_spares_accounts_with_more_in_them(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, "ann@red.example"
    later = domains.add(conn, red.account.id, "later.example", now, created_by="ann@red.example", approved=False)
    assert removal.expire_domain(conn, red.account.id, later.id, now)
    assert [domain.name for domain in domains.list_domains(conn, red.account.id)] == ["red.example"]
    assert mailboxes.find(conn, *place) == red.mailbox


def test_approved_in_the_last_moment_stays(conn: WriteConn, red: Tenant, now: datetime) -> None:
    assert not removal.expire_domain(conn, red.account.id, red.domain.id, now)
    assert domains.get(conn, red.account.id, red.domain.id) == red.domain
