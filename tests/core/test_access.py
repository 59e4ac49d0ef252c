"""Access: who a credential is, and which mailboxes and domains that opens."""

from datetime import datetime, timedelta

import pytest

from restante.core import access, accounts, mailboxes, permissions, tokens
from restante.core.access import Principal
from restante.errors import Forbidden, NotFound, Unauthenticated
from restante.ids import AccountId
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def _user(tenant: Tenant) -> Principal:
    return access.of_mailbox(tenant.mailbox)


def _owner(tenant: Tenant) -> Principal:
    return Principal(tenant.account.id, None, None, "account", None, None)


OPERATOR = Principal(AccountId(1), None, None, "operator", None, None)


def test_token_kinds(conn: WriteConn, red: Tenant, now: datetime) -> None:
    for kind, mailbox_id, expected in (
        ("admin", None, "operator"),
        ("user", None, "account"),
        ("user", red.mailbox.id, "user"),
    ):
        token, plain = tokens.create(conn, red.account.id, "mail-api", kind, "x", now, mailbox_id, rate_limit=5)  # type: ignore[arg-type]
        principal, found = access.authenticate_token(conn, "mail-api", plain, now)
        address = red.mailbox.address if mailbox_id else None
        assert found == token
        assert principal == Principal(red.account.id, mailbox_id, token.id, expected, address, 5)  # type: ignore[arg-type]


def test_unknown_token_and_foreign_dialect(conn: WriteConn, red: Tenant, now: datetime) -> None:
    _, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "x", now)
    for dialect, presented in (("mail-api", "x" * 43), ("trekmail", plain)):
        with pytest.raises(Unauthenticated) as caught:
            access.authenticate_token(conn, dialect, presented, now)
        assert caught.value.code == "invalid_token"


@pytest.mark.parametrize("what", ["expired", "revoked", "suspended", "disabled"])
def test_token_that_no_longer_holds(conn: WriteConn, red: Tenant, now: datetime, what: str) -> None:
    expires_at = now + timedelta(hours=1)
    token, plain = tokens.create(
        conn, red.account.id, "mail-api", "user", "x", now, red.mailbox.id, expires_at=expires_at
    )
    access.authenticate_token(conn, "mail-api", plain, now)
    match what:
        case "expired":
            now = expires_at
        case "revoked":
            tokens.revoke(conn, red.account.id, token.id, now)
        case "suspended":
            accounts.suspend(conn, red.account.id, now)
        case _:
            mailboxes.disable(conn, red.account.id, red.mailbox.id, now)
    with pytest.raises(Unauthenticated) as caught:
        access.authenticate_token(conn, "mail-api", plain, now)
    assert caught.value.code == "token_expired"


