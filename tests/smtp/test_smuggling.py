"""SMTP smuggling (VU#302671): whatever stands between CR, LF and dot, there is exactly one message or a refusal."""

import itertools
import re

import pytest

from tests.smtp.dialogue import Dialogue, MemoryBackend

ENVELOPE = b"EHLO a\r\nMAIL FROM:<x@peer.test>\r\nRCPT TO:<alice@example.test>\r\n"
SMUGGLED = b"MAIL FROM:<forged@peer.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: forged\r\n\r\nx"
PIECES = (b"\r", b"\n", b"\r\n", b"")
SEPARATORS = sorted(
    {a + b"." + b + c for a in (*PIECES, b"\r\r\n", b"\n\n", b"\r\n\r") for b in PIECES for c in PIECES}
)


def _is_bare(data: bytes) -> bool:
    return re.search(rb"\r(?!\n)|(?<!\r)\n", data) is not None


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100_000])
def test_every_separator_in_data(size: int) -> None:
    for separator in SEPARATORS:
        data_holds_one_message_or_is_refused(separator, size)


def data_holds_one_message_or_is_refused(separator: bytes, size: int) -> None:
    body = b"Subject: a\r\n\r\nhello" + separator + SMUGGLED + b"\r\n.\r\n"
    backend = MemoryBackend()
    dialogue = Dialogue(backend)
    dialogue.say(ENVELOPE + b"DATA\r\n")
    replies = b"".join(dialogue.say(part) for part in _cut(body, size))
    dialogue.end()
    message = body[: body.find(b"\r\n.\r\n") + 2]
    if _is_bare(message):
        assert not backend.messages, separator
        assert replies == b"550 5.6.0 Bare CR or LF in the message\r\n", separator
        assert dialogue.transport.is_closed, separator  # what follows might be a stranger's commands
    else:
        assert backend.messages[0][0].sender == "x@peer.test", separator
        assert backend.messages[0][2] == message.replace(b"\r\n.", b"\r\n"), separator
        assert replies.startswith(b"250 2.0.0 Kept as receipt1\r\n"), separator
        # More than one only where every peer sees the end of the first.
        assert len(backend.messages) == 1 or b"\r\n.\r\n" in separator, separator


@pytest.mark.parametrize("cut", [None, 1, 20, 21, 22, 23])
@pytest.mark.parametrize("segment", [1, 7, 100_000])
def test_every_separator_in_bdat(cut: int | None, segment: int) -> None:
    for separator in SEPARATORS:
        bdat_holds_one_message_or_is_refused(separator, cut, segment)


def bdat_holds_one_message_or_is_refused(separator: bytes, cut: int | None, segment: int) -> None:
    body = b"Subject: a\r\n\r\nhello" + separator + SMUGGLED
    backend = MemoryBackend()
    dialogue = Dialogue(backend)
    dialogue.say(ENVELOPE)
    parts = [body] if cut is None else [body[:cut], body[cut:]]
    wire = b"".join(
        b"BDAT %d%s\r\n%s" % (len(part), b" LAST" if i == len(parts) - 1 else b"", part) for i, part in enumerate(parts)
    )
    for piece in _cut(wire, segment):
        dialogue.say(piece)
    dialogue.end()
    if _is_bare(body):
        assert not backend.messages, separator
    else:
        assert [m[2] for m in backend.messages] == [body], separator


def test_every_short_mix_ends_only_at_the_terminator() -> None:
    """All words over CR, LF, dot, letter up to length 6, whole and byte by byte: both agree with a plain reference."""
    for length in range(7):
        for letters in itertools.product(b"\r\n.a", repeat=length):
            body = bytes(letters)
            stream = b"\r\n" + body + b"\r\n.\r\n"
            end = stream.find(b"\r\n.\r\n")
            message = stream[2 : end + 2]
            for step in (1, length + 5):
                backend = MemoryBackend()
                dialogue = Dialogue(backend)
                dialogue.say(ENVELOPE + b"DATA\r\n")
                data = body + b"\r\n.\r\n"
                replies = b"".join(dialogue.say(part) for part in _cut(data, step))
                if _is_bare(message):
                    assert not backend.messages, body
                    assert replies.startswith(b"550 5.6.0 "), body
                else:
                    expected = (b"\r\n" + message).replace(b"\r\n.", b"\r\n")[2:]
                    assert [m[2] for m in backend.messages] == [expected], body
                dialogue.end()


def test_command_lines_end_in_crlf_only() -> None:
    dialogue = Dialogue()
    assert dialogue.say(b"EHLO a\n").startswith(b"500 5.5.2 ")
    assert dialogue.say(b"NO\rOP\r\n").startswith(b"500 5.5.2 ")
    assert dialogue.say(b"NOOP\r\n").startswith(b"250 ")
