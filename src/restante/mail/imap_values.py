"""ENVELOPE and BODYSTRUCTURE of a message as the bytes an IMAP server sends (RFC 9051 §7.5.2, RFC 3501 §7.4.2).

Both come from a ``Message`` alone, are made once when a message is stored, and fit IMAP4rev1 and rev2: text that is not
plain ASCII goes out as a literal or, in parameters, in RFC 2231 form; NUL never goes out.
"""

import re
from urllib.parse import quote

from restante.mail import address, headers
from restante.mail.message import Message
from restante.mail.structure import Parameters, Part

MAX_QUOTED = 4_000  # longer strings are literals

_SPECIAL = re.compile(rb"[\x00-\x1f\x7f-\xff]")
_EMPTY_ENVELOPE = (None,) * 10


def envelope(message: Message) -> bytes:
    """The ENVELOPE value in parentheses; a missing Sender or Reply-To repeats From (RFC 9051 §7.5.2)."""
    return _envelope(message.envelope)


def bodystructure(message: Message, *, extended: bool = True) -> bytes:
    """The BODYSTRUCTURE value in parentheses; without extension data it is the BODY value."""
    return _body(message.root, extended)


def string(value: bytes | None) -> bytes:
    """An IMAP nstring: NIL, quoted, or a literal when a quoted string cannot hold it (RFC 9051 §4.3)."""
    if value is None:
        return b"NIL"
    if _SPECIAL.search(value) or len(value) > MAX_QUOTED:
        value = value.replace(b"\x00", b"")
        return b"{%d}\r\n%b" % (len(value), value)
    if b"\\" in value or b'"' in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + value + b'"'


def _envelope(fields: tuple[bytes | None, ...]) -> bytes:
    date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id = fields
    senders = _addresses(from_)
    return b"(%b)" % b" ".join(
        (
            _line(date),
            _line(subject),
            senders,
            _or(_addresses(sender), senders),
            _or(_addresses(reply_to), senders),
            _addresses(to),
            _addresses(cc),
            _addresses(bcc),
            _line(in_reply_to),
            _line(message_id),
        )
    )


def _or(value: bytes, other: bytes) -> bytes:
    return other if value == b"NIL" else value


def _line(value: bytes | None) -> bytes:
    """A field's value unfolded, its encoded words and 8-bit bytes as they are."""
    if value is None:
        return b"NIL"
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return string(value.strip().replace(b"\r", b" "))


def _addresses(value: bytes | None) -> bytes:
    if not value:
        return b"NIL"
    out = []
    for item in address.items(headers.text(value)):
        if item.kind == "mailbox":
            name = _utf8(item.name) if item.name else b"NIL"
            out.append(b"(%b NIL %b %b)" % (name, _utf8(item.local), _utf8(item.domain)))
        elif item.kind == "group":
            out.append(b"(NIL NIL %b NIL)" % _utf8(item.name))
        else:
            out.append(b"(NIL NIL NIL NIL)")
    return b"(%b)" % b"".join(out) if out else b"NIL"


def _utf8(value: str) -> bytes:
    return string(value.encode("utf-8", "replace"))


def _optional(value: str | None) -> bytes:
    return b"NIL" if value is None else _utf8(value)


def _body(part: Part, extended: bool) -> bytes:
    kind, _, subtype = part.content_type.partition("/")
    if kind == "multipart":
        children = b"".join([_body(child, extended) for child in part.children])
        tail = b" %b %b" % (_parameters(part.parameters), _tail(part)) if extended else b""
        return b"(%b %b%b)" % (children, _utf8(subtype), tail)
    parameters = part.parameters
    if part.content_type == "text/plain" and part.parameter("charset") is None:
        parameters = (*parameters, ("charset", "us-ascii"))  # RFC 2045 §5.2
    fields = [
        _utf8(kind),
        _utf8(subtype),
        _parameters(parameters),
        _optional(part.content_id),
        _optional(part.description),
        _utf8(part.encoding),
        b"%d" % (part.end - part.body_start),
    ]
    if part.content_type in {"message/rfc822", "message/global"}:
        inner = part.children[0] if part.children else Part(part.body_start, part.body_start, part.end)
        fields += [_envelope(part.envelope or _EMPTY_ENVELOPE), _body(inner, extended), b"%d" % part.lines]
    elif kind == "text":
        fields.append(b"%d" % part.lines)
    if extended:
        fields += [_optional(part.md5), _tail(part)]
    return b"(%b)" % b" ".join(fields)


def _tail(part: Part) -> bytes:
    """Disposition, language and location, the extension data that all bodies share."""
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%b %b)" % (_utf8(part.disposition), _parameters(part.disposition_parameters))
    language = b"NIL"
    if part.language:
        tags = [tag.strip() for tag in part.language.split(",") if tag.strip()][:100]
        language = b"(%b)" % b" ".join([_utf8(tag) for tag in tags]) if tags else b"NIL"
    return b"%b %b %b" % (disposition, language, _optional(part.location))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join([_parameter(name, value) for name, value in parameters])


def _parameter(name: str, value: str) -> bytes:
    if value.isascii():
        return b"%b %b" % (_utf8(name), _utf8(value))
    return b"%b %b" % (_utf8(name + "*"), string(b"utf-8''" + quote(value, safe="").encode("ascii")))
