"""Domains: names, approval, catch-all, removal, expiry."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from restante.core import domains, events, mailboxes, permissions
from restante.core.domains import DkimKey
from restante.errors import Conflict, Invalid
from restante.ids import EventNumber
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant

KEY = DkimKey("mail202611", "rsa-sha256", "sealed", "public")


def test_added_domain_is_approved_and_unproved(conn: WriteConn, red: Tenant, now: datetime) -> None:
    made = domains.add(conn, red.account.id, "New.Example.", now)
    assert (made.name, made.approved_at, made.dns_status) == ("new.example", now, "pending")
    assert made.is_approved
    assert not made.is_local
    assert len(made.dns_token) == 32
    assert domains.find(conn, red.account.id, "NEW.example") == made
    assert [domain.name for domain in domains.list_domains(conn, red.account.id)] == ["new.example", "red.example"]


def test_a_name_has_one_account(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    for name in ("blue.example", "BLUE.example."):
        with pytest.raises(Conflict) as caught:
            domains.add(conn, red.account.id, name, now)
        assert caught.value.code == "domain_exists"


@pytest.mark.parametrize("name", ["", "a b", "-x.example", "x..example", "[127.0.0.1]", "10.0.0.1", "x" * 300, "a@b.c"])
def test_not_a_domain_name(conn: WriteConn, red: Tenant, now: datetime, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        domains.add(conn, red.account.id, name, now)
    assert caught.value.code == "invalid_domain"
    assert domains.find_by_name(conn, name) is None


def test_international_name_is_stored_as_a_label(conn: WriteConn, red: Tenant, now: datetime) -> None:
    assert domains.add(conn, red.account.id, "Bücher.example", now).name == "xn--bcher-kva.example"


def test_pending_list_is_oldest_first_with_creator(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    later = now + timedelta(hours=1)
    domains.add(conn, red.account.id, "b.example", later, created_by="x@b.example", approved=False)
    domains.add(conn, blue.account.id, "a.example", now, created_by="y@a.example", approved=False)
    pending = domains.list_pending(conn)
    assert [(domain.name, domain.created_by) for domain in pending] == [
        ("a.example", "y@a.example"),
        ("b.example", "x@b.example"),
    ]


def test_approve_keeps_the_key_and_works_once(conn: WriteConn, red: Tenant, now: datetime) -> None:
    made = domains.add(conn, red.account.id, "new.example", now, approved=False)
    approved = domains.approve(conn, red.account.id, made.id, KEY, now)
    assert approved.approved_at == now
    assert approved.dns_status == "pending"
    assert domains.list_keys(conn, red.account.id, made.id) == [KEY]
    assert domains.list_pending(conn) == []
    with pytest.raises(Conflict) as caught:
        domains.approve(conn, red.account.id, made.id, KEY, now)
    assert caught.value.code == "domain_already_active"
    with pytest.raises(Conflict) as again:
        domains.add_key(conn, red.account.id, made.id, KEY, now)
    assert again.value.code == "selector_exists"


def test_unproved_come_in_turn(conn: WriteConn, red: Tenant, now: datetime) -> None:
    first = domains.add(conn, red.account.id, "a.example", now)
    second = domains.add(conn, red.account.id, "b.example", now)
    assert [domain.id for domain in domains.list_unproved(conn, 1)] == [first.id]
    domains.set_dns_status(conn, red.account.id, first.id, "pending", now)
    assert [domain.id for domain in domains.list_unproved(conn, 1)] == [second.id]
    domains.set_dns_status(conn, red.account.id, second.id, "verified", now)
    assert [domain.id for domain in domains.list_unproved(conn, 9)] == [first.id]


def test_remove_takes_empty_mailboxes_and_traces(conn: WriteConn, red: Tenant, now: datetime) -> None:
    other = domains.add(conn, red.account.id, "rouge.example", now)
    mailboxes.add_alias(conn, red.account.id, "x@rouge.example", red.mailbox.id, now)
    mailboxes.create(conn, red.account.id, "bob@rouge.example", now)
    domains.add_key(conn, red.account.id, other.id, KEY, now)
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, other.id, ["view_stats"], now)
    domains.remove(conn, red.account.id, other.id, now)
    assert [domain.name for domain in domains.list_domains(conn, red.account.id)] == ["red.example"]
    assert mailboxes.find(conn, red.account.id, "x@rouge.example") is None
    for table in (tables.dkim_keys, tables.permissions):
        assert conn.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_expired_domains_are_listed(conn: WriteConn, red: Tenant, now: datetime) -> None:
    old = domains.add(conn, red.account.id, "old.example", now, approved=False)
    domains.add(conn, red.account.id, "young.example", now + timedelta(days=2), approved=False)
    domains.add(conn, red.account.id, "agreed.example", now)
    month = timedelta(days=30)
    assert domains.list_expired(conn, now + month - timedelta(seconds=1), month, 9) == []
    assert domains.list_expired(conn, now + month, month, 9) == [old]
    assert domains.list_expired(conn, now + 2 * month, month, 1) == [old]


def test_missing_proof_is_noted_once_and_forgotten(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, domains.add(conn, red.account.id, "a.example", now).id
    domains.set_dns_status(conn, *place, "verified", now)
    days = [now + timedelta(days=n) for n in range(5)]
    assert domains.list_proved(conn, days[0], 9) == []
    assert [found.id for found in domains.list_proved(conn, days[1], 9)] == [place[1]]
    domains.note_missing_proof(conn, *place, days[1])
    found = domains.note_missing_proof(conn, *place, days[2])
    assert (found.dns_status, found.dns_checked_at, found.dns_missing_since) == ("verified", days[2], days[1])
    domains.note_silence(conn, *place, days[3])
    found = domains.get(conn, *place)
    assert (found.dns_checked_at, found.dns_missing_since) == (days[3], days[1])
    assert domains.set_dns_status(conn, *place, "verified", days[4]).dns_missing_since is None
    told = [event.type for event in events.list_after(conn, red.account.id, EventNumber(0), 99).events]
    assert told.count("domain.proof_missing") == 1
