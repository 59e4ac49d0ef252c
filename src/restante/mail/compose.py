"""Composing a message: values in, RFC 5322 and MIME bytes out (RFC 2045, 2046, 2183, 2231, 2387).

The shape is the smallest one that holds what the draft has: one text part; ``multipart/alternative`` for text and HTML;
``multipart/related`` around the HTML and its inline parts; ``multipart/mixed`` around that and the attachments.

What becomes of hostile input, field by field (none of it can add a line to the header):

=========================  ===================================================================================
subject, display names     made harmless: controls, CR, LF, NUL, U+0085, U+2028/9 become a space
file names                 made harmless: the same become ``_``; cut to 255 characters
text, html                 any str; CR, LF and CRLF all become CRLF, lone surrogates U+FFFD
addresses                  refused; domains become A-labels, a local part that is not ASCII stays UTF-8 (RFC 6532)
message_id, content_id     refused unless printable ASCII without spaces and brackets
in_reply_to, references    ids that cannot stand in a header are left out (they come from other people's mail)
content_type               refused unless it follows RFC 2045 §5.1; ``multipart/*`` is sent as application/octet-stream
headers                    refused: names that are no token or in ``FORBIDDEN_HEADERS``, values with controls
extra                      as ``headers``, but only the fields that the composer writes itself are refused
=========================  ===================================================================================

Refused means ``errors.Invalid`` with ``details`` = {field: reason}; fields of a list are numbered (``to.3``,
``attachments.0.content_type``). The result is pure ASCII unless an address needs SMTPUTF8 (RFC 6531).
"""

import secrets
from binascii import b2a_base64, b2a_qp
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from restante import clock, ids
from restante.mail import serialize
from restante.mail.address import Address

FORBIDDEN_HEADERS = frozenset(
    {
        "authentication-results",
        "bcc",
        "cc",
        "date",
        "dkim-signature",
        "from",
        "message-id",
        "mime-version",
        "received",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    }
)  # and content-*: see is_forbidden
_OWN_HEADERS = frozenset(
    {"bcc", "cc", "date", "from", "message-id", "mime-version", "reply-to", "sender", "subject", "to"}
)
_ONCE = {"in-reply-to", "references"}  # RFC 5322 §3.6: at most one of each
_LINE_OCTETS = 57  # 76 characters of base64 (RFC 2045 §6.8)
_BLOCK_OCTETS = _LINE_OCTETS * 8192
_PRINTABLE = bytes([9, 10, 13, *range(32, 127)])
_QP_LITERAL = bytes([9, 10, 13, *range(32, 61), *range(62, 127)])
_OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Part:
    """A file to send along. ``inline`` with a ``content_id`` makes it a part of the HTML (``cid:...``)."""

    filename: str | None
    content_type: str
    content: bytes
    content_id: str | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What a message shall say. ``headers`` come from a user, ``extra`` from our own code (Auto-Submitted, List-Id)."""

    from_: Address
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    sender: Address | None = None
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Part, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    message_id: str | None = None
    date: datetime | None = None
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entity:
    """One MIME entity ready to write: its header lines and its body in pieces; no CRLF at the body's end is its own."""

    header: bytes
    body: list[bytes]
    literal: bool = False  # the body went out as it was, so that it may contain anything


def compose(draft: Draft) -> bytes:
    """The whole message with CRLF line ends, no line over 998 octets.

    Date (the current time) and Message-ID (a new one at the sender's domain) are made when the draft has none. Bcc is
    not part of a draft. ``Invalid`` as the module's table says. Time and memory are linear in the draft's size.
    """
    fields = _fields(draft)
    entity = _structure(draft)
    pieces = [fields, b"MIME-Version: 1.0\r\n", entity.header, serialize.CRLF, *entity.body]
    if entity.body and not pieces[-1].endswith(serialize.CRLF):
        pieces.append(serialize.CRLF)
    return b"".join(pieces)


