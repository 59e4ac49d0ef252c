"""Whole messages: ordinary ones, and the odd ones that other parsers get wrong."""

import base64
import binascii
import mmap
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restante.mail import message as mail
from restante.mail import structure
from restante.mail.address import Address


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


ORDINARY = crlf(
    """Received: from a by b; Fri, 21 Nov 1997 09:55:07 -0600
From: "Doe, John" <john@example.com>
To: a@example.org, Joe <joe@example.org>
Cc: team: x@example.org, y@example.org;
Subject: =?utf-8?B?4pyT4g==?=
 =?utf-8?B?nJM=?= hi =?iso-8859-1?Q?gr=FC=DFe?=
Date: Fri, 21 Nov 1997 09:55:06 -0600
Message-ID: <1@example.com>
In-Reply-To: <0@example.com>
References: <root@example.com>
 <0@example.com>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="xx"

preamble
--xx
Content-Type: multipart/alternative; boundary=xxy

--xxy
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe an =
alle
--xxy
Content-Type: text/html

<p>Gruss</p>
--xxy--

--xx
Content-Type: application/pdf; name*0*=utf-8''%c3%a9; name*1=.pdf
Content-Disposition: attachment
Content-Transfer-Encoding: base64

aGVsbG8=
--xx
Content-Type: message/rfc822

Subject: inner

inner body
--xx--
epilogue
"""
)


def test_an_ordinary_message() -> None:
    message = mail.parse(ORDINARY)
    assert message.subject == "✓✓ hi grüße"
    assert message.from_ == (Address("Doe, John", "john@example.com"),)
    assert [one.email for one in message.to] == ["a@example.org", "joe@example.org"]
    assert [one.email for one in message.cc] == ["x@example.org", "y@example.org"]
    assert message.date == datetime(1997, 11, 21, 15, 55, 6, tzinfo=UTC)
    assert message.message_id == "<1@example.com>"
    assert message.in_reply_to == ("<0@example.com>",)
    assert message.references == ("<root@example.com>", "<0@example.com>")
    assert mail.text(message, ORDINARY) == "Grüße an alle"
    assert mail.html(message, ORDINARY) == "<p>Gruss</p>"
    assert mail.preview(message, ORDINARY) == "Grüße an alle"
    assert [
        (one.index, one.filename, one.content_type, one.size_bytes, one.section) for one in message.attachments
    ] == [
        (0, "é.pdf", "application/pdf", 5, "2"),
        (1, None, "message/rfc822", 28, "3"),
    ]
    assert b"".join(mail.decoded(message.attachments[0], ORDINARY)) == b"hello"
    assert b"".join(mail.decoded(message.attachments[1], ORDINARY)) == b"Subject: inner\r\n\r\ninner body"


def test_sections_and_offsets() -> None:
    root = mail.parse(ORDINARY).root
    assert [part.section for part in structure.walk(root, into_messages=True)] == [
        "TEXT",
        "1",
        "1.1",
        "1.2",
        "2",
        "3",
        "3.1",
    ]
    inner = structure.find_part(root, "3.1")
    assert inner is not None
    assert ORDINARY[inner.start : inner.body_start] == b"Subject: inner\r\n\r\n"
    assert ORDINARY[inner.body_start : inner.end] == b"inner body"


def test_searchable_has_names_addresses_attachments_and_text() -> None:
    lines = mail.searchable(mail.parse(ORDINARY), ORDINARY).split("\n")
    assert lines == [
        "✓✓ hi grüße",
        "Doe, John john@example.com",
        "a@example.org",
        "Joe joe@example.org",
        "x@example.org",
        "y@example.org",
        "é.pdf",
        "Grüße an alle",
    ]


def test_extracts_are_preview_and_searchable() -> None:
    message = mail.parse(ORDINARY)
    assert mail.extracts(message, ORDINARY) == (mail.preview(message, ORDINARY), mail.searchable(message, ORDINARY))


def test_headers_are_all_there_in_order() -> None:
    found = mail.headers(ORDINARY)
    assert [name for name, _ in found][:3] == ["Received", "From", "To"]
    assert ("Subject", "✓✓ hi grüße") in found
    assert ("References", "<root@example.com> <0@example.com>") in found


def test_a_message_survives_dump_and_pickle() -> None:
    message = mail.parse(ORDINARY)
    assert mail.load(mail.dump(message)) == message
    assert pickle.loads(pickle.dumps(message)) == message


