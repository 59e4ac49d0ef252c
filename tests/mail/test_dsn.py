"""Reports of delivery: ours, and those in the shapes that other servers write."""

import base64
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest

from restante.mail import dsn, message
from restante.mail.address import Address
from restante.mail.dsn import FailedRecipient, Report, Reported

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ORIGINAL = b"From: ann@a.example\r\nSubject: hello\r\nMessage-ID: <m@a.example>\r\n\r\n"


def read(raw: bytes) -> tuple[Reported, ...]:
    return dsn.parse(message.parse(raw), raw)


def report(*recipients: FailedRecipient, header: bytes = ORIGINAL) -> bytes:
    return dsn.compose(
        Report(
            "mx.a.example", Address("", "ann@a.example"), "report-1@mx.a.example", NOW, NOW, "hello", recipients, header
        )
    )


def failed(address: str = "bob@b.example", code: str = "5.1.1", response: str = "550 5.1.1 no") -> FailedRecipient:
    return FailedRecipient(address, code, response, "mx.b.example", NOW)


def test_ours_is_a_report_that_others_read() -> None:
    raw = report(failed(), failed("eve@b.example", "4.4.7", "451 4.7.1 later"))
    parsed: Any = message_from_bytes(raw, policy=policy.SMTP)
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    text, status, original = parsed.iter_parts()
    assert "<bob@b.example> (mx.b.example)" in text.get_content()
    blocks = status.get_payload()
    assert blocks[0]["Reporting-MTA"] == "dns; mx.a.example"
    assert [block["Status"] for block in blocks[1:]] == ["5.1.1", "5.4.7"]
    assert original.get_content_type() == "text/rfc822-headers"
    assert "Subject: hello" in original.get_payload()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def test_ours_is_read_by_ourselves() -> None:
    assert read(report(failed())) == (Reported("bob@b.example", "5.1.1", "550 5.1.1 no", "mx.b.example"),)
    raw = report(failed("grün@b.example", response="550 grün?"), header="Subject: grün\r\n\r\n".encode())
    assert b"message/global-delivery-status" in raw
    assert b"message/global-headers" in raw
    assert read(raw)[0][::2] == ("grün@b.example", "550 grün?")


def test_ours_without_the_original() -> None:
    parsed: Any = message_from_bytes(report(failed(), header=b""))
    assert [part.get_content_type() for part in parsed.get_payload()] == ["text/plain", "message/delivery-status"]


@pytest.mark.parametrize(
    "evil", ["550 no\r\nAction: delivered", "550 no\r\n\r\n--=_report-1", "x" * 50_000, "\0\x1b[2J"]
)
def test_no_answer_of_a_peer_adds_a_line(evil: str) -> None:
    raw = report(failed(response=evil))
    assert raw.count(b"\r\nAction: ") == 1
    assert len(message_from_bytes(raw).get_payload()) == 3
    assert len(read(raw)) == 1


def test_a_long_header_is_cut_at_a_line() -> None:
    raw = report(failed(), header=b"X-Long: " + b"y" * 60 + b"\r\n" + b"X-Line: z\r\n" * 20_000)
    assert len(raw) < dsn.MAX_HEADER_BYTES + 5_000
    assert raw.rsplit(b"\r\n--", 1)[0].endswith(b"X-Line: z\r\n")


def multipart(status: str, kind: str = "message/delivery-status", extra: str = "") -> bytes:
    text = (
        "From: MAILER-DAEMON@b.example\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b1"\r\n\r\n'
        "--b1\r\nContent-Type: text/plain\r\n\r\nI'm sorry.\r\n"
        f"--b1\r\nContent-Type: {kind}\r\n{extra}\r\n{status}\r\n"
        "--b1\r\nContent-Type: message/rfc822\r\n\r\nFrom: ann@a.example\r\n\r\nhello\r\n--b1--\r\n"
    )
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


POSTFIX = """Reporting-MTA: dns; b.example
X-Postfix-Queue-ID: 4f0Bn53bY2z6v2j
X-Postfix-Sender: rfc822; bounce+x@a.example
Arrival-Date: Sat, 21 Nov 2026 12:00:00 +0000 (UTC)

Final-Recipient: rfc822; bob@b.example
Original-Recipient: rfc822;bob@b.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx2.b.example
Diagnostic-Code: smtp; 550 5.1.1 <bob@b.example>: Recipient address rejected:
    User unknown in local recipient table
"""
EXCHANGE = """Reporting-MTA: dns;AM0PR01MB1234.eurprd01.prod.exchangelabs.com
Received-From-MTA: dns;mx.a.example
Arrival-Date: Sat, 21 Nov 2026 12:00:00 +0000

Final-Recipient: RFC822;bob@b.example
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
X-Display-Name: bob
"""
EXIM = """Reporting-MTA: dns; mail.b.example

Action: failed
Final-Recipient: rfc822;bob@b.example
Status: 5.0.0
Remote-MTA: dns; mx.b.example
Diagnostic-Code: smtp; 550 Unrouteable address
"""


