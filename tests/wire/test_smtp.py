"""The SMTP grammar: paths, parameters, replies, the DATA encoding there and back."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import errors
from restante.wire import smtp

OFFERED = frozenset({"SIZE", "BODY", "SMTPUTF8"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM:<a@b.test>", "a@b.test"),
        ("from: <a@b.test>", "a@b.test"),
        ("FROM:<>", ""),
        ("FROM:<@r1.test,@r2.test:a@b.test>", "a@b.test"),
        ('FROM:<"a"@b.test>', "a@b.test"),
        ('FROM:<"a b"@b.test>', '"a b"@b.test'),
        ('FROM:<"a\\"b\\\\c\\d"@b.test>', '"a\\"b\\\\cd"@b.test'),
        ('FROM:<"a@b>c"@b.test>', '"a@b>c"@b.test'),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("FROM:<a+b/c=d@x_y.test>", "a+b/c=d@x_y.test"),
        ("FROM:<a@b>", "a@b"),
        ("FROM:<a..b.@docomo.test>", "a..b.@docomo.test"),
        ("FROM:<.a@c.test> BODY=7BIT", ".a@c.test"),
        ('FROM:<"a..b"@c.test>', '"a..b"@c.test'),
        ("FROM:<jürgen@müller.test> SMTPUTF8", "jürgen@müller.test"),
    ],
)
def test_senders(text: str, expected: str) -> None:
    assert smtp.parse_mail(text.encode(), OFFERED).sender == expected


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("", 501, "5.5.4"),
        ("FROM", 501, "5.5.4"),
        ("TO:<a@b.test>", 501, "5.5.4"),
        ("FROM:a@b.test", 501, "5.1.7"),
        ("FROM:<a@b.test", 501, "5.1.7"),
        ("FROM:<a>", 501, "5.1.7"),
        ("FROM:<postmaster>", 501, "5.1.7"),
        ("FROM:<@b.test>", 501, "5.1.7"),
        ("FROM:<a@>", 501, "5.1.7"),
        ("FROM:<a@b..test>", 501, "5.1.7"),
        ("FROM:<a@-b.test>", 501, "5.1.7"),
        ("FROM:<a b@c.test>", 501, "5.1.7"),
        ("FROM:<a@b@c.test>", 501, "5.1.7"),
        ('FROM:<""@c.test>', 501, "5.1.7"),
        ('FROM:<"a@c.test>', 501, "5.1.7"),
        ("FROM:<a@b.test>x", 501, "5.5.4"),
        ("FROM:<a@b.test>SIZE=1", 501, "5.5.4"),
        (f"FROM:<{'a' * 300}@{'b' * 30}.test>", 501, "5.1.7"),
        ("FROM:<a@b.test> SIZE=x", 501, "5.5.4"),
        ("FROM:<a@b.test> SIZE=", 501, "5.5.4"),
        ("FROM:<a@b.test> SIZE=1 SIZE=2", 501, "5.5.4"),
        ("FROM:<a@b.test> BODY=BINARYMIME", 501, "5.5.4"),
        ("FROM:<a@b.test> SMTPUTF8=1", 501, "5.5.4"),
        ("FROM:<a@b.test> RET=HDRS", 555, "5.5.4"),
        ("FROM:<a@b.test> ENVID=x", 555, "5.5.4"),
        ("FROM:<a@b.test> AUTH=<>", 555, "5.5.4"),
        ("FROM:<a@b.test>" + " X" * 30, 501, "5.5.4"),
        ("FROM:<jürgen@b.test>", 553, "5.6.7"),
        ("FROM:<a@b.test>\x00", 501, "5.5.2"),
        ("FROM:<a\u2028@b.test> SMTPUTF8", 501, "5.5.2"),
    ],
)
def test_refused_senders(text: str, code: int, status: str) -> None:
    with pytest.raises(smtp.ProtocolError) as caught:
        smtp.parse_mail(text.encode(), OFFERED)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, status)


def test_parameters() -> None:
    mail = smtp.parse_mail(b"FROM:<a@b.test> size=10 body=8bitmime SMTPUTF8", OFFERED)
    assert (mail.size_bytes, mail.body, mail.smtputf8) == (10, "8BITMIME", True)
    dsn = frozenset({"RET", "ENVID"})
    assert smtp.parse_mail(b"FROM:<a@b.test> RET=HDRS ENVID=q+3D", dsn).parameters == {"RET": "HDRS", "ENVID": "q+3D"}
    rcpt = smtp.parse_rcpt(b"TO:<a@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b", frozenset({"NOTIFY", "ORCPT"}))
    assert rcpt.parameters == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;a@b"}
    with pytest.raises(smtp.ProtocolError):
        smtp.parse_mail(b"FROM:<a@b.test> SIZE=10", frozenset())


def test_recipients() -> None:
    assert smtp.parse_rcpt(b"TO:<Postmaster>", frozenset()).recipient == "Postmaster"
    assert smtp.parse_rcpt("TO:<ü@b.test>".encode(), frozenset(), smtputf8=True).recipient == "ü@b.test"
    for bad in (b"TO:<>", b"TO:<other>", b"FROM:<a@b.test>"):
        with pytest.raises(smtp.ProtocolError):
            smtp.parse_rcpt(bad, frozenset())


@given(st.binary(max_size=120))
def test_no_argument_escapes(rest: bytes) -> None:
    for parse in (smtp.parse_helo, smtp.parse_bdat, lambda r: smtp.parse_mail(b"FROM:<" + r, OFFERED)):
        try:
            parse(rest)
        except smtp.ProtocolError as error:
            assert error.reply.encode().count(b"\n") == 1  # noqa: PT017 - either outcome is right


def test_replies_hold_their_lines() -> None:
    assert smtp.reply(250, "2.0.0", "a", "b") == b"250-2.0.0 a\r\n250 2.0.0 b\r\n"
    assert smtp.reply(550, "", "a\r\n250 ok\x00é") == b"550 a??250 ok??\r\n"


@given(
    st.lists(st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r\n.", b"long " * 30, b"\x00\xff"]), max_size=40).map(
        b"".join
    ),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_data_comes_back_as_it_was(raw: bytes, chunk: int, segment: int) -> None:
    wire = b"".join(smtp.encode_data(raw, chunk))
    assert wire.endswith(b".\r\n")
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1  # nobody can find an end earlier
    decoder = smtp.DataDecoder()
    out, rest = b"", b""
    for start in range(0, len(wire), segment):
        body, rest = decoder.feed(wire[start : start + segment])
        out += body
    assert decoder.finished
    assert not decoder.bare_newline
    assert rest == b""
    assert out == (raw if raw.endswith(b"\r\n") or not raw else raw + b"\r\n")


def test_bare_newlines_are_seen_wherever_chunks_are_cut() -> None:
    for size in range(6):
        for letters in itertools.product(b"\r\na.", repeat=size):
            raw = bytes(letters)
            is_bare = re.search(rb"\r(?!\n)|(?<!\r)\n", raw) is not None
            for cuts in range(1 << max(size - 1, 0)):  # each bit: a cut behind that byte
                checker = smtp.NewlineChecker()
                start = 0
                for end in [place + 1 for place in range(size) if place == size - 1 or cuts >> place & 1]:
                    checker.feed(raw[start:end])
                    start = end
                checker.finish()
                assert checker.bare_newline == is_bare, (raw, cuts)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a"]), max_size=12).map(b"".join), st.integers(1, 5))
def test_bare_newlines_are_never_sent(raw: bytes, chunk: int) -> None:
    is_bare = re.search(rb"\r(?!\n)|(?<!\r)\n", raw) is not None
    sent: list[bytes] = []
    try:
        sent.extend(smtp.encode_data(raw, chunk))
    except errors.Invalid as error:
        assert is_bare
        assert error.code == "bare_newline"  # noqa: PT017 - either outcome is right
        assert not b"".join(sent).endswith(b"\r\n.\r\n")
    else:
        assert not is_bare
