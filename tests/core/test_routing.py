"""Routing: where mail for an address goes, and that a claimed domain takes nobody's mail."""

from datetime import datetime

import pytest
from sqlalchemy import update

from restante.core import accounts, domains, mailboxes, routing
from restante.errors import Forbidden, Invalid, NotFound, QuotaExceeded, Unavailable
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def _to(conn: WriteConn, address: str, size_bytes: int = 0) -> list[str]:
    return [route.delivered_to for route in routing.resolve(conn, address, size_bytes)]


def test_exact_address_in_any_case(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    (route,) = routing.resolve(conn, "Ann@RED.example.")
    assert route == routing.Route(red.account.id, red.mailbox.id, red.domain.id, "ann@red.example", "ann@red.example")


def test_quoted_local_part_is_the_same_address(conn: WriteConn, red: Tenant) -> None:
    assert _to(conn, '"ann"@red.example') == ["ann@red.example"]


def test_plus_address_keeps_its_tag(conn: WriteConn, red: Tenant) -> None:
    (route,) = routing.resolve(conn, "ann+shop+x@red.example")
    assert (route.address, route.delivered_to) == ("ann+shop+x@red.example", "ann@red.example")


def test_exact_address_wins_over_the_one_without_tag(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.create(conn, red.account.id, "ann+shop@red.example", now)
    assert _to(conn, "ann+shop@red.example") == ["ann+shop@red.example"]
    assert _to(conn, "ann+other@red.example") == ["ann@red.example"]


@pytest.mark.parametrize("address", ["+ann@red.example", '"ann+ b"@red.example', "bob+ann@red.example"])
def test_no_tag_of_ann(conn: WriteConn, red: Tenant, address: str) -> None:
    with pytest.raises(NotFound) as caught:
        routing.resolve(conn, address)
    assert caught.value.code == "mailbox_not_found"


def test_alias_of_one_and_of_several(conn: WriteConn, red: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    mailboxes.add_alias(conn, red.account.id, "sales@red.example", red.mailbox.id, now)
    assert _to(conn, "sales@red.example") == ["ann@red.example"]
    mailboxes.add_alias(conn, red.account.id, "sales@red.example", bob.id, now)
    assert _to(conn, "sales@red.example") == ["ann@red.example", "bob@red.example"]
    assert _to(conn, "sales+x@red.example") == ["ann@red.example", "bob@red.example"]


def test_alias_in_another_domain_of_the_account(conn: WriteConn, red: Tenant, now: datetime) -> None:
    other = domains.add(conn, red.account.id, "rouge.example", now, dns_status="verified")
    mailboxes.add_alias(conn, red.account.id, "ann@rouge.example", red.mailbox.id, now)
    (route,) = routing.resolve(conn, "ann@rouge.example")
    assert (route.domain_id, route.delivered_to) == (other.id, "ann@red.example")


def test_catch_all_only_for_the_unknown(conn: WriteConn, red: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    domains.set_catch_all(conn, red.account.id, red.domain.id, bob.id, now)
    assert _to(conn, "nobody@red.example") == ["bob@red.example"]
    assert _to(conn, "nobody+tag@red.example") == ["bob@red.example"]
    assert _to(conn, "ann@red.example") == ["ann@red.example"]
    domains.set_catch_all(conn, red.account.id, red.domain.id, None, now)
    with pytest.raises(NotFound):
        routing.resolve(conn, "nobody@red.example")


def test_foreign_domain_is_relaying(conn: WriteConn, red: Tenant) -> None:
    with pytest.raises(Forbidden) as caught:
        routing.resolve(conn, "ann@elsewhere.example")
    assert caught.value.code == "relay_denied"


def test_address_literal_is_not_ours(conn: WriteConn, red: Tenant) -> None:
    with pytest.raises(Forbidden) as caught:
        routing.resolve(conn, "ann@[127.0.0.1]")
    assert caught.value.code == "relay_denied"


@pytest.mark.parametrize(
    "address", ["", "ann", "@red.example", "a b@red.example", "ann@", "\0@red.example", "x" * 5000]
)
def test_not_an_address(conn: WriteConn, red: Tenant, address: str) -> None:
    with pytest.raises(Invalid):
        routing.resolve(conn, address)


@pytest.mark.parametrize("approved", [False, True])
def test_claimed_domain_gets_nothing(conn: WriteConn, red: Tenant, now: datetime, approved: bool) -> None:
    """A tenant adds a peer's domain: until DNS proves it, approved or not, no mail of that domain stays here."""
    claimed = domains.add(conn, red.account.id, "peer.example", now, approved=approved)
    mallory = mailboxes.create(conn, red.account.id, "ceo@peer.example", now)
    domains.set_catch_all(conn, red.account.id, claimed.id, mallory.id, now)
    mailboxes.add_alias(conn, red.account.id, "info@peer.example", red.mailbox.id, now)
    for address in ("ceo@peer.example", "ceo+x@peer.example", "info@peer.example", "anyone@peer.example"):
        with pytest.raises(Forbidden) as caught:
            routing.resolve(conn, address)
        assert caught.value.code == "domain_inactive"


def test_verified_without_approval_is_not_local(conn: WriteConn, red: Tenant, now: datetime) -> None:
    claimed = domains.add(conn, red.account.id, "peer.example", now, approved=False, dns_status="verified")
    mailboxes.create(conn, red.account.id, "ceo@peer.example", now)
    with pytest.raises(Forbidden):
        routing.resolve(conn, "ceo@peer.example")
    domains.approve(conn, red.account.id, claimed.id, None, now)
    assert _to(conn, "ceo@peer.example") == ["ceo@peer.example"]


def test_losing_the_proof_stops_the_mail(conn: WriteConn, red: Tenant, now: datetime) -> None:
    domains.set_dns_status(conn, red.account.id, red.domain.id, "pending", now)
    with pytest.raises(Forbidden) as caught:
        routing.resolve(conn, "ann@red.example")
    assert caught.value.code == "domain_inactive"


def test_suspended_account_is_temporary(conn: WriteConn, red: Tenant, now: datetime) -> None:
    accounts.suspend(conn, red.account.id, now)
    with pytest.raises(Unavailable) as caught:
        routing.resolve(conn, "ann@red.example")
    assert caught.value.code == "account_suspended"
    accounts.resume(conn, red.account.id, now)
    assert _to(conn, "ann@red.example") == ["ann@red.example"]


def test_disabled_mailbox(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.disable(conn, red.account.id, red.mailbox.id, now)
    with pytest.raises(Forbidden) as caught:
        routing.resolve(conn, "ann@red.example")
    assert caught.value.code == "mailbox_disabled"


def test_quota_counts_what_would_come(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.set_quota(conn, red.account.id, red.mailbox.id, 1000, now)
    conn.execute(update(tables.mailboxes).where(tables.mailboxes.c.id == red.mailbox.id).values(used_bytes=900))
    assert _to(conn, "ann@red.example", 100) == ["ann@red.example"]
    with pytest.raises(QuotaExceeded) as caught:
        routing.resolve(conn, "ann@red.example", 101)
    assert caught.value.code == "over_quota"


def test_full_mailbox_refuses_without_a_size(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.set_quota(conn, red.account.id, red.mailbox.id, 0, now)
    with pytest.raises(QuotaExceeded):
        routing.resolve(conn, "ann@red.example")


def test_account_quota(conn: WriteConn, red: Tenant, now: datetime) -> None:
    accounts.set_quota(conn, red.account.id, 10, now)
    assert _to(conn, "ann@red.example", 10) == ["ann@red.example"]
    with pytest.raises(QuotaExceeded):
        routing.resolve(conn, "ann@red.example", 11)


def test_alias_leaves_out_who_cannot_take_it(conn: WriteConn, red: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    for mailbox in (red.mailbox, bob):
        mailboxes.add_alias(conn, red.account.id, "all@red.example", mailbox.id, now)
    mailboxes.disable(conn, red.account.id, red.mailbox.id, now)
    assert _to(conn, "all@red.example") == ["bob@red.example"]
    mailboxes.set_quota(conn, red.account.id, bob.id, 0, now)
    with pytest.raises(Forbidden) as caught:
        routing.resolve(conn, "all@red.example")
    assert caught.value.code == "mailbox_disabled"


def test_internationalised_domain(conn: WriteConn, red: Tenant, now: datetime) -> None:
    domains.add(conn, red.account.id, "bücher.example", now, dns_status="forced")
    mailboxes.create(conn, red.account.id, "jörg@bücher.example", now)
    assert _to(conn, "JÖRG@xn--bcher-kva.example") == ["jörg@xn--bcher-kva.example"]


@pytest.mark.parametrize("address", ["postmaster@red.example", "Postmaster@RED.example"])
def test_postmaster_without_a_mailbox_is_the_operator(
    conn: WriteConn, red: Tenant, blue: Tenant, now: datetime, address: str
) -> None:
    with pytest.raises(NotFound):
        routing.resolve(conn, address)
    mailboxes.set_role(conn, blue.account.id, blue.mailbox.id, "admin", now)
    (route,) = routing.resolve(conn, address)
    assert (route.account_id, route.delivered_to) == (blue.account.id, blue.mailbox.address)
    mailboxes.create(conn, red.account.id, "postmaster@red.example", now)
    assert _to(conn, address) == ["postmaster@red.example"]


def test_a_foreign_postmaster_is_not_ours(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.set_role(conn, red.account.id, red.mailbox.id, "admin", now)
    with pytest.raises(Forbidden):
        routing.resolve(conn, "postmaster@elsewhere.example")
