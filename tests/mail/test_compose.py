"""What the composer writes, read back by the standard library and by a strict reader of lines."""

import base64
import email
import email.policy
import quopri
import random
import re
import secrets
import time
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restante import errors
from restante.mail import compose, message, serialize
from restante.mail.address import Address
from restante.mail.compose import Draft, Part

FROM = Address("", "a@example.test")
TO = Address("", "b@example.test")
DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STARTERS = ["Date", "From", "To", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
EVIL = [
    "\r\nBcc: x@evil.test",
    "\nBcc: x@evil.test",
    "\rBcc: x@evil.test",
    "a\r\n\r\n<html>",
    "a\x00b",
    "a\x0bBcc: x",
    "a\x0cBcc: x",
    "a\x1cb\x1db\x1eb",
    "a\x85Bcc: x",
    "a\u2028Bcc: x",
    "a\u2029Bcc: x",
    "a\ud800b",
    "\udce9",
    "=?utf-8?q?x=0D=0ABcc:_y?=",
    "=?utf-8?b?DQpCY2M6IHg=?=",
    "\x7f",
    " \r\n ",
    "\r\n\t\r\n",
]


def fields_of(raw: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """The header as any reader of lines must see it; fails on whatever two readers could see differently."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    assert separator
    fields: list[tuple[str, str]] = []
    text = head.decode("utf-8")  # strict
    assert text.splitlines() == text.split("\r\n")  # no U+2028, U+0085, 0x0B, 0x1C ... either
    for line in text.split("\r\n"):
        assert line.strip(" \t")
        assert len(line.encode()) <= 998
        assert not re.search("[\x00-\x08\x0a-\x1f\x7f]", line)
        if line[0] in " \t":
            name, value = fields[-1]
            fields[-1] = (name, value + line)
        else:
            found = re.fullmatch(r"([!-9;-~]+):(?: (.*))?", line)
            assert found, line
            fields.append((found[1], found[2] or ""))
    return fields, body


def names_of(raw: bytes) -> list[str]:
    return [name for name, _ in fields_of(raw)[0]]


def check_lines(raw: bytes) -> None:
    assert raw.endswith(b"\r\n")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


def stdlib(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    for part in message.walk():
        assert not part.defects
    return message


def draft(**values: Any) -> Draft:
    defaults: dict[str, Any] = {"from_": FROM, "to": (TO,), "text": "hello", "date": DATE, "message_id": "<m@x>"}
    return Draft(**(defaults | values))


def lone(text: str) -> str:
    """Joined surrogate pairs, U+FFFD for lone ones."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def one_line(text: str) -> str:
    text = lone(text).replace("\ufeff", "")
    out = "".join(" " if unicodedata.category(char) == "Cc" or char in "\u2028\u2029" else char for char in text)
    text = re.sub("[\t\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    assert len(text) <= len(out)
    return text.strip(" ")


def lines(text: str) -> str:
    text = lone(text).replace("\r\n", "\n").replace("\r", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def decoded(value: str) -> str:
    return str(email.header.make_header(email.header.decode_header(value)))


def body_text(part: EmailMessage) -> str:
    raw = cast("bytes", part.get_payload(decode=True))
    return raw.decode("utf-8").replace("\r\n", "\n")


# -- the whole message


def test_one_text_is_one_part() -> None:
    raw = compose.compose(draft(subject="Hi"))
    assert raw == (
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nFrom: a@example.test\r\nTo: b@example.test\r\nSubject: Hi\r\n"
        b"Message-ID: <m@x>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n\r\nhello\r\n"
    )


PNG = Part("p.png", "image/png", b"\x89PNG", content_id="p@x", inline=True)
PDF = Part("a.pdf", "application/pdf", b"%PDF")
ALTERNATIVE = ["multipart/alternative", "text/plain", "text/html"]
RELATED = ["multipart/related", "text/html", "image/png"]


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ({}, ["text/plain"]),
        ({"text": None}, ["text/plain"]),
        ({"text": ""}, ["text/plain"]),
        ({"text": None, "html": "<p>"}, ["text/html"]),
        ({"html": "<p>"}, ALTERNATIVE),
        ({"attachments": (PDF,)}, ["multipart/mixed", "text/plain", "application/pdf"]),
        ({"text": None, "attachments": (PDF,)}, ["multipart/mixed", "application/pdf"]),
        ({"attachments": (PDF, PDF)}, ["multipart/mixed", "text/plain", "application/pdf", "application/pdf"]),
        ({"html": "<p>", "attachments": (PDF,)}, ["multipart/mixed", *ALTERNATIVE, "application/pdf"]),
        ({"text": None, "html": "<p>", "attachments": (PNG,)}, RELATED),
        ({"html": "<p>", "attachments": (PNG,)}, ["multipart/alternative", "text/plain", *RELATED]),
        (
            {"html": "<p>", "attachments": (PDF, PNG)},
            ["multipart/mixed", "multipart/alternative", "text/plain", *RELATED, "application/pdf"],
        ),
        ({"attachments": (PNG,)}, ["multipart/mixed", "text/plain", "image/png"]),  # no HTML that could name it
    ],
)
def test_the_shape_is_the_smallest_that_holds_it(values: dict[str, Any], shape: list[str]) -> None:
    raw = compose.compose(draft(**values))
    check_lines(raw)
    message = stdlib(raw)
    assert [part.get_content_type() for part in message.walk()] == shape
    for part in message.walk():
        if part.is_multipart():
            assert not part.preamble
            assert not (part.epilogue or "").strip("\r\n")
        if part.get_content_type() == "multipart/related":
            assert part.get_param("type") == "text/html"
        if part.get_content_type() == "image/png":
            assert part["Content-ID"] == "<p@x>"
            assert part.get_content_disposition() == "inline"
        if part.get_content_type() == "application/pdf":
            assert part.get_content_disposition() == "attachment"
            assert part.get_filename() == "a.pdf"


def test_date_and_message_id_are_made_when_absent() -> None:
    message = stdlib(compose.compose(draft(date=None, message_id=None, from_=Address("", "é@bücher.test"))))
    made = cast("Any", message["Date"]).datetime
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=1)
    assert re.fullmatch(r"<[0-9a-f-]{36}@xn--bcher-kva\.test>", message["Message-ID"])


def test_two_messages_never_share_an_id_or_a_boundary() -> None:
    raws = [compose.compose(draft(message_id=None, html="x")) for _ in range(50)]
    assert len({stdlib(raw)["Message-ID"] for raw in raws}) == 50
    assert len({stdlib(raw).get_boundary() for raw in raws}) == 50


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC), "Sat, 21 Nov 2026 09:05:07 +0000"),
        (datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=5, minutes=45))), "Thu, 29 Feb 2024 00:00:00 +0545"),
        (datetime(2024, 2, 29, tzinfo=timezone(-timedelta(hours=3, minutes=30))), "Thu, 29 Feb 2024 00:00:00 -0330"),
        (datetime(987, 1, 1, tzinfo=UTC), "Mon, 01 Jan 0987 00:00:00 +0000"),
    ],
)
def test_dates(moment: datetime, written: str) -> None:
    assert dict(fields_of(compose.compose(draft(date=moment)))[0])["Date"] == written


