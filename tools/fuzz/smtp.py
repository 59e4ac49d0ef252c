"""The SMTP dialogue: any bytes in any chunks, between messages whose bytes are known."""

import random
import re
from collections.abc import Hashable

from restante.smtp.errors import UNEXPECTED
from tests.smtp.dialogue import Dialogue, MemoryBackend

KNOWN = b"From: a@example.net\r\nSubject: known\r\n\r\n..stuffed\r\nbody\r\n"
KNOWN_STORED = KNOWN.replace(b"\r\n..", b"\r\n.")
DELIVER = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n" + KNOWN + b".\r\n"

_REPLIES = re.compile(rb"(?:[2-5]\d\d[ -][\x20-\x7e]{0,508}\r\n)*")
_CODES = re.compile(rb"(?m)^([2-5]\d\d) (\d\.\d+\.\d+)?")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Smtp:
    """The same bytes in one piece and in random pieces must mean the same, and leave the messages around them alone."""

    name = "smtp"
    largest_bytes = 1_200

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def seeds(self) -> list[bytes]:
        """Dialogues that use every command once."""
        mail = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<bob@example.test>\r\n"
        known = b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n"
        eai = b"MAIL FROM:<> BODY=8BITMIME SMTPUTF8 SIZE=12\r\nRCPT TO:<jos\xc3\xa9@example.test>\r\n"
        return [
            mail + b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n",
            mail + b"BDAT 14\r\nSubject: x\r\n\r\nBDAT 6 LAST\r\nbody\r\nQUIT\r\n",
            eai + b"DATA\r\n\xc3\xa9\r\n.\r\n",
            known + b"NOOP x\r\nHELP\r\nVRFY <a>\r\n",
            b"EHLO [192.0.2.1]\r\nSTARTTLS\r\nRSET\r\n" + mail + b"RCPT TO:<nobody@example.test>\r\nRSET\r\n",
            DELIVER + DELIVER,
        ]

    def run(self, data: bytes) -> Hashable:
        """Whole and in pieces; the replies' codes describe what happened."""
        replies, messages = _converse([data], is_followed=self._rng.random() < 0.1)
        again, same = _converse(self._pieces(data), is_followed=False)
        assert messages == same, "other messages when the bytes come in pieces"
        assert replies == again, f"other replies when the bytes come in pieces:\n{replies!r}\n{again!r}"
        return tuple(_CODES.findall(replies)[3:20])

    def _pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 200 and self._rng.random() < 0.1:
            return [data[at : at + 1] for at in range(len(data))]
        cuts = sorted(self._rng.randrange(len(data) + 1) for _ in range(self._rng.randrange(1, 6)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def check(self) -> None:
        """Nothing is kept between inputs."""

    def close(self) -> None:
        """Nothing is held."""


def _converse(pieces: list[bytes], *, is_followed: bool) -> tuple[bytes, list[bytes]]:
    backend = MemoryBackend()
    dialogue = Dialogue(backend)
    dialogue.say(b"EHLO fuzz.example.net\r\n" + DELIVER)
    for piece in pieces:
        if piece:
            dialogue.say(piece)
    replies = dialogue.end()
    messages = [raw for _, _, raw in backend.messages]
    assert messages[0] == KNOWN_STORED, "the message before changed"
    if is_followed:
        after = Dialogue(backend)
        after.say(b"EHLO after.example.net\r\n" + DELIVER)
        after.end()
        assert backend.messages[-1][2] == KNOWN_STORED, "the message after changed"
    assert _REPLIES.fullmatch(replies), f"not SMTP replies: {replies[-600:]!r}"
    assert UNEXPECTED.text.encode() not in replies or b"bug" in b"".join(pieces).lower(), "an exception behind a 451"
    assert not any(_BARE.search(raw) for raw in messages), "a bare CR or LF was accepted"
    return replies, messages
