"""Reports that come back, and what servers answer: the two things that strangers write and transfer believes."""

import itertools
import random
from collections.abc import Hashable

from restante.mail import dsn, feedback, message
from restante.wire import smtp
from restante.wire.smtp import Reply, ReplyError, ReplyParser

_STATUS = (
    b"Reporting-MTA: dns; b.example\r\n\r\nFinal-Recipient: rfc822; bob@b.example\r\nAction: failed\r\n"
    b"Status: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 no\r\n such user\r\n"
)
_REPORT = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n--b\r\n"
    b"Content-Type: message/delivery-status\r\n\r\n" + _STATUS + b"\r\n--b--\r\n"
)
_COMPLAINT = (
    b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n--b\r\n"
    b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\n"
    b"Original-Mail-From: <a@b.example>\r\nOriginal-Rcpt-To: <c@d.example>\r\nReporting-MTA: dns; d.example\r\n"
    b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <1@b.example>\r\n\r\n--b--\r\n"
)


class Report:
    """Nothing raises; what is found is bounded and harmless to store."""

    name = "report"
    largest_bytes = 2_000

    def seeds(self) -> list[bytes]:
        """One report of each shape."""
        return [
            _REPORT,
            _COMPLAINT,
            _REPORT.replace(b"message/delivery", b"message/global-delivery").replace(b"rfc822; b", b"utf-8; \\x{FC}"),
            b"X-Failed-Recipients: a@b.example, c@d.example\r\n\r\nx\r\n",
            b"Subject: x\r\n\r\nHi. This is the qmail-send program\r\n\r\n<a@b.example>:\r\n550 5.1.1 no\r\n\r\n",
        ]

    def run(self, data: bytes) -> Hashable:
        """Read it as a message."""
        parsed = message.parse(data)
        found, complaint = dsn.parse(parsed, data), feedback.parse(parsed, data)
        assert len(found) <= dsn.MAX_REPORTED
        for text in itertools.chain(*found, complaint or ()):
            assert len(text or "") <= 2 * dsn.MAX_FIELD
            assert not any(sign in (text or "") for sign in "\r\n\0")
        assert all(each.dsn_code[0] in "245" for each in found)
        return len(found), tuple(each.dsn_code for each in found[:3]), complaint and complaint.kind

    def check(self) -> None:
        """Known reports read as they did at first."""
        assert [each.address for each in dsn.parse(message.parse(_REPORT), _REPORT)] == ["bob@b.example"]
        complaint = feedback.parse(message.parse(_COMPLAINT), _COMPLAINT)
        assert complaint == ("abuse", "a@b.example", "c@d.example", "<1@b.example>", "d.example")

    def close(self) -> None:
        """Nothing is held."""


class Replies:
    """The same bytes whole and in pieces give the same replies, and no reply adds a line to anything."""

    name = "replies"
    largest_bytes = 600

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def seeds(self) -> list[bytes]:
        """Replies as servers send them."""
        return [
            b"220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
            b"250 2.1.0 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n354\r\n",
            b"250-a\n250 b\n",
        ]

    def run(self, data: bytes) -> Hashable:
        """Whole, in pieces, and the answer to EHLO in it."""
        whole = _replies([data])
        cuts = sorted(self._rng.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert _replies(pieces) == whole
        for reply in whole[0]:
            assert 200 <= reply.code <= 599
            assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
            assert "\r" not in reply.text
            assert "\0" not in reply.text
            assert len(smtp.parse_ehlo(reply)) <= smtp.MAX_REPLY_LINES
        return tuple(reply[:2] for reply in whole[0][:5]), whole[1]

    def check(self) -> None:
        """Nothing is kept between inputs."""

    def close(self) -> None:
        """Nothing is held."""


def _replies(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """What was understood before the end, and whether all of it was."""
    parser, found = ReplyParser(), list[Reply]()
    try:
        for piece in pieces:
            for line in piece.splitlines(keepends=True):
                found += parser.feed(line)
    except ReplyError:
        return found, False
    return found, True