def test_all_address_fields_in_order() -> None:
    raw = compose.compose(
        draft(sender=Address("S", "s@x.test"), reply_to=(TO,), cc=(TO, FROM), subject="s", in_reply_to=("<1@x>",))
    )
    assert names_of(raw) == [
        *("Date", "From", "Sender", "Reply-To", "To", "Cc", "Subject", "Message-ID", "In-Reply-To"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ]


def test_a_sender_equal_to_from_is_left_out() -> None:
    assert names_of(compose.compose(draft(sender=FROM))) == STARTERS


def test_no_recipient_means_no_to_field() -> None:
    assert "To" not in names_of(compose.compose(draft(to=())))


# -- encoded words and folding


@pytest.mark.parametrize(
    "subject",
    [
        "plain",
        "two  spaces and   three",
        "Grüße",
        "Grüße aus Köln an alle und noch mehr ASCII-Wörter, die hinten stehen bleiben",
        "ascii first then " + "ü" * 60 + " then ascii",
        "日本語の件名" * 30,
        "😀" * 100,
        "é",
        "a" * 998,
        "a" * 67 + " b",
        "word " * 199 + "end",
        "=?utf-8?q?not=20an=20encoded=20word?=",
        "x =?utf-8?q?a?= y",
        "=?x?q??=",
        "=?",
        "?= =?",
        "a=?b",
        "trailing =?",
        "a" + " " * 500 + "b",
        "a" + " " * 500,
        "  é  é  ",
        "é  x  é",
        "x  é  y",
        "_ _é_ _",
        "????????é",
        "e\u0301\u0301\u0301" * 50,
        'RE: [ext] 50 % = half? "quoted" (comment) <a@b>, é; \\',
        "\u00a0\u00a0é\u3000",
        "\ufeffé\ufffe",
    ],
)
def test_subjects_come_back(subject: str) -> None:
    raw = compose.compose(draft(subject=subject))
    check_lines(raw)
    fields, _ = fields_of(raw)
    value = dict(fields)["Subject"]
    assert value.isascii()
    assert decoded(value) == one_line(subject)
    assert stdlib(raw)["Subject"] == one_line(subject)
    for line in raw.partition(b"\r\nMessage-ID")[0].split(b"\r\n"):
        assert len(line) <= (76 if b"=?utf-8?" in line else 78)
    for word in re.findall(r"=\?utf-8\?.\?[^?]*\?=", value):
        assert len(word) <= 75
        email.header.decode_header(word)[0][0].decode("utf-8")  # whole characters


def test_the_shorter_of_q_and_b_is_taken() -> None:
    assert serialize.header("Subject", "Grüße alle") == b"Subject: =?utf-8?b?R3LDvMOfZQ==?= alle\r\n"
    text = "Der Löwe und auch noch der Bär im Wald"
    written = b"Subject: Der =?utf-8?q?L=C3=B6we_und_auch_noch_der_B=C3=A4r?= im Wald\r\n"
    assert serialize.header("Subject", text) == written


def test_a_subject_that_is_empty_when_cleaned_is_no_field() -> None:
    assert names_of(compose.compose(draft(subject=" \r\n\t "))) == STARTERS


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("", "b@example.test"),
        (" ", "b@example.test"),
        ("Bob", "Bob <b@example.test>"),
        ("Bob  Jones", "Bob Jones <b@example.test>"),
        ("Jones, Bob", '"Jones, Bob" <b@example.test>'),
        ("John Q. Public", '"John Q. Public" <b@example.test>'),
        ('a "b" \\c', '"a \\"b\\" \\\\c" <b@example.test>'),
        ("Bob (x)", '"Bob (x)" <b@example.test>'),
        ("b@evil.test", '"b@evil.test" <b@example.test>'),
        ("Jürgen", "=?utf-8?q?J=C3=BCrgen?= <b@example.test>"),
        ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <b@example.test>"),
        ("Bob\r\nBcc: c@d", '"Bob Bcc: c@d" <b@example.test>'),
    ],
)
def test_display_names(name: str, written: str) -> None:
    assert serialize.addresses("To", (Address(name, "b@example.test"),), "to") == f"To: {written}\r\n".encode()


