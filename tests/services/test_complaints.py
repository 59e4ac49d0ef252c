"""Abuse reports come in by SMTP and find the message that they are about."""

from typing import Any

import pytest

from restante.core import events, routing
from restante.core.mailboxes import Mailbox
from restante.ids import EventNumber
from restante.runtime import Runtime
from restante.services import reception
from restante.services.reception import Envelope, Source
from tests.mail.test_feedback import arf
from tests.makers import make_mailbox, make_submission

SOURCE = Source("192.0.2.1", "fbl.far.example", "ESMTP", "mail.example.test")


async def receive(rt: Runtime, mailbox: Mailbox, raw: bytes) -> None:
    routes = await rt.db.read(routing.resolve, mailbox.address)
    receipt = await reception.receive(rt, Envelope("fbl@far.example", routes), SOURCE, raw)
    assert len(receipt.delivered) == 1, "the report itself is mail like any other"


async def complaints(rt: Runtime, mailbox: Mailbox) -> list[Any]:
    page = await rt.db.read(events.list_after, mailbox.account_id, EventNumber(0), 1000)
    return [event.body for event in page.events if event.type == "transfer.complained"]


@pytest.mark.parametrize("named_by", ["return path", "Message-ID"])
async def test_a_complaint_finds_its_submission(rt: Runtime, named_by: str) -> None:
    ann = await make_mailbox(rt, "ann@example.test")
    sent = await make_submission(rt, ann)
    path = f"Original-Mail-From: <bounce+{sent.return_token}@example.test>\r\n" if named_by == "return path" else ""
    original = f"Message-ID: {sent.message_id_header}\r\nSubject: hello\r\n\r\n"
    raw = arf(f"Feedback-Type: abuse\r\nUser-Agent: x/1\r\n{path}".encode(), original.encode())
    for _ in range(2):  # the peer may send it again
        await receive(rt, ann, raw)
    (body,) = await complaints(rt, ann)
    assert (body["submission"], body["recipient"], body["kind"]) == (sent.id, "eve@far.example", "abuse")


@pytest.mark.parametrize(
    "report",
    [
        b"Original-Mail-From: <bounce+nobody@example.test>\r\n",
        b"Original-Mail-From: <bounce+x@elsewhere.example>\r\n",
        b"Original-Mail-From: <not an address>\r\n",
        b"",
    ],
)
async def test_what_names_nothing_of_ours_is_mail_and_no_more(rt: Runtime, report: bytes) -> None:
    ann = await make_mailbox(rt, "ann@example.test")
    await make_submission(rt, ann)
    await receive(rt, ann, arf(b"Feedback-Type: abuse\r\n" + report))
    assert await complaints(rt, ann) == []
