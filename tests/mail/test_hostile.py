"""Hostile input: nothing raises, nothing is quadratic, nothing is unbounded."""

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restante.errors import Invalid
from restante.mail import address, charset, dates, headers, html, imap_values, structure, threads
from restante.mail import message as mail

PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"--b",
    b"--b--",
    b"--bb",
    b"\r\n--b\r\n",
    b"\r\n--b--\r\n",
    b"Content-Type: ",
    b"multipart/mixed",
    b"; boundary=b",
    b'; boundary="b',
    b"; charset=",
    b"utf-7",
    b"message/rfc822",
    b"text/html",
    b"text/plain",
    b"Content-Transfer-Encoding: ",
    b"base64",
    b"quoted-printable",
    b"x-uuencode",
    b"Subject: ",
    b"From: ",
    b"To: ",
    b"Date: ",
    b"References: ",
    b"=?utf-8?q?",
    b"=?utf-8?b?",
    b"?=",
    b"=C3=A9",
    b"4pyT",
    b"=",
    b"==",
    b'"',
    b"\\",
    b"(",
    b")",
    b"<",
    b">",
    b"@",
    b",",
    b";",
    b":",
    b"'",
    b"*0*=",
    b"filename",
    b"name*1*=utf-8''%c3",
    b"\xff",
    b"\xc3\xa9",
    b"\x00",
    b"\x1b$B",
    b"begin 644 x",
    b"end",
    b"<p>",
    b"<!--",
    b"<script>",
    b"&amp;",
    b"Fri, 21 Nov 1997 09:55:06 -0600",
    b"a",
    b"Content-Disposition: attachment; ",
    b"Content-ID: ",
    b"\xd8\x00",
    b"+2AA-",
]
soup = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)), max_size=60).map(b"".join)


def exercise(raw: bytes) -> None:
    message = mail.parse(raw)
    assert mail.load(mail.dump(message)) == message
    assert len(mail.preview(message, raw)) <= mail.PREVIEW_LENGTH
    assert "\n" not in mail.preview(message, raw)
    assert "\n" not in message.subject
    assert "\r" not in message.subject
    assert len(mail.searchable(message, raw)) <= mail.MAX_SEARCHABLE
    mail.searchable(message, raw).encode("utf-8")
    (mail.text(message, raw) or "").encode("utf-8")
    (mail.html(message, raw) or "").encode("utf-8")
    for name, value in mail.headers(raw):
        assert "\n" not in name + value
    envelope, body = imap_values.envelope(message), imap_values.bodystructure(message)
    assert b"\x00" not in envelope + body
    sections = set()
    for part in structure.walk(message.root, into_messages=True):
        assert 0 <= part.start <= part.body_start <= part.end <= len(raw)
        assert part.section not in sections
        sections.add(part.section)
        for child in part.children:
            assert part.body_start <= child.start
            assert child.end <= part.end
    for attachment in message.attachments:
        assert attachment.size_bytes == sum(map(len, mail.decoded(attachment, raw)))


@settings(max_examples=300, deadline=None)
@given(soup)
@example(b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b")
@example(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b")
def test_any_bytes_are_a_message(raw: bytes) -> None:
    exercise(raw)
    exercise(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + raw)


@settings(max_examples=300, deadline=None)
@given(soup.map(charset.guess))
def test_any_text_is_a_value(value: str) -> None:
    headers.words(value).encode("utf-8")
    headers.parameters(value)
    headers.content_type(value.encode())
    address.parse(value.encode())
    dates.parse(value)
    threads.base_subject(value)
    html.to_text(value).encode("utf-8")
    try:
        form = address.normalise(value)
    except Invalid:
        return
    assert address.normalise(form) == form


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_charset_decodes(data: bytes, label: str) -> None:
    charset.decode(data, label).encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80))
def test_encoded_words_come_back(text: str) -> None:
    import base64

    word = f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
    assert headers.words(word) == text.strip()