@pytest.mark.parametrize("name", ["Ü" * 200, "a b " * 60, "a" * 300, 'x"' * 100, "日本 " * 50, "é, " * 40, "a.b " * 30])
def test_long_names_fold_and_come_back(name: str) -> None:
    raw = compose.compose(draft(from_=Address(name, "a@example.test"), reply_to=(Address(name, "a@example.test"),) * 3))
    check_lines(raw)
    assert all(len(line) <= 78 for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n"))
    expected = " ".join(name.split())
    fields = dict(fields_of(raw)[0])  # the library's new reader loses count of the spaces between encoded words
    assert fields["Reply-To"].count(" <a@example.test>") == 3
    written, address = fields["From"].rsplit(" ", 1)
    assert address == "<a@example.test>"
    assert decoded(written) == expected


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a@b.test", "a@b.test"),
        ("A.b+tag@B.Test", "A.b+tag@B.Test"),
        ("a..b@b.test", '"a..b"@b.test'),
        (".a@b.test", '".a"@b.test'),
        ('"john doe"@b.test', '"john doe"@b.test'),
        ('"a@b"@b.test', '"a@b"@b.test'),
        ('"a\\"b"@b.test', '"a\\"b"@b.test'),
        ("a@bücher.test", "a@xn--bcher-kva.test"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        ("jürgen@bücher.test", "jürgen@xn--bcher-kva.test"),
        ("用户@例え.test", "用户@xn--r8jz45g.test"),
        ("a@localhost", "a@localhost"),
        ("a@my_host.test", "a@my_host.test"),
    ],
)
def test_addresses(given: str, written: str) -> None:
    assert serialize.address(given, "to") == written


@pytest.mark.parametrize(
    "given",
    [
        *("", "a", "@", "a@", "@b.test", "a b@c.test", "a@b c.test", "a@b..test", "a@.test", "a@-b.test", "a<b@c.test"),
        *(
            "a>@c.test",
            "a,b@c.test",
            "a;b@c.test",
            "a:b@c.test",
            "(a)@c.test",
            '"a@c.test',
            '"a"b"@c.test',
            "a\\@c.test",
        ),
        *(
            "a@b@c.test",
            "a\u00a0b@c.test",
            "a\u2028@c.test",
            "a\u202eb@c.test",
            "a@c.test ",
            "a@c.test\n",
            "a\n@c.test",
        ),
        *(
            "é\n@c.test",
            "a@é\n.test",
            "a@[1.2.3.4\n]",
            '"a\nb"@c.test',
            '"é\u2028"@c.test',
            "a@b.test>",
            "a@x\ud800.test",
        ),
        *(
            "a" * 400 + "@c.test",
            "é" * 200 + "@c.test",
            "a@" + "é" * 300,
            "a@xn--\u00e9.test",
            "a@\u2028.test",
            '"\\\n"@x.y',
        ),
    ],
)
def test_addresses_that_are_refused(given: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        compose.compose(draft(cc=(TO, Address("", given))))
    assert list(caught.value.details) == ["cc.1"]


def test_only_an_address_can_make_a_header_that_is_not_ascii() -> None:
    part = Part("ü.txt", "text/plain", "ü".encode(), content_id="x@y")
    values: dict[str, Any] = {"subject": "ü", "text": "ü", "attachments": (part,), "headers": (("X-A", "ü"),)}
    assert compose.compose(draft(**values, to=(Address("ü", "u@ü.test"),))).isascii()
    assert "ü@x.test".encode() in compose.compose(draft(to=(Address("ü", "ü@x.test"),)))


def test_ten_thousand_recipients_take_linear_time() -> None:
    started = time.process_time()
    raw = compose.compose(
        draft(to=tuple(Address(f"Person ü {number}", f"p{number}@x.test") for number in range(10_000)))
    )
    assert time.process_time() - started < 3
    check_lines(raw)
    assert dict(fields_of(raw)[0])["To"].count("@x.test") == 10_000


# -- custom headers


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("simple", "simple"),
        ("", ""),
        ("  spaced  ", "spaced"),
        ("a\tb", "a\tb"),
        ("<https://x.test/?a=?b>, <mailto:u@x.test>", "<https://x.test/?a=?b>, <mailto:u@x.test>"),
        ("x" * 890, "x" * 890),
    ],
)
def test_custom_headers_stay_as_they_are(value: str, written: str) -> None:
    raw = compose.compose(draft(headers=(("X-Custom", value), ("X-Custom", value))))
    check_lines(raw)
    assert [one for name, one in fields_of(raw)[0] if name == "X-Custom"] == [written, written]