def is_forbidden(name: str) -> bool:
    """Whether a user's own header may not have this name, in any letter case."""
    name = name.lower()
    return name in FORBIDDEN_HEADERS or name.startswith("content-")


# -- the header


def _fields(draft: Draft) -> bytes:
    sender = serialize.address(draft.from_.email, "from")
    message_id = draft.message_id or f"{ids.new_uuid()}@{sender.rpartition('@')[2]}"
    lines = [
        serialize.structured("Date", [serialize.date(draft.date or clock.now())]),
        serialize.addresses("From", (draft.from_,), "from"),
    ]
    if draft.sender and draft.sender != draft.from_:  # RFC 5322 §3.6.2: not when both are the same
        lines.append(serialize.addresses("Sender", (draft.sender,), "sender"))
    lines += [
        serialize.addresses(name, values, field)
        for name, values, field in (
            ("Reply-To", draft.reply_to, "reply_to"),
            ("To", draft.to, "to"),
            ("Cc", draft.cc, "cc"),
        )
        if values
    ]
    if serialize.clean(draft.subject):
        lines.append(serialize.header("Subject", draft.subject))
    lines += [
        serialize.structured("Message-ID", [serialize.identifier(message_id, "message_id")]),
        serialize.references("In-Reply-To", draft.in_reply_to),
        serialize.references("References", draft.references),
        *_free_fields(draft),
    ]
    return b"".join(lines)


def _free_fields(draft: Draft) -> Iterator[bytes]:
    """The fields that the draft names itself."""
    once = {"in-reply-to"} if draft.in_reply_to else set()
    once |= {"references"} if draft.references else set()
    for field, pairs in (("extra", draft.extra), ("headers", draft.headers)):
        for name, value in pairs:
            lower = serialize.require_name(name, field).lower()
            forbidden = is_forbidden(name) if field == "headers" else lower in _OWN_HEADERS
            if forbidden or lower.startswith("content-") or lower in once:
                raise serialize.invalid(field, f"{name}: this header is not yours to set")
            if lower in _ONCE:
                once.add(lower)
            yield serialize.raw_header(name, value, field)


# -- the body


def _structure(draft: Draft) -> _Entity:
    files: list[_Entity] = []
    inner: list[_Entity] = []
    for number, part in enumerate(draft.attachments):
        related = part.inline and part.content_id and draft.html is not None
        (inner if related else files).append(_file(part, number))
    text = None if draft.text is None else _text("plain", draft.text)
    html = None if draft.html is None else _text("html", draft.html)
    mark = _boundary([entity for entity in (text, html, *inner, *files) if entity and entity.literal])
    if html and inner:
        html = _multipart('related; type="text/html"', f"{mark}_3", [html, *inner])
    if text and html:
        text = _multipart("alternative", f"{mark}_2", [text, html])
    body = text or html
    if files:
        return _multipart("mixed", f"{mark}_1", [*([body] if body else []), *files])
    return body or _text("plain", "")


def _boundary(literal: list[_Entity]) -> str:
    """The common start of this message's boundaries.

    ``=_`` occurs in no base64 and in no quoted-printable (RFC 2045 §6.7); bodies that go out as they are get searched.
    """
    while True:
        mark = f"=_{secrets.token_hex(12)}"
        if not any(mark.encode() in piece for entity in literal for piece in entity.body):
            return mark


def _multipart(kind: str, boundary: str, children: list[_Entity]) -> _Entity:
    """The children between lines of one boundary, without preamble and epilogue (RFC 2046 §5.1.1)."""
    words = f'multipart/{kind}; boundary="{boundary}"'.split(" ")
    line = f"--{boundary}\r\n".encode()
    body = []
    for child in children:
        body += [line, child.header, serialize.CRLF, *child.body, serialize.CRLF]
    body.append(f"--{boundary}--".encode())
    return _Entity(serialize.structured("Content-Type", words), body)


