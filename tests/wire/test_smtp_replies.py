"""Replies as servers send them, and as they should not; commands that nothing can break."""

import pytest

from restante.errors import Invalid
from restante.wire import smtp
from restante.wire.smtp import Reply, ReplyError, ReplyParser


def read(data: bytes) -> list[Reply]:
    parser = ReplyParser()
    found = [reply for at in range(len(data)) for reply in parser.feed(data[at : at + 1])]
    assert ReplyParser().feed(data) == found
    return found


def test_replies() -> None:
    assert read(b"220 mx.example ESMTP\r\n250 2.1.0 ok\r\n") == [
        Reply(220, "", "mx.example ESMTP"),
        Reply(250, "2.1.0", "ok"),
    ]
    assert read(b"550-5.1.1 no such\r\n550 5.1.1 user\r\n") == [Reply(550, "5.1.1", "no such\nuser")]
    assert read(b"250\r\n") == [Reply(250, "", "")]
    assert read(b"250-a\n250 b\n") == [Reply(250, "", "a\nb")]
    assert read(b"250 4.1.1 odd\r\n") == [Reply(250, "", "4.1.1 odd")], "the class is another one"
    assert read(b"250-one\r\n550 two\r\n") == [Reply(550, "", "one\ntwo")]
    assert read(b"550 a\0b\xffc\r\n") == [Reply(550, "", "a?b\ufffdc")]
    assert read(b"250-not yet\r\n") == []


@pytest.mark.parametrize(
    "data", [b"hello\r\n", b"\r\n", b"25 x\r\n", b"150 x\r\n", b"650 x\r\n", b"250x\r\n", b"\0\r\n"]
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyParser().feed(data)


@pytest.mark.parametrize("piece", [b"250-x\r\n", b"x" * 1000, b"250-" + b"x" * 500 + b"\r\n"])
def test_an_endless_reply_ends(piece: bytes) -> None:
    parser = ReplyParser()

    def feed() -> None:
        for _ in range(1_000):
            parser.feed(piece)

    with pytest.raises(ReplyError):
        feed()


def test_what_ehlo_offers() -> None:
    (reply,) = read(
        b"250-mx.example hello\r\n250-SIZE 1000\r\n250-auth=LOGIN PLAIN\r\n250-AUTH PLAIN\r\n250 Pipelining\r\n"
    )
    assert smtp.parse_ehlo(reply) == {"SIZE": "1000", "AUTH": "LOGIN PLAIN", "PIPELINING": ""}


def test_commands() -> None:
    assert smtp.command("EHLO", "us.example") == b"EHLO us.example\r\n"
    assert smtp.mail_command("", "SIZE=1") == b"MAIL FROM:<> SIZE=1\r\n"
    assert smtp.rcpt_command('"a b<c>"@b.example') == b'RCPT TO:<"a b<c>"@b.example>\r\n'


@pytest.mark.parametrize("word", ["a\rb", "a\nb", "a\0b"])
def test_nothing_adds_a_command(word: str) -> None:
    for make in (smtp.command, smtp.mail_command, smtp.rcpt_command):
        with pytest.raises(Invalid):
            make(word)
    with pytest.raises(Invalid):
        smtp.rcpt_command(f'"{word}"@b.example')
