"""What is accepted for sending: rights, rows, the Sent copy, jobs, and what lists of it show."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select

from restante.core import (
    access,
    accounts,
    domains,
    folders,
    jobs,
    mailboxes,
    messages,
    permissions,
    submission,
    tracking,
)
from restante.core.access import Principal
from restante.core.idempotency import Once
from restante.core.tracking import Query
from restante.errors import Forbidden, Invalid, NotFound
from restante.ids import AccountId, MailboxId
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant, outgoing

OPERATOR = Principal(AccountId(1), None, None, "operator", None, None)


def _user(tenant: Tenant) -> Principal:
    return access.of_mailbox(tenant.mailbox)


def _owner(tenant: Tenant) -> Principal:
    return Principal(tenant.account.id, None, None, "account", None, None)


def _refusal(conn: WriteConn, principal: Principal, address: str) -> str:
    with pytest.raises(Forbidden) as caught:
        access.require_sender(conn, principal, address)
    return caught.value.code


def test_a_user_sends_as_the_own_addresses(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now)
    mailboxes.add_alias(conn, red.account.id, "mute@red.example", red.mailbox.id, now, may_send=False)
    mailboxes.create(conn, red.account.id, "bob@red.example", now)
    me = _user(red)
    for address in (
        "ann@red.example",
        "Ann@RED.example",
        "ann+news@red.example",
        "info@red.example",
        "info+x@red.example",
    ):
        found = access.require_sender(conn, me, address)
        assert (found.account_id, found.mailbox_id, found.domain) == (red.account.id, red.mailbox.id, "red.example")
    for address in (
        "mute@red.example",
        "mute+x@red.example",
        "bob@red.example",
        "nobody@red.example",
        '"ann x"@red.example',
    ):
        assert _refusal(conn, me, address) == "sender_not_authorized", address
    with pytest.raises(Invalid):
        access.require_sender(conn, me, "no address")


def test_a_catch_all_sends_as_what_it_receives(conn: WriteConn, red: Tenant, now: datetime) -> None:
    mailboxes.create(conn, red.account.id, "bob@red.example", now)
    domains.set_catch_all(conn, red.account.id, red.domain.id, red.mailbox.id, now)
    assert access.require_sender(conn, _user(red), "any@red.example").mailbox_id == red.mailbox.id
    assert _refusal(conn, _user(red), "bob@red.example") == "sender_not_authorized"


def test_domains_come_before_senders(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    domains.add(conn, red.account.id, "new.example", now, approved=False, dns_status="forced")
    for address in ("x@unknown.example", "x@new.example", blue.mailbox.address, "x@blue.example"):
        assert _refusal(conn, _user(red), address) == "domain_not_allowed", address
        assert _refusal(conn, _owner(red), address) == "domain_not_allowed", address
    assert _refusal(conn, OPERATOR, "x@unknown.example") == "domain_not_allowed"
    assert _refusal(conn, OPERATOR, "x@new.example") == "domain_not_allowed"
    assert access.require_sender(conn, OPERATOR, blue.mailbox.address).mailbox_id == blue.mailbox.id
    assert access.require_sender(conn, OPERATOR, "x@blue.example").mailbox_id is None
    assert access.require_sender(conn, _owner(red), "x@red.example").mailbox_id is None
    accounts.suspend(conn, blue.account.id, now)
    assert _refusal(conn, OPERATOR, blue.mailbox.address) == "domain_not_allowed"


def test_a_grant_opens_a_domain_of_another_account(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, blue.domain.id, ["view_mailbox"], now, blue.account.id)
    assert _refusal(conn, _user(red), "ann@blue.example") == "domain_not_allowed"
    permissions.grant_bulk(conn, red.account.id, red.mailbox.id, blue.domain.id, ["send_mail"], now, blue.account.id)
    found = access.require_sender(conn, _user(red), "any@blue.example")
    assert (found.account_id, found.mailbox_id) == (blue.account.id, None)
    new = outgoing("ann@blue.example", _user(red))
    sent = submission.accept(conn, blue.account.id, new, CONTENT, SUMMARY, now)
    assert (sent.account_id, sent.mailbox_id, sent.submitter_id) == (blue.account.id, blue.mailbox.id, red.mailbox.id)


def test_acceptance_writes_all_of_it(conn: WriteConn, red: Tenant, now: datetime) -> None:
    to = ("Eve@far.example", "bob@red.example", "mallory@far.example")
    new = outgoing("ann@red.example", _user(red), *to)
    before = accounts.get(conn, red.account.id)
    sent = submission.accept(conn, red.account.id, new, CONTENT, SUMMARY, now)
    assert (sent.status, sent.queue_id, sent.recipients, sent.submitted_at) == ("submitted", new.queue_id, 3, now)
    assert sent.expires_at == now + submission.LIFETIME
    assert submission.get(conn, red.account.id, sent.id) == sent
    rows = submission.list_recipients(conn, red.account.id, [sent.id])
    assert [(row.address, row.domain, row.status, row.next_attempt_at) for row in rows] == [
        (address, address.rpartition("@")[2], "pending", now) for address in to
    ]
    (copy,) = messages.list_page(
        conn, red.account.id, folders.get_folder(conn, red.account.id, red.mailbox.id, "Sent").id, limit=9
    )
    assert copy.flags == ("\\Seen",)
    assert copy.content_id == sent.content_id
    uses = conn.execute(select(tables.contents.c.uses).where(tables.contents.c.id == sent.content_id)).scalar_one()
    assert uses == 2
    assert accounts.get(conn, red.account.id).used_bytes == before.used_bytes + CONTENT.size_bytes
    claimed = jobs.claim(conn, "me", 9, timedelta(minutes=1), now)
    assert [dict(job.payload) for job in claimed] == [
        {"account": red.account.id, "submission": sent.id, "domain": domain}
        for domain in ("far.example", "red.example")
    ]
    facts = conn.execute(select(tables.events.c.type).order_by(tables.events.c.number)).scalars().all()
    assert facts[-2:] == ["submission.accepted", "message.stored"]


def test_the_encoded_call_is_the_same(conn: WriteConn, red: Tenant, now: datetime) -> None:
    who = replace(_user(red), scopes=frozenset({"send"}))
    new = replace(outgoing("ann@red.example", who, "a@far.example", "b@far.example"), subject="Gr\u00fc\u00dfe")
    once = Once(red.account.id, "me", "key", b"hash")
    call = submission.encode_call(red.account.id, new, CONTENT, SUMMARY, now, once)
    sent = submission.decode_answer(submission.accept_encoded(conn, call))
    assert sent == submission.get_by_public_id(conn, red.account.id, new.public_id)
    assert (sent.subject, sent.recipients, sent.submitted_at) == ("Gr\u00fc\u00dfe", 2, now)
    other = replace(new, public_id=UUID(int=7), return_token="other")
    call = submission.encode_call(red.account.id, other, CONTENT, SUMMARY, now, once)
    assert submission.decode_answer(submission.accept_encoded(conn, call)) == sent
    call = submission.encode_call(red.account.id, replace(new, sender="eve@red.example"), CONTENT, SUMMARY, now, None)
    with pytest.raises(Forbidden):
        submission.accept_encoded(conn, call)


@pytest.mark.parametrize("full", ["mailbox", "account"])
def test_no_room_for_the_copy_stops_no_mail(conn: WriteConn, red: Tenant, now: datetime, full: str) -> None:
    if full == "mailbox":
        mailboxes.set_quota(conn, red.account.id, red.mailbox.id, 1, now)
    else:
        accounts.set_quota(conn, red.account.id, 1, now)
    sent = submission.accept(conn, red.account.id, outgoing("ann@red.example", _user(red)), CONTENT, SUMMARY, now)
    assert sent.status == "submitted"
    assert conn.execute(select(func.count()).select_from(tables.messages)).scalar_one() == 0
    uses = conn.execute(select(tables.contents.c.uses).where(tables.contents.c.id == sent.content_id)).scalar_one()
    assert uses == 1


def test_rights_that_went_meanwhile(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    mine = outgoing("ann@red.example", _user(red))
    with pytest.raises(Forbidden) as caught:
        submission.accept(conn, blue.account.id, mine, CONTENT, SUMMARY, now)
    assert caught.value.code == "domain_not_allowed"
    mailboxes.create(conn, red.account.id, "bob@red.example", now)
    with pytest.raises(Forbidden) as caught:
        submission.accept(conn, red.account.id, replace(mine, sender="bob@red.example"), CONTENT, SUMMARY, now)
    assert caught.value.code == "sender_not_authorized"


def test_this_server_needs_no_rights(conn: WriteConn, red: Tenant, now: datetime) -> None:
    new = outgoing("mailer-daemon@here.example", None, "eve@far.example", source="system")
    sent = submission.accept(conn, red.account.id, replace(new, envelope_sender=""), CONTENT, SUMMARY, now)
    assert (sent.mailbox_id, sent.submitter_id, sent.token_id, sent.envelope_sender) == (None, None, None, "")


def test_failure_leaves_a_trace(conn: WriteConn, red: Tenant, now: datetime) -> None:
    failed = submission.record_failed(conn, red.account.id, outgoing("ann@red.example", _user(red)), now)
    assert (failed.status, failed.queue_id, failed.submitted_at, failed.content_id) == ("failed", None, None, None)
    (row,) = submission.list_recipients(conn, red.account.id, [failed.id])
    assert (row.status, row.next_attempt_at) == ("pending", None)
    assert jobs.claim(conn, "me", 9, timedelta(minutes=1), now) == []


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ((1, 0, 0), "submitted"),
        ((3, 2, 0), "submitted"),
        ((3, 0, 2), "submitted"),
        ((2, 2, 0), "sent"),
        ((2, 0, 2), "bounced"),
        ((2, 1, 1), "partial"),
    ],
)
def test_status_by_the_recipients(counts: tuple[int, int, int], status: str) -> None:
    assert submission.status_of(*counts) == status


def test_lists(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    made = []
    for number, (sender, who, to) in enumerate(
        [
            ("ann@red.example", _user(red), "Eve@far.example"),
            ("ann+x@red.example", _user(red), "mallory@far.example"),
            ("bob@red.example", access.of_mailbox(bob), "eve@far.example"),
        ]
    ):
        at = now + timedelta(hours=number)
        made.append(submission.accept(conn, red.account.id, outgoing(sender, who, to), CONTENT, SUMMARY, at))
    submission.accept(conn, blue.account.id, outgoing("ann@blue.example", _user(blue)), CONTENT, SUMMARY, now)
    smtp = outgoing("ann@red.example", _user(red), source="smtp")
    submission.accept(conn, red.account.id, smtp, CONTENT, SUMMARY, now)
    failed = submission.record_failed(conn, red.account.id, outgoing("ann@red.example", _user(red)), now)

    def listed(account_id: AccountId | None, query: Query) -> list[int]:
        page = tracking.list_page(conn, account_id, query)
        assert page.total == len(page.items)
        return [one.id for one in page.items]

    one, two, three = (sent.id for sent in made)
    assert listed(red.account.id, Query(source="api")) == [failed.id, three, two, one]
    assert len(listed(None, Query())) == 6
    assert listed(red.account.id, Query(source="api", mailbox_id=bob.id)) == [three]
    assert listed(red.account.id, Query(sender="ann+x@red.example")) == [two]
    assert listed(red.account.id, Query(recipient="EVE@far.example", source="api", status="submitted")) == [three, one]
    assert listed(red.account.id, Query(status="failed")) == [failed.id]
    assert listed(red.account.id, Query(since=now + timedelta(hours=1), until=now + timedelta(hours=1))) == [two]
    assert listed(red.account.id, Query(mailbox_id=MailboxId(999))) == []
    page = tracking.list_page(conn, red.account.id, Query(source="api", limit=2, offset=1))
    assert ([item.id for item in page.items], page.total) == ([three, two], 4)
    assert tracking.list_page(conn, red.account.id, Query(source="api", offset=4)).items == []


def test_bytes_are_let_go(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = submission.accept(conn, red.account.id, outgoing("ann@red.example", _user(red)), CONTENT, SUMMARY, now)
    later = now + timedelta(days=1)
    assert submission.list_releasable(conn, later, 9) == [], "its recipient waits still"
    s = tables.submissions
    conn.execute(s.update().where(s.c.id == sent.id).values(status="sent"))
    assert submission.list_releasable(conn, now, 9) == []
    assert submission.list_releasable(conn, later, 9) == [(red.account.id, sent.id)]
    submission.release_contents(conn, red.account.id, [sent.id], later)
    assert submission.get(conn, red.account.id, sent.id).content_id is None
    uses = conn.execute(select(tables.contents.c.uses).where(tables.contents.c.id == sent.content_id)).scalar_one()
    assert uses == 1, "the copy in Sent"
    submission.release_contents(conn, red.account.id, [sent.id], later)
    assert conn.execute(select(tables.contents.c.uses)).scalar_one() == 1


def test_nobody_else_finds_it(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    sent = submission.accept(conn, red.account.id, outgoing("ann@red.example", _user(red)), CONTENT, SUMMARY, now)
    assert submission.get_by_public_id(conn, red.account.id, sent.public_id) == sent
    assert submission.get_by_public_id(conn, None, sent.public_id) == sent
    with pytest.raises(NotFound) as caught:
        submission.get_by_public_id(conn, blue.account.id, sent.public_id)
    assert caught.value.code == "submission_not_found"
