"""Complaints about what was sent: whom they can mean, once each, and nobody else's."""

from datetime import datetime
from typing import Any

from sqlalchemy import select

from restante.core import access, complaints, events, submission
from restante.core.submission import Submission
from restante.ids import EventNumber
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant, outgoing


def accept(conn: WriteConn, tenant: Tenant, now: datetime, *to: str) -> Submission:
    new = outgoing(tenant.mailbox.address, access.of_mailbox(tenant.mailbox), *to)
    return submission.accept(conn, tenant.account.id, new, CONTENT, SUMMARY, now)


def told(conn: WriteConn, tenant: Tenant) -> list[Any]:
    page = events.list_after(conn, tenant.account.id, EventNumber(0), 100)
    return [event.body for event in page.events if event.type == "transfer.complained"]


def test_a_recipient_complains_once(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now, "a@far.example", "B@far.example")
    mine = red.account.id, sent.id
    assert not complaints.record(conn, *mine, "", "abuse", None, now), "one of two: nobody knows which"
    assert not complaints.record(conn, *mine, "x@far.example", "abuse", None, now)
    assert complaints.record(conn, *mine, "b@FAR.example", "abuse", "fbl.far.example", now)
    assert not complaints.record(conn, *mine, "b@far.example", "fraud", None, now)
    (body,) = told(conn, red)
    assert (body["recipient"], body["kind"], body["reporter"]) == ("B@far.example", "abuse", "fbl.far.example")
    assert body["id"] == str(sent.public_id)
    marked = select(tables.transfers.c.address).where(tables.transfers.c.complained_at.is_not(None))
    assert [row[0] for row in conn.execute(marked)] == ["B@far.example"]


def test_the_only_recipient_is_meant_when_none_is_named(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    assert complaints.record(conn, red.account.id, sent.id, "redacted", "abuse", None, now)
    assert told(conn, red)[0]["recipient"] == "eve@far.example"


def test_another_account_s_mail_is_out_of_reach(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    assert complaints.find(conn, red.account.id, sent.message_id_header) == sent.id
    assert complaints.find(conn, blue.account.id, sent.message_id_header) is None
    assert not complaints.record(conn, blue.account.id, sent.id, "eve@far.example", "abuse", None, now)
    assert told(conn, red) == told(conn, blue) == []