def _text(kind: str, text: str) -> _Entity:
    """A text part in UTF-8; its last line always has an end (a mail cannot say otherwise, RFC 5321 §4.1.1.4)."""
    raw = serialize.well_formed(text).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if raw and not raw.endswith(b"\n"):
        raw += b"\n"
    raw = raw.replace(b"\n", serialize.CRLF)
    encoding, body = _encode_text(raw)
    header = serialize.structured("Content-Type", [f"text/{kind};", "charset=utf-8"])
    return _Entity(header + _transfer_encoding(encoding), body, literal=encoding == "7bit")


def _encode_text(raw: bytes) -> tuple[str, list[bytes]]:
    """7bit if it fits, else quoted-printable or base64, whichever is shorter."""
    mangled = (
        raw.startswith(b"From ") or b"\nFrom " in raw
    )  # some mailbox file would make it ">From", and break signatures
    if not mangled and _is_seven_bit(raw):
        return "7bit", [raw] if raw else []
    if len(raw) + 2 * len(raw.translate(None, _QP_LITERAL)) <= len(raw) * 104 // 76:
        return "quoted-printable", [_quoted_printable(raw)]
    return "base64", _base64(raw)


def _quoted_printable(raw: bytes) -> bytes:
    """RFC 2045 §6.7 for CRLF text; a line never starts with ``From ``."""
    encoded = b2a_qp(raw, quotetabs=False, istext=True)
    if b"From " in encoded:
        encoded = (b"\n" + encoded).replace(b"\nFrom ", b"\n=46ro=\r\nm ")[1:]  # a soft break keeps 76 characters
    return encoded


def _file(part: Part, number: int) -> _Entity:
    """An attached or inline part, its bytes exactly as given."""
    field = f"attachments.{number}"
    kind, parameters = serialize.media_type(part.content_type, f"{field}.content_type")
    encoding, body, literal = "base64", [], False
    if kind.startswith("message/") and _is_seven_bit(part.content):  # RFC 2046 §5.2.1: base64 is not allowed here
        encoding, body, literal = "7bit", [part.content], True
    else:
        body = _base64(part.content)
        if kind.startswith(("message/", "multipart/")):
            kind, parameters = _OCTET_STREAM, []
    words = [f"{word};" for word in (kind, *parameters)]
    words[-1] = words[-1][:-1]
    header = serialize.structured("Content-Type", words) + _transfer_encoding(encoding)
    names = serialize.file_name(part.filename)
    words = [f"{word};" for word in ("inline" if part.inline else "attachment", *names)]
    words[-1] = words[-1][:-1]
    header += serialize.structured("Content-Disposition", words)
    if part.content_id:
        content_id = serialize.identifier(part.content_id, f"{field}.content_id")
        header += serialize.structured("Content-ID", [content_id])
    return _Entity(header, body, literal)


def _transfer_encoding(encoding: str) -> bytes:
    return f"Content-Transfer-Encoding: {encoding}\r\n".encode()


def _is_seven_bit(raw: bytes) -> bool:
    """Whether the bytes are printable ASCII in CRLF lines of at most 998 (RFC 2045 §2.7)."""
    if raw.translate(None, _PRINTABLE):
        return False
    ends = raw.count(serialize.CRLF)
    if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
        return False
    return all(len(line) <= serialize.HARD_LIMIT for line in raw.split(serialize.CRLF))


def _base64(raw: bytes) -> list[bytes]:
    """Base64 in lines of 76 characters, block by block, so that a large file needs no list of all its lines."""
    pieces = []
    for start in range(0, len(raw), _BLOCK_OCTETS):
        encoded = b2a_base64(raw[start : start + _BLOCK_OCTETS], newline=False)
        pieces.append(b"\r\n".join([encoded[line : line + 76] for line in range(0, len(encoded), 76)]))
        pieces.append(serialize.CRLF)
    return pieces[:-1]
