"""Mailboxes and aliases: creation with folders, look-ups, settings, removal with everything that hangs on them."""

from datetime import datetime

import pytest
from sqlalchemy import func, select, update

from restante.core import accounts, domains, events, folders, mailboxes, permissions, routing, tokens
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import EventNumber
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def _count(conn: WriteConn, name: str) -> int:
    found: int = conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
    return found


def test_create_makes_folders_and_an_address(conn: WriteConn, red: Tenant, now: datetime) -> None:
    made = mailboxes.create(conn, red.account.id, "Bob@Red.Example", now, name="Bob", password_hash="h", quota_bytes=9)
    assert (made.address, made.name, made.role, made.status) == ("bob@red.example", "Bob", "user", "active")
    assert (made.has_password, made.quota_bytes, made.used_bytes, made.messages) == (True, 9, 0, 0)
    names = [folder.name for folder in folders.list_folders(conn, red.account.id, made.id)]
    assert names == ["INBOX", "Sent", "Drafts", "Junk", "Trash", "Archive"]
    assert "password_hash" not in repr(made)


@pytest.mark.parametrize("address", ["ann@red.example", "ANN@red.example", "info@red.example"])
def test_address_in_use(conn: WriteConn, red: Tenant, now: datetime, address: str) -> None:
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    with pytest.raises(Conflict) as caught:
        mailboxes.create(conn, red.account.id, address, now)
    assert caught.value.code == "address_exists"


def test_domain_must_be_the_accounts(conn: WriteConn, red: Tenant, now: datetime) -> None:
    with pytest.raises(NotFound) as caught:
        mailboxes.create(conn, red.account.id, "bob@nowhere.example", now)
    assert caught.value.code == "domain_not_found"