def test_operator_sees_all_and_learns_what_is_missing(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    access.require_operator(OPERATOR)
    assert access.require_mailbox(conn, OPERATOR, "ann@blue.example") == blue.mailbox
    for address in ("nobody@blue.example", "7", ""):
        with pytest.raises(NotFound) as caught:
            access.require_mailbox(conn, OPERATOR, address)
        assert caught.value.code == "mailbox_not_found"


def test_user_sees_own_and_cannot_probe(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    mailboxes.create(conn, red.account.id, "bob@red.example", now)
    user = _user(red)
    assert access.require_mailbox(conn, user, "ANN@red.example") == red.mailbox
    messages = set()
    for address in ("bob@red.example", "ann@blue.example", "nobody@red.example", "7", ""):
        with pytest.raises(Forbidden) as caught:
            access.require_mailbox(conn, user, address)
        assert caught.value.code == "access_denied"
        messages.add(caught.value.message)
    assert len(messages) == 1
    with pytest.raises(Forbidden):
        access.require_operator(user)


def test_alias_leads_to_the_users_own(conn: WriteConn, red: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    for mailbox in (red.mailbox, bob):
        mailboxes.add_alias(conn, red.account.id, "all@red.example", mailbox.id, now)
    assert access.require_mailbox(conn, access.of_mailbox(bob), "all@red.example") == bob


def test_grant_opens_a_domain_for_one_permission(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    user = _user(red)
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, blue.domain.id, ["view_mailbox"], now, blue.account.id)
    assert access.require_mailbox(conn, user, "ann@blue.example") == blue.mailbox
    for permission in ("send_mail", None):
        with pytest.raises(Forbidden):
            access.require_mailbox(conn, user, "ann@blue.example", permission)


def test_owner_sees_the_account_only(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    owner = _owner(red)
    assert access.require_mailbox(conn, owner, "ann@red.example") == red.mailbox
    with pytest.raises(Forbidden):
        access.require_mailbox(conn, owner, "ann@blue.example")


def test_domains_by_permission(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    user = _user(red)
    assert access.require_domain(conn, OPERATOR, "BLUE.example", "manage_domains") == blue.domain
    with pytest.raises(NotFound) as caught:
        access.require_domain(conn, OPERATOR, "nowhere.example", "manage_domains")
    assert caught.value.code == "domain_not_found"
    for name in ("red.example", "nowhere.example"):
        with pytest.raises(Forbidden):
            access.require_domain(conn, user, name, "manage_domains")
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, red.domain.id, ["manage_domains"], now)
    assert access.require_domain(conn, user, "red.example", "manage_domains") == red.domain
    assert access.require_domain(conn, _owner(red), "red.example", "manage_domains") == red.domain
    with pytest.raises(Forbidden):
        access.require_domain(conn, _owner(red), "blue.example", "manage_domains")


def test_users_are_administered_by_grant(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    boss = mailboxes.create(conn, red.account.id, "boss@red.example", now, role="admin")
    mailboxes.add_alias(conn, red.account.id, "sales@red.example", bob.id, now)
    user = _user(red)
    for address in ("bob@red.example", "ann@red.example", "ann@blue.example", "nobody@red.example", ""):
        with pytest.raises(Forbidden):
            access.require_user(conn, user, address)
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, red.domain.id, ["manage_users"], now)
    assert access.require_user(conn, user, "BOB@red.example") == bob
    assert access.require_user(conn, _owner(red), "bob@red.example") == bob
    for address in (boss.address, "sales@red.example", "ann@blue.example", "nobody@red.example"):
        for principal in (user, _owner(red)):
            with pytest.raises(Forbidden):
                access.require_user(conn, principal, address)
    assert access.require_user(conn, OPERATOR, boss.address) == boss
    for address in ("sales@red.example", "nobody@red.example", "7"):
        with pytest.raises(NotFound) as caught:
            access.require_user(conn, OPERATOR, address)
        assert caught.value.code == "user_not_found"


def test_domains_that_a_principal_holds_a_permission_over(
    conn: WriteConn, red: Tenant, blue: Tenant, now: datetime
) -> None:
    assert access.list_domain_ids(conn, OPERATOR, "manage_users") is None
    assert access.list_domain_ids(conn, _owner(red), "manage_users") == [red.domain.id]
    nobody = Principal(AccountId(999), None, None, "account", None, None)
    for principal in (_user(red), nobody):
        with pytest.raises(Forbidden):
            access.list_domain_ids(conn, principal, "manage_users")
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, blue.domain.id, ["manage_users"], now, blue.account.id)
    assert access.list_domain_ids(conn, _user(red), "manage_users") == [blue.domain.id]
    with pytest.raises(Forbidden):
        access.list_domain_ids(conn, _user(red), "manage_domains")


def test_a_foreign_token_and_a_missing_one_look_the_same(
    conn: WriteConn, red: Tenant, blue: Tenant, now: datetime
) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    made = {
        name: tokens.create(conn, account, "mail-api", "user", name, now, mailbox)[0]
        for name, account, mailbox in (
            ("own", red.account.id, red.mailbox.id),
            ("bob", red.account.id, bob.id),
            ("account", red.account.id, None),
            ("blue", blue.account.id, blue.mailbox.id),
        )
    }
    seen = {
        "user": (_user(red), {"own"}),
        "owner": (_owner(red), {"own", "bob", "account"}),
        "operator": (OPERATOR, {"own", "bob", "account", "blue"}),
    }
    for principal, names in seen.values():
        for name, token in made.items():
            if name in names:
                assert access.require_token(conn, principal, "mail-api", token.id).token == token
                continue
            with pytest.raises(NotFound) as caught:
                access.require_token(conn, principal, "mail-api", token.id)
            assert caught.value.code == "token_not_found"
        for dialect, number in (("mail-api", 0), ("mail-api", 2**62), ("trekmail", made["own"].id)):
            with pytest.raises(NotFound):
                access.require_token(conn, principal, dialect, number)


def test_an_admin_token_of_a_mailbox_needs_an_administrator(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.set_role(conn, red.account.id, red.mailbox.id, "admin", now)
    expires_at = now + timedelta(hours=1)
    place = red.account.id, red.mailbox.id
    token, plain = tokens.start_session(conn, *place, "mail-api", "login", now, expires_at)
    assert token.kind == "admin"
    assert access.authenticate_token(conn, "mail-api", plain, now)[0].kind == "operator"
    mailboxes.set_role(conn, red.account.id, red.mailbox.id, "user", now)
    with pytest.raises(Unauthenticated):
        access.authenticate_token(conn, "mail-api", plain, now)