def test_a_memory_map_reads_as_bytes_do(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(ORDINARY)
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        message = mail.parse(mapped)
        assert message == mail.parse(ORDINARY)
        assert mail.searchable(message, mapped) == mail.searchable(message, ORDINARY)
        assert mail.headers(mapped) == mail.headers(ORDINARY)
        assert b"".join(mail.decoded(message.attachments[0], mapped)) == b"hello"


def test_bare_line_feeds_read_as_crlf_does() -> None:
    raw = ORDINARY.replace(b"\r\n", b"\n")
    message = mail.parse(raw)
    assert mail.text(message, raw) == "Grüße an alle"
    assert [one.filename for one in message.attachments] == ["é.pdf", None]


# --- odd messages (the cases of the design's survey of parsers) ------------------------------------------------------


def with_subject(value: bytes) -> bytes:
    return b"Subject: " + value + b"\r\nFrom: a@example.org\r\n\r\nx"


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"=?utf-8?B?4pyT4g==?=\r\n =?utf-8?B?nJM=?=", "✓✓"),
        (b"=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=", "日本語"),
        (b"=?unknown-charset?Q?abc?=", "abc"),
        (b"=?gb2312?B?6UY=?=", "镕"),
        ("Grüße ✓".encode(), "Grüße ✓"),
        (b"Gr\xfc\xdfe", "Grüße"),
        (b"=?iso-8859-1?Q?Gr\xfc=DFe?=", "Grüße"),
        (b"=?utf-8?q?a_b?= c =?utf-8?q?d?=", "a b c d"),
        (b"=?utf-8*en?q?language?=", "language"),
        (b"=?utf-8?q?not closed", "=?utf-8?q?not closed"),
        (b"a=?utf-8?q?=62?=c", "abc"),
        (b"=?utf-8?q?line=0D=0ABcc:_x?=", "line  Bcc: x"),
        (b"a\x00b", "a b"),
        (b"folded\r\n\twith a tab", "folded with a tab"),
    ],
)
def test_subjects(raw: bytes, subject: str) -> None:
    assert mail.parse(with_subject(raw)).subject == subject


def attached(headers: bytes, body: bytes = b"x") -> bytes:
    return (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n'
        + headers
        + b"\r\n\r\n"
        + body
        + b"\r\n--b--\r\n"
    )


@pytest.mark.parametrize(
    ("fields", "filename"),
    [
        (b"Content-Disposition: attachment; filename*=utf-8''%e2%9c%93.pdf", "✓.pdf"),
        (
            b"Content-Disposition: inline;\r\n filename*0*=iso-8859-1'de'%fc;\r\n filename*1=b.p;\r\n filename*2*=%64f",
            "üb.pdf",
        ),
        (b'Content-Disposition: attachment; filename="=?UTF-8?B?w6kucGRm?="', "é.pdf"),
        ('Content-Disposition: attachment; filename="é.pdf"'.encode(), "é.pdf"),
        (b'Content-Disposition: attachment; filename="\xe9.pdf"', "é.pdf"),
        (b"Content-Disposition: attachment; filename=two words.pdf", "two words.pdf"),
        (b'Content-Disposition: attachment; filename="a\\"b.pdf"', 'a"b.pdf'),
        (b'Content-Disposition: attachment; filename="C:\\dir\\x.pdf"', "C:\\dir\\x.pdf"),
        (b'Content-Disposition: attachment; filename="not closed.pdf', "not closed.pdf"),
        (b'Content-Type: application/pdf; name="n.pdf"', "n.pdf"),
        (b"Content-Disposition: attachment; filename=x.pdf; filename*=utf-8''y.pdf", "y.pdf"),
        (b"Content-Disposition: attachment; filename*=utf-8''%3D%3Futf-8%3Fq%3Fa%3F%3D.pdf", "=?utf-8?q?a?=.pdf"),
        (b'Content-Disposition: attachment; filename*0="=?utf-8?q?a"; filename*1="b?=.pdf"', "ab.pdf"),
        (b"Content-Disposition: attachment", None),
        (b'Content-Disposition: ; filename="semicolon.png"', "semicolon.png"),
    ],
)
def test_filenames(fields: bytes, filename: str | None) -> None:
    message = mail.parse(attached(fields))
    assert [one.filename for one in message.attachments] == [filename]


