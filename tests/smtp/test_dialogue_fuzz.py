"""Arbitrary bytes in arbitrary chunks: replies are well formed, and chunking changes nothing."""

import random
import re

from restante.smtp.submission import Submission
from tests.smtp.dialogue import MemoryBackend, converse

WORDS = [
    b"EHLO a\r\n", b"HELO a\r\n", b"MAIL FROM:<a@b.test>\r\n", b"MAIL FROM:<> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n",
    b"RCPT TO:<alice@example.test>\r\n", b"RCPT TO:<nobody@example.test>\r\n", b"RCPT TO:<x@y>\r\n", b"DATA\r\n",
    b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n",
    b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\n", b"AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\n", b"STARTTLS\r\n", b"*\r\n",
    b"\r\n.\r\n", b".\r\n", b"..\r\n", b"\r", b"\n", b".", b"abc", b"\x00\xff", b"Subject: x\r\n\r\n", b"a" * 5000,
    b"VRFY a\r\n",
]  # fmt: skip
REPLIES = re.compile(rb"(?:(?:[2-5][0-9][0-9]-[\x20-\x7e]*\r\n)*[2-5][0-9][0-9] [\x20-\x7e]*\r\n)+")


def test_replies_stay_well_formed_and_chunking_changes_nothing() -> None:
    chance = random.Random(20261121)
    for number in range(3000):
        data = b"".join(chance.choices(WORDS, k=chance.randrange(1, 30)))
        policy = Submission() if number % 3 == 0 else None
        whole, cut = MemoryBackend(), MemoryBackend()
        replies = converse([data], whole, policy)
        assert REPLIES.fullmatch(replies), data
        pieces = []
        position = 0
        while position < len(data):
            length = chance.choice((1, 2, 3, 10, 1000))
            pieces.append(data[position : position + length])
            position += length
        assert converse(pieces, cut, policy) == replies, data
        assert whole.messages == cut.messages, data
