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
    access.require_account(owner, red.account.id)
    access.require_account(OPERATOR, red.account.id)
    for principal, account_id in ((owner, blue.account.id), (_user(red), red.account.id)):
        with pytest.raises(Forbidden):
            access.require_account(principal, account_id)


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
