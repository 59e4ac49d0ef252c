"""Whose mailbox an address names, and when it is only presumed who asks."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from restante import ids
from restante.core import access, accounts, domains, folders, listing, mailboxes, permissions, places, tokens
from restante.core.access import Presumed, Principal
from restante.core.mailboxes import Mailbox
from restante.core.tokens import Token
from restante.errors import Forbidden, NotFound
from restante.ids import AccountId, MailboxId
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant

OPERATOR = Principal(AccountId(1), None, None, "operator", None, None)
NAMES = [name for name, _ in folders.DEFAULTS]


@pytest.fixture
def bob(conn: WriteConn, red: Tenant, now: datetime) -> Mailbox:
    """A younger mailbox, reached by the same alias as the tenant's own, with a folder more."""
    made = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    for mailbox in (red.mailbox, made):
        mailboxes.add_alias(conn, red.account.id, "team@red.example", mailbox.id, now)
    folders.create(conn, red.account.id, made.id, "Work", now)
    return made


def _found(conn: WriteConn, who: Principal | Presumed, address: str) -> tuple[int, list[str]]:
    place, found = places.find_folders(conn, who, address)
    assert {one.id: (one.name, one.role) for one in found} == {
        one.id: (one.name, one.role) for one in folders.list_folders(conn, place.account_id, place.id)
    }
    return place.id, [one.name for one in sorted(found)]


def test_an_address_leads_to_the_folders_of_the_mailbox_that_is_meant(
    conn: WriteConn, red: Tenant, bob: Mailbox
) -> None:
    owner = Principal(red.account.id, None, None, "account", None, None)
    ann = access.of_mailbox(red.mailbox)
    assert _found(conn, ann, "Ann@RED.example") == (red.mailbox.id, NAMES)
    for principal in (OPERATOR, owner, ann):
        assert _found(conn, principal, "team@red.example") == (red.mailbox.id, NAMES)
    assert _found(conn, access.of_mailbox(bob), "team@red.example") == (bob.id, [*NAMES, "Work"])


def test_a_grant_opens_one_that_is_not_the_likeliest(
    conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox, now: datetime
) -> None:
    rouge = domains.add(conn, red.account.id, "rouge.example", now, dns_status="verified")
    dan = mailboxes.create(conn, red.account.id, "dan@rouge.example", now)
    folders.create(conn, red.account.id, dan.id, "Dan's", now)
    mailboxes.add_alias(conn, red.account.id, "team@red.example", dan.id, now)
    permissions.grant_bulk(conn, blue.account.id, blue.mailbox.id, rouge.id, ["view_mailbox"], now, red.account.id)
    assert _found(conn, access.of_mailbox(blue.mailbox), "team@red.example") == (dan.id, [*NAMES, "Dan's"])


def test_strangers_see_nothing(conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox) -> None:
    owner = Principal(blue.account.id, None, None, "account", None, None)
    for address in ("ann@red.example", "team@red.example", "nobody@red.example", "no address", "a\0b@red.example"):
        for principal in (owner, access.of_mailbox(blue.mailbox)):
            with pytest.raises(Forbidden):
                places.find_folders(conn, principal, address)
    for address in ("nobody@red.example", "no address"):
        with pytest.raises(NotFound):
            places.find_folders(conn, OPERATOR, address)


def _presumed(conn: WriteConn, plain: str, now: datetime) -> Presumed:
    principal, token = access.authenticate_token(conn, "mail-api", plain, now)
    return Presumed(principal, tokens.proof_values(token, principal.address, ids.token_hash(plain), now))


def _is_proved(conn: WriteConn, presumed: Presumed) -> bool:
    """Whether both statements that can prove it find anything; they must say the same."""
    outcomes = set()
    for read in (
        lambda: places.find_folders(conn, presumed, "ann@red.example")[1],
        lambda: listing.find_page(conn, presumed, "ann@red.example", "INBOX", lambda *_: None, limit=5)[0],
    ):
        try:
            outcomes.add(bool(read()))
        except (Forbidden, NotFound):
            outcomes.add(False)
    (outcome,) = outcomes
    return outcome


def _mailbox_id(token: Token) -> MailboxId:
    assert token.mailbox_id is not None
    return token.mailbox_id


