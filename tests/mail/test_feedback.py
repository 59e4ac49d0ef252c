"""Abuse reports as providers send them (RFC 5965), and hostile ones."""

import pytest

from restante.mail import feedback, message
from restante.mail.feedback import Complaint

REPORT = (
    b"Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n"
    b"Original-Mail-From: <bounce+0123@shop.test>\r\nOriginal-Rcpt-To: <eve@far.example>\r\n"
    b"Reporting-MTA: dns; fbl.far.example\r\n"
)
ORIGINAL = b"Return-Path: <other@shop.test>\r\nMessage-ID: <m1@shop.test>\r\nSubject: Offer\r\n\r\nBuy!\r\n"


def arf(report: bytes = REPORT, original: bytes = ORIGINAL, kind: bytes = b"message/rfc822") -> bytes:
    return (
        b"From: fbl@far.example\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nThis is an email abuse report.\r\n"
        b"--b\r\nContent-Type: message/feedback-report\r\n\r\n" + report + b"\r\n"
        b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + original + b"\r\n--b--\r\n"
    )


def read(raw: bytes) -> Complaint | None:
    parsed = message.parse(raw)
    assert feedback.is_report(parsed) == (b"message/feedback-report" in raw)
    return feedback.parse(parsed, raw)


def test_a_complaint() -> None:
    expected = Complaint("abuse", "bounce+0123@shop.test", "eve@far.example", "<m1@shop.test>", "fbl.far.example")
    assert read(arf()) == expected


def test_what_the_report_hides_is_taken_from_the_original() -> None:
    found = read(arf(b"Feedback-Type: Fraud\r\nUser-Agent: Yes/2\r\n", kind=b"text/rfc822-headers"))
    assert found == Complaint("fraud", "other@shop.test", "", "<m1@shop.test>", "Yes/2")
    assert read(arf(b"Feedback-Type: miscategorized\r\n", b"Subject: x\r\n")) == Complaint("other", "", "", "", None)


def test_controls_in_a_report_reach_nobody() -> None:
    found = read(arf(REPORT.replace(b"fbl.", b"f\0bl."), ORIGINAL.replace(b"m1", b"m\x0b1")))
    assert found is not None
    assert found[3:] == ("<m 1@shop.test>", "f bl.far.example")


@pytest.mark.parametrize(
    "report",
    [b"", b"Feedback-Type: not-spam\r\n", b"Feedback-Type: auth-failure\r\n", b"User-Agent: x\r\n", b"\x00\xff"],
)
def test_no_complaint(report: bytes) -> None:
    assert read(arf(report)) is None


def test_ordinary_mail_is_no_report() -> None:
    assert read(b"Subject: abuse\r\n\r\nFeedback-Type: abuse\r\n") is None
    assert read(arf().replace(b"message/feedback-report", b"text/plain")) is None


@pytest.mark.parametrize(
    "report",
    [
        b"Feedback-Type: abuse\r\n" * 50_000,
        b"Feedback-Type: abuse\r\nReporting-MTA: dns; " + b"x" * 2_000_000,
        b"Feedback-Type: abuse\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(50_000)),
    ],
)
def test_large_reports_are_bounded(report: bytes) -> None:
    found = read(arf(report, b"X-Long: " + b"y" * 500_000 + b"\r\nMessage-ID: <late@x>\r\n\r\n"))
    assert found is not None
    assert found.kind == "abuse"
    assert len(found.reporter or "") <= 1000
    assert found.message_id == ""