@pytest.mark.parametrize(
    "value", ["ü", "a" * 5000, "ü " * 300, "<https://x.test> ü", "=?utf-8?q?x?=", "a" + "\t" * 2000 + "b"]
)
@pytest.mark.parametrize("name", ["X", "X-" + "N" * 30, "X-" + "N" * 62])
def test_custom_headers_that_need_encoding_come_back(name: str, value: str) -> None:
    raw = compose.compose(draft(headers=((name, value),)))
    check_lines(raw)
    assert decoded(dict(fields_of(raw)[0])[name]) == value.strip()
    assert all(len(line) <= 76 for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n"))


@pytest.mark.parametrize("name", ["", "a b", "a:", "ü", "a\n", "a\r\nb", "x" * 65, "a\x00", "(x)", "a\u2028"])
def test_custom_names_that_are_refused(name: str) -> None:
    for field in ("headers", "extra"):
        with pytest.raises(errors.Invalid) as caught:
            compose.compose(draft(**{field: ((name, "x"),)}))
        assert list(caught.value.details) == [field]
        assert caught.value.message.isascii()
        assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "name", sorted({*compose.FORBIDDEN_HEADERS, "content-type", "Content-X", "MIME-Version", "BCC"})
)
def test_forbidden_names(name: str) -> None:
    assert compose.is_forbidden(name)
    with pytest.raises(errors.Invalid):
        compose.compose(draft(headers=((name, "x"),)))


def test_our_own_code_may_set_trace_fields_but_not_what_the_composer_writes() -> None:
    raw = compose.compose(draft(extra=(("Authentication-Results", "x; none"), ("Auto-Submitted", "auto-replied"))))
    assert names_of(raw)[4:6] == ["Authentication-Results", "Auto-Submitted"]
    for name in ("From", "bcc", "Content-Type", "MIME-version", "Subject"):
        with pytest.raises(errors.Invalid):
            compose.compose(draft(extra=((name, "x"),)))


def test_thread_fields_stand_once() -> None:
    for values in (
        {"in_reply_to": ("<a@b>",), "headers": (("In-Reply-To", "<c@d>"),)},
        {"headers": (("References", "<c@d>"), ("references", "<c@d>"))},
    ):
        with pytest.raises(errors.Invalid):
            compose.compose(draft(**values))
    assert "References" in names_of(compose.compose(draft(headers=(("References", "<c@d>"),))))


def test_odd_ids_of_other_people_are_left_out() -> None:
    good = [f"<{number}@x>" for number in range(200)]
    raw = compose.compose(
        draft(
            in_reply_to=("<a b@c>", "<ü@x>", "<ok@x>", "bare@x", "<a@b>\r\nBcc: c@d", "<a@b> c"),
            references=("<\r\n>", *good),
        )
    )
    fields = dict(fields_of(raw)[0])
    assert fields["In-Reply-To"] == "<ok@x>"
    assert fields["References"].split() == [good[0], *good[-59:]]
    assert "References" not in names_of(compose.compose(draft(references=("nothing",))))


@pytest.mark.parametrize("field", ["message_id", "content_id"])
@pytest.mark.parametrize(
    "value", ["<a b@c>", "a\r\nb@c", "<a@b", "ü@c", "a@b>\r\nX: y", "x" * 901, "<>", "a\x00", "<<a@b>>"]
)
def test_ids_that_are_refused(field: str, value: str) -> None:
    values: dict[str, Any] = {"message_id": value}
    if field == "content_id":
        values = {"attachments": (Part("x", "a/b", b"", content_id=value),)}
    with pytest.raises(errors.Invalid) as caught:
        compose.compose(draft(**values))
    assert list(caught.value.details) == ["message_id" if field == "message_id" else "attachments.0.content_id"]


def test_a_naive_date_is_refused() -> None:
    with pytest.raises(errors.Invalid):
        compose.compose(draft(date=datetime(2026, 1, 1)))  # noqa: DTZ001