Change = Callable[[WriteConn, Token, datetime], object]
CHANGES: dict[str, Change] = {
    "revoked": lambda conn, token, now: tokens.revoke(conn, token.account_id, token.id, now),
    "removed": lambda conn, token, now: tokens.remove(conn, token.account_id, token.id, now),
    "another rate": lambda conn, token, now: tokens.update_properties(
        conn, token.account_id, token.id, now, name="t", is_active=True, expires_at=None, rate_limit=7
    ),
    "account suspended": lambda conn, token, now: accounts.suspend(conn, token.account_id, now),
    "mailbox disabled": lambda conn, token, now: mailboxes.disable(conn, token.account_id, _mailbox_id(token), now),
    "mailbox removed": lambda conn, token, now: mailboxes.remove(
        conn, token.account_id, _mailbox_id(token), now, force=True
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_a_token_or_its_holder_ends_a_presumption(
    conn: WriteConn, red: Tenant, now: datetime, name: str
) -> None:
    token, plain = tokens.create(conn, red.account.id, "mail-api", "user", "t", now, red.mailbox.id)
    presumed = _presumed(conn, plain, now)
    assert _is_proved(conn, presumed)
    CHANGES[name](conn, token, now)
    assert not _is_proved(conn, presumed)


def test_a_presumption_ends_with_its_token(conn: WriteConn, red: Tenant, now: datetime) -> None:
    end = now + timedelta(hours=1)
    token, plain = tokens.create(conn, red.account.id, "mail-api", "user", "t", now, red.mailbox.id, end)
    principal = _presumed(conn, plain, now).principal
    for moment, is_proved in ((end - timedelta(microseconds=1), True), (end, False)):
        values = tokens.proof_values(token, principal.address, ids.token_hash(plain), moment)
        assert _is_proved(conn, Presumed(principal, values)) is is_proved


@pytest.mark.parametrize("holder", ["account", "mailbox"])
def test_a_presumption_of_an_operator(conn: WriteConn, red: Tenant, now: datetime, holder: str) -> None:
    mailboxes.set_role(conn, red.account.id, red.mailbox.id, "admin", now)
    mailbox_id = red.mailbox.id if holder == "mailbox" else None
    _, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "t", now, mailbox_id, rate_limit=0)
    presumed = _presumed(conn, plain, now)
    assert presumed.principal.kind == "operator"
    assert _is_proved(conn, presumed)
    mailboxes.set_role(conn, red.account.id, red.mailbox.id, "user", now)
    assert _is_proved(conn, presumed) is (holder == "account")


def test_only_the_same_token_proves_a_presumption(
    conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox, now: datetime
) -> None:
    """Whatever was guessed wrong: nobody gets what another token's holder may see."""
    _, plain = tokens.create(
        conn, red.account.id, "mail-api", "user", "t", now, red.mailbox.id, rate_limit=5, scopes=["a:b"]
    )
    right = _presumed(conn, plain, now)
    wrong = {
        "token_hash": ids.token_hash("x"),
        "token_dialect": "native",
        "token_id": 2**40,
        "token_account": blue.account.id,
        "token_mailbox": bob.id,
        "token_kind": "admin",
        "token_rate_limit": None,
        "token_scopes": None,
        "token_address": "bob@red.example",
    }
    assert set(wrong) | {"token_moment"} == set(right.proof)
    for name, value in wrong.items():
        assert not _is_proved(conn, Presumed(right.principal, {**right.proof, name: value})), name
    for name in ("token_mailbox", "token_address"):
        assert not _is_proved(conn, Presumed(right.principal, {**right.proof, name: None})), name
    assert _is_proved(conn, right)


def test_who_is_proved_gets_what_they_may_see_and_no_more(
    conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox, now: datetime
) -> None:
    _, plain = tokens.create(conn, blue.account.id, "mail-api", "user", "t", now, blue.mailbox.id)
    presumed = _presumed(conn, plain, now)
    assert _found(conn, presumed, "ann@blue.example") == (blue.mailbox.id, NAMES)
    for address in ("ann@red.example", "team@red.example", "nobody@red.example", "no address"):
        with pytest.raises(Forbidden):
            places.find_folders(conn, presumed, address)
    _, plain = tokens.create(conn, red.account.id, "mail-api", "user", "t", now)
    assert _found(conn, _presumed(conn, plain, now), "team@red.example") == (red.mailbox.id, NAMES)
