"""Pages of a folder by the address of its mailbox: whose page it is, and what is left out."""

from datetime import datetime

import pytest

from restante.core import access, delivery, domains, folders, listing, mailboxes, permissions
from restante.core.access import Principal
from restante.core.delivery import Target
from restante.core.mailboxes import Mailbox
from restante.errors import Forbidden, NotFound
from restante.ids import AccountId
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant

OPERATOR = Principal(AccountId(1), None, None, "operator", None, None)


@pytest.fixture
def bob(conn: WriteConn, red: Tenant, now: datetime) -> Mailbox:
    """A younger mailbox, reached by the same alias as the tenant's own; both have mail."""
    made = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    for mailbox in (red.mailbox, made):
        mailboxes.add_alias(conn, red.account.id, "team@red.example", mailbox.id, now)
    for number in range(5):
        _deliver(conn, red.mailbox, f"ann {number}", now)
        _deliver(conn, made, f"bob {number}", now)
    return made


def _deliver(conn: WriteConn, mailbox: Mailbox, subject: str, now: datetime) -> None:
    target = Target(mailbox.account_id, mailbox.id, "INBOX", mailbox.address, b"")
    summary = SUMMARY._replace(subject=subject)
    delivery.deliver(conn, [(mailbox.account_id, CONTENT)], summary, [target], now)


def _subject(*columns: object) -> str:
    return str(columns[5])


def _page(
    conn: WriteConn, principal: Principal, address: str, *, folder: str = "INBOX", limit: int = 2, offset: int = 0
) -> tuple[str, int | None, list[str]]:
    place, items = listing.find_page(conn, principal, address, folder, _subject, limit=limit, offset=offset)
    return place.address, place.messages, items


def test_newest_first_behind_what_is_left_out(conn: WriteConn, red: Tenant, bob: Mailbox) -> None:
    assert _page(conn, OPERATOR, "Ann@RED.example") == ("ann@red.example", 5, ["ann 4", "ann 3"])
    assert _page(conn, OPERATOR, "ann@red.example", offset=3) == ("ann@red.example", 5, ["ann 1", "ann 0"])
    assert _page(conn, OPERATOR, "ann@red.example", offset=4, limit=9) == ("ann@red.example", 5, ["ann 0"])
    assert _page(conn, OPERATOR, "ann@red.example", offset=5) == ("ann@red.example", 5, [])
    place, _ = listing.find_page(conn, OPERATOR, "ann@red.example", "inbox", _subject, limit=1)
    inbox = folders.get_folder(conn, red.account.id, red.mailbox.id, "INBOX")
    assert listing.list_page(conn, red.account.id, inbox.id, _subject, limit=2, offset=1) == ["ann 3", "ann 2"]
    assert (place.folder_id, place.folder, place.role, place.domain_id) == (inbox.id, "INBOX", "inbox", red.domain.id)


def test_an_empty_folder_and_none(conn: WriteConn, red: Tenant, bob: Mailbox) -> None:
    assert _page(conn, OPERATOR, "ann@red.example", folder="Spam") == ("ann@red.example", 0, [])
    for name in ("No such", "In\0box", ""):
        assert _page(conn, OPERATOR, "ann@red.example", folder=name) == ("ann@red.example", None, [])


def test_of_an_alias_everybody_gets_the_mailbox_that_is_theirs(conn: WriteConn, red: Tenant, bob: Mailbox) -> None:
    owner = Principal(red.account.id, None, None, "account", None, None)
    assert _page(conn, OPERATOR, "team@red.example", limit=1)[2] == ["ann 4"]
    assert _page(conn, owner, "team@red.example", limit=1)[2] == ["ann 4"]
    assert _page(conn, access.of_mailbox(red.mailbox), "team@red.example", limit=1)[2] == ["ann 4"]
    assert _page(conn, access.of_mailbox(bob), "team@red.example", limit=1)[2] == ["bob 4"]


def test_a_grant_opens_a_mailbox_that_is_not_the_likeliest(
    conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox, now: datetime
) -> None:
    rouge = domains.add(conn, red.account.id, "rouge.example", now, dns_status="verified")
    dan = mailboxes.create(conn, red.account.id, "dan@rouge.example", now)
    mailboxes.add_alias(conn, red.account.id, "team@red.example", dan.id, now)
    for number in range(3):
        _deliver(conn, dan, f"dan {number}", now)
    stranger = access.of_mailbox(blue.mailbox)
    permissions.grant_bulk(conn, blue.account.id, blue.mailbox.id, rouge.id, ["view_mailbox"], now, red.account.id)
    assert _page(conn, stranger, "team@red.example", offset=1) == ("dan@rouge.example", 3, ["dan 1", "dan 0"])


def test_strangers_see_nothing(conn: WriteConn, red: Tenant, blue: Tenant, bob: Mailbox) -> None:
    owner = Principal(blue.account.id, None, None, "account", None, None)
    for address in ("ann@red.example", "team@red.example", "nobody@red.example", "no address", "a\0b@red.example"):
        for principal in (owner, access.of_mailbox(blue.mailbox)):
            with pytest.raises(Forbidden):
                _page(conn, principal, address)
    for address in ("nobody@red.example", "no address"):
        with pytest.raises(NotFound):
            _page(conn, OPERATOR, address)