def test_the_shapes_of_real_servers() -> None:
    (postfix,) = read(multipart(POSTFIX))
    assert postfix == Reported(
        "bob@b.example",
        "5.1.1",
        "550 5.1.1 <bob@b.example>: Recipient address rejected: User unknown in local recipient table",
        "mx2.b.example",
    )
    (exchange,) = read(multipart(EXCHANGE))
    assert exchange[:2] == ("bob@b.example", "5.1.10")
    assert "RecipientNotFound; Recipient" in exchange.text
    assert read(multipart(EXIM))[0][:2] == ("bob@b.example", "5.0.0")


def test_controls_in_a_report_reach_nobody() -> None:
    """No database keeps NUL, and no header or log line takes a line of a stranger's."""
    (found,) = read(
        multipart(EXIM.replace("mx.b.example", "mx\0.b.example\x0b").replace("Unrouteable", "Un\0routeable"))
    )
    assert found == Reported("bob@b.example", "5.0.0", "550 Un routeable address", "mx .b.example")


def test_several_recipients_and_encodings() -> None:
    both = POSTFIX + "\n" + EXIM.partition("\n\n")[2].replace("bob@", "eve@")
    assert [each.address for each in read(multipart(both))] == ["bob@b.example", "eve@b.example"]
    status = b"Reporting-MTA: dns; b\n\nFinal-Recipient: rfc822; bob@b.example\nAction: failed\n"
    encoded = multipart(base64.b64encode(status).decode(), extra="Content-Transfer-Encoding: base64\r\n")
    assert read(encoded) == (Reported("bob@b.example", "5.0.0", "reported as failed: 5.0.0", None),)
    escaped = "Reporting-MTA: dns; b\n\nFinal-Recipient: utf-8; gr\\x{FC}n@b.example\nAction: failed\nStatus: 5.1.1\n"
    assert read(multipart(escaped, "message/global-delivery-status"))[0].address == "grün@b.example"


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", ""])
def test_what_is_no_failure_is_none(action: str) -> None:
    assert read(multipart(POSTFIX.replace("Action: failed", f"Action: {action}"))) == ()


def test_older_shapes() -> None:
    exim = b"From: Mailer-Daemon@b.example\r\nX-Failed-Recipients: bob@b.example,\r\n eve@b.example\r\n\r\nsorry\r\n"
    assert [each.address for each in read(exim)] == ["bob@b.example", "eve@b.example"]
    qmail = (
        b"From: MAILER-DAEMON@b.example\r\nSubject: failure notice\r\n\r\n"
        b"Hi. This is the qmail-send program at b.example.\r\n"
        b"I'm afraid I wasn't able to deliver your message.\r\n\r\n<bob@b.example>:\r\n"
        b"192.0.2.1 does not like recipient.\r\nRemote host said: 550 5.1.1 no such user\r\n\r\n"
        b"--- Below this line is a copy\r\n"
    )
    (found,) = read(qmail)
    assert found[:2] == ("bob@b.example", "5.1.1")
    assert "does not like recipient" in found.text


def test_ordinary_mail_reports_nothing() -> None:
    for raw in (
        b"",
        b"Subject: out of office\r\n\r\nbob@b.example: 550 5.1.1 failed\r\n",
        multipart("\n\n\n"),
        multipart("x" * 9),
    ):
        assert read(raw) == ()


def test_hostile_reports_are_bounded() -> None:
    many = "Reporting-MTA: dns; b\n" + "".join(
        f"\nFinal-Recipient: rfc822; u{number}@b.example\nAction: failed\n" for number in range(5_000)
    )
    assert len(read(multipart(many))) == dsn.MAX_REPORTED
    folded = "Reporting-MTA: dns; b\n\nFinal-Recipient: rfc822; bob@b.example\nAction: failed\nDiagnostic-Code: smtp;\n"
    (found,) = read(multipart(folded + " x" * 100 + ("\n " + "y" * 200) * 5_000))
    assert len(found.text) <= dsn.MAX_FIELD
    (controls,) = read(multipart(EXIM.replace("Unrouteable", "Un\0rout\x1b[2Jeable")))
    assert controls.text.isprintable()
