"""ENVELOPE and BODYSTRUCTURE as wire bytes (RFC 9051 §7.5.2)."""

from restante.mail import imap_values, structure
from restante.mail import message as mail


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def test_the_envelope_of_the_rfc() -> None:
    raw = crlf(
        """Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev2 WG mtg summary and minutes
To: imap@cac.washington.edu
Cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.ed>

x"""
    )
    assert imap_values.envelope(mail.parse(raw)) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.ed>")'
    )


def test_groups_quotes_and_raw_bytes() -> None:
    raw = b'To: g: "q w"@x.org;\r\nFrom: "a\\"b" <c@d.e>\r\nSubject: Gr\xfc\xdfe \\ "x"\r\nSender:\r\n\r\nx'
    value = imap_values.envelope(mail.parse(raw))
    assert value == (
        b'(NIL {11}\r\nGr\xfc\xdfe \\ "x" (("a\\"b" NIL "c" "d.e")) '
        b'(("a\\"b" NIL "c" "d.e")) (("a\\"b" NIL "c" "d.e")) '
        b'((NIL NIL "g" NIL)(NIL NIL "q w" "x.org")(NIL NIL NIL NIL)) NIL NIL NIL NIL)'
    )


def test_an_empty_message() -> None:
    message = mail.parse(b"")
    assert imap_values.envelope(message) == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    assert (
        imap_values.bodystructure(message)
        == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    )


def test_a_body_structure() -> None:
    raw = crlf(
        """Content-Type: multipart/mixed; boundary="x y"

--x y
Content-Type: TEXT/PLAIN; charset=US-ASCII
Content-Language: en, de

one
two
--x y
Content-Type: image/png; name="é.png"
Content-ID: <i@x>
Content-Description: a "picture"
Content-Disposition: inline; filename=a.png
Content-Transfer-Encoding: BASE64

AAAA
--x y
Content-Type: message/rfc822

Subject: inner

hi
--x y--
"""
    )
    message = mail.parse(raw)
    assert imap_values.bodystructure(message) == (
        b'(("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 8 1 NIL NIL ("en" "de") NIL)'
        b'("image" "png" ("name*" "utf-8\'\'%C3%A9.png") "<i@x>" "a \\"picture\\"" "base64" 4 NIL '
        b'("inline" ("filename" "a.png")) NIL NIL)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) '
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)'
        b' "mixed" ("boundary" "x y") NIL NIL NIL)'
    )
    assert imap_values.bodystructure(message, extended=False).endswith(b' "mixed")')
    assert b"inline" not in imap_values.bodystructure(message, extended=False)


def test_nothing_of_a_sender_breaks_the_line() -> None:
    raw = b'Subject: a\x00\x01b\r\nContent-Type: text/x; a="b\x00\xff\r\n c"; b=c\x07\r\nContent-ID: <a\x00>\r\n\r\n'
    message = mail.parse(raw)
    assert b"\x00" not in imap_values.envelope(message) + imap_values.bodystructure(message)
    assert structure.find_part(message.root, "1") is message.root


def test_strings() -> None:
    assert imap_values.string(None) == b"NIL"
    assert imap_values.string(b"") == b'""'
    assert imap_values.string(b'a"b\\') == b'"a\\"b\\\\"'
    assert imap_values.string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert imap_values.string("é".encode()) == b"{2}\r\n\xc3\xa9"