# -- bodies


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\nascii\n", "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("From me", "quoted-printable"),
        ("a\nFrom me", "quoted-printable"),
        ("Grüße aus Köln, und so weiter", "quoted-printable"),
        ("日本語", "base64"),
        ("a\x00b" + "c" * 20, "quoted-printable"),
        ("a\x0cb\x0b\x1c", "base64"),
        ("é\nFrom " + "x" * 70 + "\n" + "y" * 74 + "From z", "quoted-printable"),
        ("é" + "From " * 100 + "x" * 100, "quoted-printable"),
        ("é trailing \t\nspace \n. \n.\n..\n", "quoted-printable"),
        ("é\r\n\r\rx\n\r\ny\r", "quoted-printable"),
        ("\ud83d\ude00 pair, lone \ud800 and a bit more text", "quoted-printable"),
        ("=é==\n=20", "base64"),
        ("\u2028\x85" + "a" * 30, "quoted-printable"),
    ],
)
def test_texts_come_back(text: str, encoding: str) -> None:
    raw = compose.compose(draft(text=text))
    check_lines(raw)
    message = stdlib(raw)
    assert message["Content-Transfer-Encoding"] == encoding
    assert body_text(message) == lines(text)
    if encoding != "7bit":
        assert all(len(line) <= 76 for line in fields_of(raw)[1].split(b"\r\n"))
    assert b"\r\nFrom " not in raw.partition(b"\r\n\r\n")[2]
    nested = stdlib(compose.compose(draft(text=text, html=text)))
    assert [body_text(cast("EmailMessage", part)) for part in nested.iter_parts()] == [lines(text)] * 2


def test_a_boundary_never_occurs_in_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter(["a" * 24, "b" * 24, "c" * 24])
    monkeypatch.setattr(secrets, "token_hex", lambda _count: next(marks))
    raw = compose.compose(draft(text="--=_" + "a" * 24 + "_2--\n", html="--=_" + "b" * 24))
    message = stdlib(raw)
    assert message.get_boundary() == "=_" + "c" * 24 + "_2"
    assert len(list(message.iter_parts())) == 2


# -- attachments


ODD_NAMES = [
    "a.txt",
    "two words.txt",
    'q"uote.txt',
    "back\\slash.txt",
    "semi;colon=equals.txt",
    "per%cent%41.txt",
    "apo'strophe''s.txt",
    "ümlaut.txt",
    "日本語ファイル名.pdf",
    "日本語" * 40 + ".pdf",
    "x" * 200 + ".tar.gz",
    "../../etc/passwd",
    "=?utf-8?q?evil=2Eexe?=",
    " leading and trailing ",
    "e\u0301.txt",
    "😀.png",
    "tab\there.txt",
    "a" * 64,
    "a" * 65,
    "*?<>|.txt",
    ".hidden",
    "name.with-a-very-long-extension-indeed",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_file_names_come_back_with_an_ascii_fallback_last(name: str) -> None:
    raw = compose.compose(draft(attachments=(Part(name, "application/pdf", b"x"),)))
    check_lines(raw)
    part = next(iter(stdlib(raw).iter_attachments()))
    assert part.get_filename() == name.replace("\t", "_").strip()
    header = serialize.structured("Content-Disposition", ["attachment;", *serialize.file_name(name)])
    assert all(len(line) <= 78 for line in header.split(b"\r\n"))
    fallback = header.decode().rpartition("filename=")[2].strip()  # what naive readers do
    assert re.fullmatch(r'"[ !#-\[\]-~]{1,64}"', fallback)


def test_a_file_name_keeps_its_extension_when_cut() -> None:
    assert serialize.file_name("x" * 500 + ".pdf")[-1].endswith('x.pdf"')
    part = next(
        iter(stdlib(compose.compose(draft(attachments=(Part("ü" * 500 + ".pdf", "a/b", b""),)))).iter_attachments())
    )
    assert part.get_filename() == "ü" * 251 + ".pdf"


@pytest.mark.parametrize("name", [None, "", "\ud800"])
def test_no_or_broken_file_names(name: str | None) -> None:
    raw = compose.compose(draft(attachments=(Part(name, "a/b", b"x"),)))
    check_lines(raw)
    part = next(iter(stdlib(raw).iter_attachments()))
    assert part.get_filename() == ("\ufffd" if name else None)
    assert part.get_content_disposition() == "attachment"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 56, 57, 58, 114, 57 * 8192 - 1, 57 * 8192, 57 * 8192 + 1, 1_000_003])
def test_attachments_come_back_byte_for_byte(size: int) -> None:
    content = random.Random(size).randbytes(size)
    raw = compose.compose(draft(attachments=(Part("x", "application/octet-stream", content),) * 2))
    check_lines(raw)
    parts = list(stdlib(raw).iter_attachments())
    assert [part.get_payload(decode=True) for part in parts] == [content] * 2
    written = base64.encodebytes(content).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    assert raw.count(b"\r\n\r\n" + written + b"\r\n--=_") == 2


def test_large_attachments_take_linear_time() -> None:
    def measure(content: bytes) -> float:
        started = time.process_time()
        compose.compose(draft(attachments=(Part("x", "a/b", content),)))
        return time.process_time() - started

    # eight times the bytes: 8 when linear, 64 when quadratic; a machine that slows down in between gets five tries
    contents = [random.Random(1).randbytes(size) for size in (1 << 20, 8 << 20)]
    found = []
    for _ in range(5):
        small, large = (min(measure(content) for _ in range(3)) for content in contents)
        if large < 20 * max(small, 0.001):
            return
        found.append((small, large))
    pytest.fail(f"not linear: {found}")