@pytest.mark.parametrize("fields", [{"name": "x" * 256}, {"name": "a\r\nb"}, {"quota_bytes": -1}])
def test_nonsense_is_refused(conn: WriteConn, red: Tenant, now: datetime, fields: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        mailboxes.create(conn, red.account.id, "bob@red.example", now, **fields)  # type: ignore[arg-type]


def test_find_by_address_alias_and_nonsense(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    for address in ("ANN@red.example", "info@red.example"):
        assert mailboxes.find(conn, red.account.id, address) == red.mailbox
    for address in ("bob@red.example", "nonsense", "7", ""):
        assert mailboxes.find(conn, red.account.id, address) is None
        assert mailboxes.find_login(conn, address) is None


def test_login_by_own_address_only(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    mailboxes.set_password(conn, red.account.id, red.mailbox.id, "hash", now)
    login = mailboxes.find_login(conn, "Ann@red.example")
    assert login is not None
    assert (login.password_hash, login.is_account_active) == ("hash", True)
    assert mailboxes.find_login(conn, "info@red.example") is None
    accounts.suspend(conn, red.account.id, now)
    suspended = mailboxes.find_login(conn, "ann@red.example")
    assert suspended is not None
    assert not suspended.is_account_active


def test_settings_and_their_events(conn: WriteConn, red: Tenant, now: datetime) -> None:
    me = red.account.id, red.mailbox.id
    assert mailboxes.set_quota(conn, *me, 10, now).quota_bytes == 10
    assert mailboxes.set_role(conn, *me, "admin", now).role == "admin"
    assert mailboxes.list_admins(conn) == [mailboxes.get(conn, *me)]
    assert mailboxes.disable(conn, *me, now).status == "disabled"
    assert mailboxes.list_admins(conn) == []
    assert mailboxes.enable(conn, *me, now).status == "active"
    assert mailboxes.set_password(conn, *me, "secret-hash", now).has_password
    assert not mailboxes.set_password(conn, *me, None, now).has_password
    with pytest.raises(Invalid):
        mailboxes.set_role(conn, *me, "owner", now)  # type: ignore[arg-type]
    recorded = events.list_after(conn, red.account.id, EventNumber(0), 100).events
    assert [event.type for event in recorded[3:]] == [
        "mailbox.quota_set",
        "mailbox.role_set",
        "mailbox.disabled",
        "mailbox.enabled",
        "mailbox.password_set",
        "mailbox.password_set",
    ]
    assert "secret-hash" not in repr(recorded)


def test_alias_conflicts(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    for address in ("info@red.example", "ann@red.example"):
        with pytest.raises(Conflict) as caught:
            mailboxes.add_alias(conn, red.account.id, address, red.mailbox.id, now)
        assert caught.value.code == "address_exists"


def test_alias_has_bounded_targets(
    conn: WriteConn, red: Tenant, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_ALIAS_TARGETS", 1)
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    with pytest.raises(LimitExceeded) as caught:
        mailboxes.add_alias(conn, red.account.id, "info@red.example", bob.id, now)
    assert caught.value.code == "too_many_targets"


def test_aliases_list_and_remove(conn: WriteConn, red: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    first = mailboxes.add_alias(conn, red.account.id, "a@red.example", red.mailbox.id, now)
    second = mailboxes.add_alias(conn, red.account.id, "a@red.example", bob.id, now, may_send=False)
    third = mailboxes.add_alias(conn, red.account.id, "b@red.example", bob.id, now)
    assert mailboxes.list_aliases(conn, red.account.id) == [first, second, third]
    assert mailboxes.list_aliases(conn, red.account.id, bob.id) == [second, third]
    mailboxes.remove_alias(conn, red.account.id, "A@red.example", now, bob.id)
    assert mailboxes.list_aliases(conn, red.account.id) == [first, third]
    mailboxes.remove_alias(conn, red.account.id, "a@red.example", now)
    with pytest.raises(NotFound) as caught:
        mailboxes.remove_alias(conn, red.account.id, "a@red.example", now)
    assert caught.value.code == "alias_not_found"
    with pytest.raises(NotFound):
        mailboxes.remove_alias(conn, red.account.id, "ann@red.example", now)


def test_remove_takes_everything_along(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    before = {name: _count(conn, name) for name in ("addresses", "tokens", "permissions")}
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    mailboxes.add_alias(conn, red.account.id, "info@red.example", bob.id, now)
    tokens.create(conn, red.account.id, "mail-api", "user", "x", now, bob.id)
    permissions.grant_bulk(conn, red.account.id, bob.id, red.domain.id, ["view_stats"], now)
    domains.set_catch_all(conn, red.account.id, red.domain.id, bob.id, now)
    mailboxes.remove(conn, red.account.id, bob.id, now)
    assert {name: _count(conn, name) for name in before} == before
    assert domains.get(conn, red.account.id, red.domain.id).catch_all_mailbox_id is None


def test_remove_with_mail_needs_force(conn: WriteConn, red: Tenant, now: datetime) -> None:
    full = update(tables.mailboxes).where(tables.mailboxes.c.id == red.mailbox.id)
    conn.execute(full.values(messages=1))
    with pytest.raises(Conflict) as caught:
        mailboxes.remove(conn, red.account.id, red.mailbox.id, now)
    assert caught.value.code == "mailbox_not_empty"
    with pytest.raises(Conflict) as domain_caught:
        domains.remove(conn, red.account.id, red.domain.id, now)
    assert domain_caught.value.code == "domain_not_empty"
    domains.remove(conn, red.account.id, red.domain.id, now, True)
    assert domains.list_domains(conn, red.account.id) == []


def test_removed_mailbox_is_nowhere(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, red.mailbox.id
    mailboxes.set_password(conn, *place, "hash", now)
    _, plain = tokens.create(conn, red.account.id, "mail-api", "user", "x", now, red.mailbox.id)
    mailboxes.remove(conn, *place, now)
    assert mailboxes.list_mailboxes(conn, red.account.id) == mailboxes.list_all(conn) == []
    assert mailboxes.list_aliases(conn, red.account.id) == []
    assert mailboxes.targets(conn, "ann@red.example") == []
    assert mailboxes.find_login(conn, "ann@red.example") is None
    assert tokens.find_held(conn, "mail-api", plain) is None
    with pytest.raises(NotFound):
        mailboxes.get(conn, *place)
    with pytest.raises(NotFound):
        mailboxes.enable(conn, *place, now)
    with pytest.raises(NotFound):
        mailboxes.remove(conn, *place, now)
    with pytest.raises(NotFound):
        routing.resolve(conn, "ann@red.example")
    second = mailboxes.create(conn, red.account.id, "ann@red.example", now)
    assert second.id != red.mailbox.id
    assert [route.mailbox_id for route in routing.resolve(conn, "ann@red.example")] == [second.id]