@pytest.mark.parametrize(
    ("fields", "body", "text"),
    [
        (b"Content-Type: text/plain; charset=gb2312", b"\xe9F\xbb\xf9", "镕基"),
        (b"Content-Type: text/plain; charset=iso-8859-1", b"\x93hi\x94 \x80", "“hi” €"),
        (b"Content-Type: text/plain", "é✓".encode(), "é✓"),
        (b"Content-Type: text/plain; charset=us-ascii", "é✓".encode(), "é✓"),
        (b"Content-Type: text/plain; charset=nonsense", b"hi", "hi"),
        (b"Content-Type: text/plain; charset=utf-7", b"+AOk-", "é"),
        (b"Content-Type: text/plain; charset=zip", b"hi", "hi"),
        (b"Content-Transfer-Encoding: base64", b"a G V\r\n*s b G 8", "hello"),
        (b"Content-Transfer-Encoding: BASE64", b"aGVsbG8= ignored", "hello"),
        (b"Content-Transfer-Encoding: quoted-printable", b"a=3D=zz=\r\nb= \r\nc=", "a==zzbc"),
        (b"Content-Transfer-Encoding: x-uuencode", b"begin 644 a\r\n%:&5L;&\\\r\n`\r\nend\r\n", "hello"),
        (b"Content-Transfer-Encoding: uuencode", b"junk\nbegin 644 a\n#86)CX\nnone\n\n#86)C\nend\n#86)C\n", "abcabc"),
        (b"Content-Transfer-Encoding: uuencode", b"begin 644 a\n" + b"#\n" * 2_000, "begin 644 a\n" + "#\n" * 2_000),
        (b"Content-Transfer-Encoding: uuencode", b"no such thing", ""),
        (b"Content-Transfer-Encoding: quoted-printable", b"a= \t\r\nb=20 \r\nc", "ab  \nc"),
        (b"Content-Transfer-Encoding: nonsense", b"hi", "hi"),
        (b"Content-Type: text", b"hi", "hi"),
        (b"Content-Type: ", b"hi", "hi"),
        (b"Content-Type: multipart/mixed", b"no boundary at all", "no boundary at all"),
        (b"Content-Type: multipart/mixed; boundary=never", b"it never\r\nappears", "it never\nappears"),
        (b"Content-Type: multipart/mixed boundary=b", b"--b\r\n\r\nhi\r\n--b--", "hi"),
        (b"X: y", b"NUL \x00 byte", "NUL \x00 byte"),
    ],
)
def test_bodies(fields: bytes, body: bytes, text: str) -> None:
    raw = fields + b"\r\n\r\n" + body
    assert mail.text(mail.parse(raw), raw) == text


def test_a_boundary_that_begins_another() -> None:
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\none\n"
        "--ab--\n--a  \n\ntwo\n--a-- \n"
    )
    message = mail.parse(raw)
    assert [part.section for part in structure.walk(message.root)] == ["TEXT", "1", "1.1", "2"]
    assert mail.text(message, raw) == "one\ntwo"


def test_a_missing_close_loses_nothing() -> None:
    raw = crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\n\ntwo")
    assert mail.text(mail.parse(raw), raw) == "one\ntwo"


def test_an_outer_boundary_ends_what_is_inside() -> None:
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/x; boundary=b\n\n"
        "--b\n\none\n--a\n\ntwo\n--a--"
    )
    assert mail.text(mail.parse(raw), raw) == "one\ntwo"


def test_bytes_without_a_header_are_a_text() -> None:
    for raw in (b"Hello world, this is no header.\r\nBye.\r\n", b"\r\nHello", b"", b"\x00\xff" * 50, b":\r\n\r\n"):
        message = mail.parse(raw)
        assert message.subject == ""
        assert mail.text(message, raw) is not None
    assert mail.preview(mail.parse(b"Hello world.\r\nBye."), b"Hello world.\r\nBye.") == "Hello world. Bye."


def test_junk_in_the_header_is_left_out() -> None:
    raw = b"From someone Fri Nov 21 09:55:06 1997\r\nSubject: hi\r\nlost its fold\r\nTo: a@example.org\r\n\r\nbody"
    message = mail.parse(raw)
    assert (message.subject, message.to[0].email) == ("hi", "a@example.org")
    assert mail.text(message, raw) == "body"


def test_a_missing_blank_line_before_the_body() -> None:
    raw = b"Subject: hi\r\nThis is the body\r\nand more of it.\r\n"
    message = mail.parse(raw)
    assert message.subject == "hi"
    assert mail.text(message, raw) == "This is the body\nand more of it.\n"