@pytest.mark.parametrize(
    ("kind", "written", "encoding"),
    [
        ("IMAGE/Png", "image/png", "base64"),
        ("text/plain; charset=UTF-8", "text/plain; charset=UTF-8", "base64"),
        ('text/plain;charset="utf-8" ; name=a', "text/plain; charset=utf-8; name=a", "base64"),
        ('a/b; x="y z"', 'a/b; x="y z"', "base64"),
        ("a/b;", "a/b", "base64"),
        ("multipart/mixed; boundary=x", "application/octet-stream", "base64"),
        ("application/vnd.ms-excel.sheet+xml", "application/vnd.ms-excel.sheet+xml", "base64"),
        ("message/rfc822", "message/rfc822", "7bit"),
    ],
)
def test_content_types(kind: str, written: str, encoding: str) -> None:
    raw = compose.compose(draft(attachments=(Part("x", kind, b"Subject: x\r\n\r\nbody\r\n"),)))
    fields = fields_of(raw.partition(b"_1\r\n")[2].partition(b"_1\r\n")[2])[0]
    assert dict(fields)["Content-Type"] == written
    assert dict(fields)["Content-Transfer-Encoding"] == encoding


@pytest.mark.parametrize("content", ["Subject: ü\r\n\r\n".encode(), b"a: b\n\nx", b"a: b\r\n\r\n\0", b"x" * 999])
def test_a_message_that_is_not_seven_bit_goes_as_a_plain_file(content: bytes) -> None:
    part = next(
        iter(stdlib(compose.compose(draft(attachments=(Part("x.eml", "message/rfc822", content),)))).iter_attachments())
    )
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == content


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "",
            "text",
            "text/",
            "/plain",
            "text/plain/x",
            "text plain",
            "text/plain\r\nX: y",
            "text/pl\x00ain",
            "text/plain x",
        ),
        *("text/plain; charset", "text/plain; =x", 'text/plain; a="b', 'text/plain; a="b\\"c"', "text/plain; a=b; ü=c"),
        *('text/plain; a="b\r\n c"', "text/plain; a=\u2028", "text/plain\x1c", "text/plain;\x0ba=b", "a/" + "b" * 300),
    ],
)
def test_content_types_that_are_refused(kind: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        compose.compose(draft(attachments=(PDF, Part("x", kind, b""))))
    assert list(caught.value.details) == ["attachments.1.content_type"]


# -- trace fields


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("<>", b"X: <>\r\n"),
        ("", b"X:\r\n"),
        ("from a\r\nEvil: b", b"X: from a Evil: b\r\n"),
        ("from a\r\n\tby b", b"X: from a by b\r\n"),
        ("a\x00b\x0bc\x85d\u2028e\ud800f", b"X: a?b?c?d?e?f\r\n"),
        ("ü@x.test", "X: ü@x.test\r\n".encode()),
        ("x" * 80, b"X: " + b"x" * 80 + b"\r\n"),
        ("x" * 40 + " " + "y" * 40, b"X: " + b"x" * 40 + b"\r\n " + b"y" * 40 + b"\r\n"),
    ],
)
def test_trace_headers(value: str, written: bytes) -> None:
    assert serialize.trace_header("X", value) == written


@pytest.mark.parametrize(
    "value", ["x" * 100_000, "ü" * 100_000, " " * 100_000 + "x", "x y " * 50_000, "a" + "\t" * 2000 + "b"]
)
def test_trace_headers_keep_the_hard_limit(value: str) -> None:
    started = time.process_time()
    written = serialize.trace_header("Received", value)
    assert time.process_time() - started < 3
    check_lines(written)
    assert len(fields_of(written + b"\r\n")[0]) == 1


# -- any text in any field


hostile = st.lists(
    st.one_of(
        st.sampled_from(EVIL), st.text(st.characters(), max_size=20), st.text('aé =?_"\\<>@,;:().\r\n\t', max_size=80)
    ),
    max_size=4,
).map("".join)
emails = st.one_of(
    hostile, hostile.map(lambda text: f"{text}@x.test"), hostile.map(lambda text: f"a@{text}"), st.just("a@b.test")
)
good_emails = st.sampled_from(["a@b.test", "jürgen@bücher.test", '"j d"@b.test', "a..b@b.test", "x@[192.0.2.1]"])
good_types = st.sampled_from(["text/plain", "image/png", "multipart/mixed", "a/b; c=d"])
good_ids = st.sampled_from(["m@x", "<m@x>", "cid"])
good_names = st.sampled_from(["X-One", "X-Two", "List-Id", "X-" + "n" * 60])
one_line_values = st.text('aé =?_"\\<>@,;:().\t日\U0001f600', max_size=200)
thread_ids = st.lists(st.one_of(hostile, st.just("<r@x>")), max_size=2).map(tuple)