MIXED = b"Content-Type: multipart/x; boundary=b\r\n\r\n"
HTML = b"Content-Type: text/html\r\n\r\n"
UUENCODE = b"Content-Transfer-Encoding: uuencode\r\n\r\nbegin 1 x\n"
Maker = Callable[[int], bytes]
HOSTILE: dict[str, Maker] = {
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?a?= " * n + b"\r\n\r\n",
    "open encoded words": lambda n: b"Subject: " + b"=?utf-8?q?" * n + b"\r\n\r\n",
    "one long header line": lambda n: b"Subject: " + b"x" * (n * 20) + b"\r\n\r\n",
    "header fields": lambda n: b"A: b\r\n" * n + b"\r\n",
    "folded lines": lambda n: b"Subject: x\r\n" + b" y\r\n" * n + b"\r\n",
    "junk lines": lambda n: b"Subject: x\r\n" + b"junk\r\n" * n + b"To: x\r\n\r\n",
    "open comments": lambda n: b"From: " + b"(" * n + b"\r\n\r\n",
    "nested comments": lambda n: b"From: " + b"(" * n + b")" * n + b" a@b\r\n\r\n",
    "open quotes": lambda n: b"From: " + b'\\"' * n + b"\r\n\r\n",
    "open angles": lambda n: b"From: " + b"<" * n + b"\r\n\r\n",
    "groups": lambda n: b"To: " + b"g:a@b;" * n + b"\r\n\r\n",
    "addresses": lambda n: b"To: " + b"a <b@c>, " * n + b"\r\n\r\n",
    "spaces": lambda n: b"To: a%bb\r\nSubject: a%bb\r\nContent-Type: a/b; c=d%be)\r\n\r\n" % ((b" " * n,) * 3),
    "semicolons": lambda n: b"Content-Type: a/b" + b";" * n + b"\r\n\r\n",
    "parameters": lambda n: b"Content-Type: a/b" + b"; c*0*=d" * n + b"\r\n\r\n",
    "references": lambda n: b"References: " + b"<a" * n + b"<a@b> " * n + b"\r\n\r\n",
    "date": lambda n: b"Date: " + b"Fri, " * n + b"1" * n + b"\r\n\r\n",
    "parts": lambda n: MIXED + b"--b\r\n\r\nx\r\n" * n,
    "near delimiters": lambda n: MIXED + b"--bx\r\n" * n,
    "delimiters with a tail": lambda n: MIXED + (b"--b" + b" " * 900 + b"x\r\n") * (n // 100),
    "nesting": lambda n: b"".join(
        b"Content-Type: multipart/x; boundary=b%d\r\n\r\n--b%d\r\n" % (k, k) for k in range(n // 4)
    ),
    "nested messages": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * (n // 4),
    "html tags": lambda n: HTML + b"<div>" * n,
    "html openers": lambda n: HTML + b"<a " * n + b"<!-- " * n,
    "html quotes": lambda n: HTML + b'<a b="' * n + b">" * n,
    "html spaces": lambda n: HTML + b"a&nbsp;" * n + b" " * n + b"\n" * n,
    "html scripts": lambda n: HTML + b"<script></script>" * n + b"<script>" * n,
    "html ampersands": lambda n: HTML + b"&" * n,
    "base64 padding": lambda n: b"Content-Transfer-Encoding: base64\r\n\r\n" + b"YQ==" * n,
    "quoted-printable": lambda n: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=   " * n,
    "uuencode": lambda n: UUENCODE + b"#86)C\n" * n,
    "uuencode of one letter": lambda n: b"Content-Type: a/b\r\n" + UUENCODE + b"#\n" * n,
    "uuencode text": lambda n: UUENCODE + b"#\n" * n,
    "uuencode damage": lambda n: (
        b"Content-Type: a/b\r\n" + UUENCODE + b"#86)CXXXXXXXXXXXX\n#86)cxxxxxxxxxxxx\n" * (n // 4)
    ),
    "bytes without a letter": lambda n: b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n" + b"\x81" * n * 10,
    "bytes out of a charset": lambda n: b"Content-Type: text/plain; charset=iso-8859-7\r\n\r\n" + b"\xff" * n * 10,
    "nesting over a body": lambda n: (
        b"".join(b"Content-Type: multipart/x; boundary=b%d\r\n\r\n--b%d\r\n" % (k, k) for k in range(60))
        + b"line\n" * n
    ),
    "utf-7": lambda n: b"Content-Type: text/plain; charset=utf-7\r\n\r\n" + b"+AOk-" * n,
}


def seconds(raw: bytes) -> float:
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        message = mail.parse(raw)
        mail.preview(message, raw)
        mail.searchable(message, raw)
        mail.headers(raw)
        imap_values.envelope(message)
        imap_values.bodystructure(message)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_time_is_linear(name: str) -> None:
    # four times the bytes: 4 when linear, 16 when quadratic; short times are noise, a busy machine gets five tries
    found = []
    for _ in range(5):
        small, large = seconds(HOSTILE[name](20_000)), seconds(HOSTILE[name](80_000))
        if large < max(small, 0.005) * 9:
            return
        found.append((small, large))
    pytest.fail(f"not linear: {found}")


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_large_ones_end_soon(name: str) -> None:
    assert seconds(HOSTILE[name](50_000)) < 3