def test_deep_nesting_and_many_parts_are_bounded() -> None:
    deep = (
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(300))
        + b"\r\nend"
    )
    assert "end" in mail.searchable(mail.parse(deep), deep)
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 10_000 + b"--b--"
    root = mail.parse(many).root
    assert 900 < len(root.children) <= structure.MAX_PARTS
    assert root.children[-1].end == len(many)


def test_a_preview_ends_with_a_whole_character() -> None:
    head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    for width in range(20, 80):  # the first look at the text ends at every place of a letter near the 200th
        raw = head + b"x" * width + b"=C3=A9" * 300
        assert mail.preview(mail.parse(raw), raw) == "x" * width + "é" * (200 - width)


def test_html_only_messages_have_a_preview() -> None:
    raw = b"Content-Type: text/html; charset=utf-8\r\n\r\n<style>p {}</style><p>Hello <b>you</b> &amp; me</p>"
    message = mail.parse(raw)
    assert mail.text(message, raw) is None
    assert mail.preview(message, raw) == "Hello you & me"
    assert "Hello you & me" in mail.searchable(message, raw)


def test_html_charset_from_its_meta() -> None:
    raw = b'Content-Type: text/html\r\n\r\n<meta charset="koi8-r"><p>\xf0\xd2\xc9\xd7\xc5\xd4'
    assert mail.preview(mail.parse(raw), raw) == "Привет"


def test_inline_images_are_attachments_with_a_content_id() -> None:
    raw = crlf(
        "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html\n\n<img src=cid:i@x>\n--r\n"
        "Content-Type: image/png\nContent-ID: <i@x>\nContent-Disposition: inline; filename=i.png\n"
        "Content-Transfer-Encoding: base64\n\nAAAA\n--r--"
    )
    (one,) = mail.parse(raw).attachments
    assert (one.content_id, one.disposition, one.size_bytes, one.filename) == ("i@x", "inline", 3, "i.png")


@pytest.mark.parametrize("size", [3_000_000, 3_000_001, 3_000_002])
def test_large_attachments_stream_in_chunks(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    raw = attached(
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64",
        base64.encodebytes(data).replace(b"\n", b"\r\n"),
    )
    (one,) = mail.parse(raw).attachments
    chunks = list(mail.decoded(one, raw))
    assert one.size_bytes == size
    assert len(chunks) > 2
    assert b"".join(chunks) == data


def test_texts_are_decoded_up_to_a_limit() -> None:
    part = b"--b\r\n\r\n" + b"a" * (mail.MAX_TEXT_BYTES // 2 + 1) + b"\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 4 + b"--b--\r\n"
    found = mail.text(mail.parse(raw), raw)
    assert found is not None
    assert len(found.replace("\n", "")) == mail.MAX_TEXT_BYTES


def test_large_uuencode_streams_in_chunks() -> None:
    content = bytes(range(256)) * 20_000
    lines = [binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45)]
    raw = (
        b"Content-Type: a/b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\n"
        + b"".join(lines)
        + b"`\nend\n"
    )
    (attachment,) = mail.parse(raw).attachments
    assert attachment.size_bytes == len(content)
    assert b"".join(mail.decoded(attachment, raw)) == content
    assert max(map(len, mail.decoded(attachment, raw))) <= mail.CHUNK_BYTES


def test_large_quoted_printable_streams_in_chunks() -> None:
    raw = attached(b"Content-Type: image/x\r\nContent-Transfer-Encoding: quoted-printable", b"=41" * 700_000)
    (one,) = mail.parse(raw).attachments
    assert b"".join(mail.decoded(one, raw)) == b"A" * 700_000


def test_a_base64_message_is_one_attachment() -> None:
    inner = base64.encodebytes(b"Subject: inner\r\n\r\nhi")
    raw = attached(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", inner)
    (one,) = mail.parse(raw).attachments
    assert b"".join(mail.decoded(one, raw)) == b"Subject: inner\r\n\r\nhi"


def test_threads_share_a_key() -> None:
    first = mail.parse(b"Message-ID: <a@x>\r\nSubject: s\r\n\r\n")
    second = mail.parse(b"Message-ID: <b@x>\r\nIn-Reply-To: <a@x>\r\n\r\n")
    third = mail.parse(b"Message-ID: <c@x>\r\nReferences: <a@x> <b@x>\r\n\r\n")
    assert first.thread_key == second.thread_key == third.thread_key
    assert 0 <= first.thread_key < 1 << 63