def drafts_of(
    emails: st.SearchStrategy[str],
    types: st.SearchStrategy[str],
    identifiers: st.SearchStrategy[str],
    names: st.SearchStrategy[str],
    values: st.SearchStrategy[str],
) -> st.SearchStrategy[Draft]:
    """Drafts whose texts for people are hostile, and whose texts for machines are what is asked for."""
    contacts = st.builds(Address, hostile, emails)
    contact_lists = st.lists(contacts, max_size=3).map(tuple)
    pairs = st.lists(st.tuples(names, values), max_size=2).map(tuple)
    parts = st.builds(
        Part,
        filename=st.one_of(st.none(), hostile),
        content_type=types,
        content=st.binary(max_size=200),
        content_id=st.one_of(st.none(), identifiers),
        inline=st.booleans(),
    )
    return st.builds(
        Draft,
        from_=contacts,
        to=contact_lists,
        cc=contact_lists,
        reply_to=contact_lists,
        sender=st.one_of(st.none(), contacts),
        subject=hostile,
        text=st.one_of(st.none(), hostile),
        html=st.one_of(st.none(), hostile),
        attachments=st.lists(parts, max_size=2).map(tuple),
        headers=pairs,
        extra=pairs,
        message_id=st.one_of(st.none(), identifiers),
        date=st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
        in_reply_to=thread_ids,
        references=thread_ids,
    )


good_drafts = drafts_of(good_emails, good_types, good_ids, good_names, one_line_values)
bad_drafts = drafts_of(
    st.integers(0, 15).flatmap(lambda number: good_emails if number else emails),
    st.one_of(good_types, hostile.map(lambda text: f"a/b; c={text}"), hostile),
    st.one_of(good_ids, hostile),
    st.one_of(good_names, hostile, hostile.map(lambda text: f"X-{text}")),
    st.one_of(one_line_values, hostile),
)


def expected_names(draft: Draft) -> list[str]:
    names = ["Date", "From"]
    names += ["Sender"] if draft.sender and draft.sender != draft.from_ else []
    names += [name for name, given in (("Reply-To", draft.reply_to), ("To", draft.to), ("Cc", draft.cc)) if given]
    names += ["Subject"] if one_line(draft.subject) else []
    names += ["Message-ID"]
    names += ["In-Reply-To"] if "<r@x>" in draft.in_reply_to else []
    names += ["References"] if "<r@x>" in draft.references else []
    names += [name for name, _ in (*draft.extra, *draft.headers)]
    names += ["MIME-Version", "Content-Type"]
    single = not draft.attachments and (draft.text is None or draft.html is None)
    return names + (["Content-Transfer-Encoding"] if single else [])


def composed(draft: Draft) -> bytes:
    """The message, or nothing when a field is refused by name."""
    try:
        return compose.compose(draft)
    except errors.Invalid as error:
        refused = error.details
    assert refused
    return b""


def check_draft(draft: Draft, raw: bytes) -> None:
    check_lines(raw)
    fields, _ = fields_of(raw)
    assert [name for name, _ in fields] == expected_names(draft)
    values = dict(fields)
    assert decoded(values.get("Subject", "")) == one_line(draft.subject)
    custom = [decoded(value) for name, value in fields if name.startswith("X-")]
    assert custom == [value.strip(" \t") for name, value in (*draft.extra, *draft.headers) if name.startswith("X-")]
    message = email.message_from_bytes(raw)  # compat32: the older of the two readers
    leaves = [part for part in message.walk() if not part.is_multipart()]
    for part in message.walk():
        assert not part.defects
        inner, _ = fields_of(part.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        allowed = {"content-type", "content-transfer-encoding", "content-disposition", "content-id"}
        assert part is message or {name.lower() for name, _ in inner} <= allowed
    assert sum(part.get_content_disposition() is not None for part in leaves) == len(draft.attachments)
    wanted = sorted(part.content for part in draft.attachments)
    found = sorted(
        cast("bytes", part.get_payload(decode=True)) for part in leaves if part.get_content_disposition() is not None
    )
    assert found == wanted
    bodies = [text for text in (draft.text, draft.html) if text is not None] or ([] if draft.attachments else [""])
    payloads = [
        cast("bytes", part.get_payload(decode=True)) for part in leaves if part.get_content_disposition() is None
    ]
    assert [payload.decode().replace("\r\n", "\n") for payload in payloads] == [lines(text) for text in bodies]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(good_drafts)
def test_any_text_for_people_is_written_and_comes_back(draft: Draft) -> None:
    raw = compose.compose(draft)  # nothing of this is refused
    check_draft(draft, raw)
    check_own_parser(draft, raw)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bad_drafts)
def test_no_text_in_any_field_adds_a_header_line(draft: Draft) -> None:
    raw = composed(draft)
    if raw:
        check_draft(draft, raw)
        check_own_parser(draft, raw)


FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "from name": lambda text: {"from_": Address(text, "a@b.test")},
    "from local": lambda text: {"from_": Address("", f"{text}@b.test")},
    "from domain": lambda text: {"from_": Address("", f"a@{text}")},
    "to name": lambda text: {"to": (TO, Address(text, "a@b.test"))},
    "subject": lambda text: {"subject": text},
    "file name": lambda text: {"attachments": (Part(text, "a/b", b"x"),)},
    "content type": lambda text: {"attachments": (Part("x", f"a/b{text}", b"x"),)},
    "type parameter": lambda text: {"attachments": (Part("x", f'a/b; c="{text}"', b"x"),)},
    "content id": lambda text: {"attachments": (Part("x", "a/b", b"x", content_id=text),)},
    "header name": lambda text: {"headers": ((f"X-{text}", "x"),)},
    "header value": lambda text: {"headers": (("X-A", text),)},
    "extra value": lambda text: {"extra": (("X-A", text),)},
    "message id": lambda text: {"message_id": f"{text}@x"},
    "in reply to": lambda text: {"in_reply_to": (f"<{text}>",)},
    "references": lambda text: {"references": ("<r@x>", f"<{text}>")},
    "text": lambda text: {"text": text},
    "html": lambda text: {"html": text},
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", EVIL)
def test_known_injections_in_every_field(field: str, text: str) -> None:
    for value in (text, f"x{text}", f"{text}x", f"é{text}é", "y" * 90 + text):
        try:
            raw = compose.compose(draft(**FIELDS[field](value)))
        except errors.Invalid:
            continue
        check_lines(raw)
        names = set(names_of(raw))
        assert names <= {*STARTERS, "Subject", "In-Reply-To", "References", "X-A"} | {f"X-{value}"}
        assert "evil.test" not in "".join(value for name, value in fields_of(raw)[0] if name.lower() == "bcc")


@settings(max_examples=200, deadline=None)
@given(hostile)
@example("é" + "a b" * 40)
def test_any_subject_comes_back(text: str) -> None:
    written = serialize.header("Subject", text)
    fields, _ = fields_of(written + b"\r\n")
    assert len(fields) == 1
    assert decoded(fields[0][1]) == one_line(text)


@settings(max_examples=200, deadline=None)
@given(hostile)
def test_any_trace_value_is_one_field(text: str) -> None:
    assert [name for name, _ in fields_of(serialize.trace_header("Received", text) + b"\r\n")[0]] == ["Received"]


@settings(max_examples=200, deadline=None)
@given(hostile)
def test_any_body_comes_back(text: str) -> None:
    raw = compose.compose(draft(text=text + "é"))
    encoding = dict(fields_of(raw)[0])["Content-Transfer-Encoding"]
    body = fields_of(raw)[1]
    back = quopri.decodestring(body) if encoding == "quoted-printable" else base64.b64decode(body)
    assert back.decode().replace("\r\n", "\n") == lines(text + "é")


# -- our own parser reads what our own composer writes


def without_quotes(email_: str) -> tuple[str, str]:
    """Local part and domain; whether the local part stands in quotes makes no other address (RFC 5321 §4.1.2)."""
    local, _, domain = email_.rpartition("@")
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if local.startswith('"') else local, domain


def check_own_parser(draft: Draft, raw: bytes) -> None:
    parsed = message.parse(raw)
    assert parsed.subject == one_line(draft.subject).strip()
    for given_, found in (
        ((draft.from_,), parsed.from_),
        (draft.reply_to, parsed.reply_to),
        (draft.to, parsed.to),
        (draft.cc, parsed.cc),
    ):
        written = [serialize.address(one.email, "x") for one in given_]
        assert [without_quotes(one.email) for one in found] == [without_quotes(one) for one in written]
        assert [" ".join(one.name.split()) for one in found] == [" ".join(one_line(one.name).split()) for one in given_]
    assert not parsed.bcc
    assert draft.date is None or parsed.date == draft.date.replace(microsecond=0)
    assert parsed.in_reply_to == (("<r@x>",) if "<r@x>" in draft.in_reply_to else ())
    files = {
        (one.content_id, one.disposition, b"".join(message.decoded(one, raw)), one.size_bytes)
        for one in parsed.attachments
    }
    for part in draft.attachments:
        if not part.filename or part.content_type.startswith("text/"):
            continue
        content_id = (part.content_id or "").removeprefix("<").removesuffix(">") or None
        assert (content_id, "inline" if part.inline else "attachment", part.content, len(part.content)) in files
    if draft.text is not None and not draft.attachments:
        assert message.text(parsed, raw) == lines(draft.text)
    if draft.html is not None and not draft.attachments:
        assert message.html(parsed, raw) == lines(draft.html)


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if "=?" not in name])  # it decodes those on purpose
def test_our_parser_reads_file_names_back(name: str) -> None:
    raw = compose.compose(draft(attachments=(Part(name, "application/pdf", b"x"),)))
    assert [one.filename for one in message.parse(raw).attachments] == [name.replace("\t", "_").strip()]


@pytest.mark.parametrize(
    "name", ["Jürgen Müller", "日本 " * 50, 'a "b" \\c, d', "=?utf-8?q?x?=", "a.b " * 30, "(x) <y>"]
)
def test_our_parser_reads_display_names_back(name: str) -> None:
    raw = compose.compose(draft(cc=(Address(name, "a@b.test"),) * 3))
    assert message.parse(raw).cc == (Address(" ".join(name.split()), "a@b.test"),) * 3
