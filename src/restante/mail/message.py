"""A received message as values: what is in its header, its MIME tree, its texts and attachments (RFC 5322, RFC 2045).

``parse`` never raises and is linear. A ``Message`` holds offsets, not bytes: functions that need the body take the raw
message too (bytes or a memory map). ``dump`` and ``load`` keep a Message beside the bytes, so nothing is parsed twice.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from restante.mail import address as addresses
from restante.mail import charset, dates, structure, threads
from restante.mail import headers as fields
from restante.mail import html as markup
from restante.mail.address import Address
from restante.mail.structure import Buffer, Part

CHUNK_BYTES = 1 << 20  # of encoded body decoded at a time
MAX_SUBJECT = 4_000  # characters
MAX_TEXT_BYTES = 8 << 20  # encoded bytes of all text (or HTML) parts together that `text` (or `html`) decodes
MAX_SEARCHABLE = 256 << 10  # characters
MAX_SEARCHABLE_BYTES = 1 << 20  # encoded bytes of all body parts together read for searching
PREVIEW_LENGTH = 200
PREVIEW_BYTES = 64 << 10  # encoded bytes of all body parts together read for it
FIRST_BYTES = 1_000  # of plain text: nearly always they hold enough
FIRST_CHARS = 300  # of these bytes
FIRST_MARGIN = 10  # characters of it that are left out: the last one may be cut in the middle
MAX_RAW_FIELD = 32 << 10  # bytes of one header field kept for ENVELOPE

_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_SOFT_BREAK = re.compile(rb"=[ \t]++(?=\r?\n)")
_META = re.compile(rb"<meta\b[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_JOINERS = "\u200c\u200d"  # not printable for Python, but letters need them
_UU_END = re.compile(rb"\nend[ \t]*\r?(?:\n|$)")
_UU_JUNK = re.compile(rb"^[ -`]*+[^ -`\n][^\n]*", re.MULTILINE)  # lines with what no encoder writes
MIN_UU_LINE = 16  # encoded bytes of a line on average: real ones have 61
MIN_UU_LINES = 1_000  # but so many may be shorter
_UUENCODE = frozenset(("x-uuencode", "uuencode", "x-uue", "uue"))


class Attachment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attached or inline part. ``start`` .. ``end`` is its encoded body, ``size_bytes`` its decoded size."""

    index: int
    filename: str | None
    content_type: str
    size_bytes: int
    content_id: str | None  # without <>
    disposition: str | None
    section: str
    start: int
    end: int
    encoding: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A parsed message; everything decoded and bounded. ``envelope`` keeps the raw fields of an IMAP ENVELOPE."""

    subject: str
    from_: tuple[Address, ...]
    sender: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    date: datetime | None
    message_id: str | None
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    thread_key: int
    root: Part
    attachments: tuple[Attachment, ...]
    envelope: tuple[bytes | None, ...]


def parse(raw: Buffer) -> Message:
    """Read a whole message. Never raises; linear in its size; every list and text in the result is bounded."""
    root, wanted = structure.scan(raw)
    get = wanted.get
    subject_field = get(b"subject")
    subject = fields.decode(subject_field)[:MAX_SUBJECT] if subject_field else ""
    from_ = _addresses(get(b"from"))
    date = get(b"date")
    own = threads.message_id(get(b"message-id"))
    in_reply_to = threads.ids(get(b"in-reply-to"))
    references = threads.ids(get(b"references"))
    return Message(
        subject,
        from_,
        _addresses(get(b"sender")),
        _addresses(get(b"reply-to")),
        _addresses(get(b"to")),
        _addresses(get(b"cc")),
        _addresses(get(b"bcc")),
        dates.parse(fields.text(date)) if date else None,
        own,
        in_reply_to,
        references,
        threads.thread_key(references, in_reply_to, own, subject, from_[0].email if from_ else ""),
        root,
        _attachments(root, raw),
        _envelope(structure.envelope_fields(wanted), root),
    )


def _addresses(value: bytes | None) -> tuple[Address, ...]:
    return addresses.parse(value) if value else ()


def _envelope(found: tuple[bytes | None, ...], root: Part) -> tuple[bytes | None, ...]:
    if root.body_start - root.start <= MAX_RAW_FIELD:
        return found
    return tuple([value if value is None else value[:MAX_RAW_FIELD] for value in found])


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def dump(message: Message) -> bytes:
    """A Message as compact bytes for ``contents.structure``."""
    return _encoder.encode(message)


def load(data: bytes) -> Message:
    """A Message back from ``dump``; raises msgspec.DecodeError for other bytes."""
    return _decoder.decode(data)


def headers(raw: Buffer) -> list[tuple[str, str]]:
    """All fields of the message's own header in order: (name as written, value decoded and unfolded)."""
    found, _ = structure.read_header(raw, 0, len(raw))
    return [(charset.guess(name), fields.decode(value)) for name, value in found]


# --- bodies and attachments -------------------------------------------------------------------------------------------


def _sort(part: Part, parent: str, index: int, hidden: bool, bodies: list[tuple[Part, bool]], rest: list[Part]) -> None:
    """Text bodies and attachments in MIME order (after RFC 8621 §4.1.4).

    A body comes with whether it only repeats, as HTML, a plain text beside it (``hidden`` from reading as text).
    """
    kind = part.content_type
    if kind[:10] == "multipart/":
        plain = [_has_plain(child) for child in part.children] if kind == "multipart/alternative" else []
        repeats = True in plain
        for number, child in enumerate(part.children):
            _sort(child, kind, number, hidden or (repeats and not plain[number]), bodies, rest)
    elif (
        kind in {"text/plain", "text/html"}
        and part.disposition != "attachment"
        and (index == 0 or parent == "multipart/alternative" or (parent != "multipart/related" and not part.filename))
    ):
        bodies.append((part, hidden))
    else:
        rest.append(part)


def _has_plain(part: Part) -> bool:
    if part.content_type[:10] == "multipart/":
        return any(_has_plain(child) for child in part.children)
    return part.content_type == "text/plain" and part.disposition != "attachment"


def _attachments(root: Part, raw: Buffer) -> tuple[Attachment, ...]:
    if root.content_type in {"text/plain", "text/html"} and root.disposition is None:
        return ()
    rest: list[Part] = []
    _sort(root, "", 0, False, [], rest)
    return tuple(
        [
            Attachment(
                index,
                part.filename,
                part.content_type,
                _size(part, raw),
                part.content_id.strip("<> ") if part.content_id else None,
                part.disposition,
                part.section,
                part.body_start,
                part.end,
                part.encoding,
            )
            for index, part in enumerate(rest)
        ]
    )


def _size(part: Part, raw: Buffer) -> int:
    if part.encoding in {"7bit", "8bit", "binary"}:
        return part.end - part.body_start
    if part.encoding == "base64":
        size = _base64_size(raw, part.body_start, part.end)
        if size is not None:
            return size
    return sum(len(chunk) for chunk in decoded(part, raw))


def _base64_size(raw: Buffer, start: int, end: int) -> int | None:
    """The decoded size of well-formed base64 without decoding it (four times as fast); None when it must be."""
    digits = 0
    padding = 0
    for at in range(start, end, CHUNK_BYTES):
        clean = raw[at : min(at + CHUNK_BYTES, end)].translate(None, _NOT_BASE64)
        body = clean.rstrip(b"=")
        if b"=" in body or (padding and body):
            return None
        digits += len(body)
        padding += len(clean) - len(body)
    if padding and padding != -digits % 4:
        return None
    return digits * 3 // 4


def decoded(part: Part | Attachment, raw: Buffer) -> Iterator[bytes]:
    """The decoded body of a part in chunks of about a megabyte; damaged encodings give what can be read."""
    start = part.body_start if isinstance(part, Part) else part.start
    return _decoded(part.encoding, raw, start, part.end)


def _decoded(encoding: str, raw: Buffer, start: int, end: int) -> Iterator[bytes]:
    if encoding == "base64":
        if end - start <= CHUNK_BYTES:
            yield fields.base64_junk(raw[start:end])
        else:
            yield from _base64(raw, start, end)
    elif encoding == "quoted-printable":
        yield from _quoted_printable(raw, start, end)
    elif encoding in _UUENCODE:
        yield from _uuencode(raw, start, end)
    else:
        for at in range(start, end, CHUNK_BYTES):
            yield raw[at : min(at + CHUNK_BYTES, end)]


def _base64(raw: Buffer, start: int, end: int) -> Iterator[bytes]:
    carry = b""
    for at in range(start, end, CHUNK_BYTES):
        carry += raw[at : min(at + CHUNK_BYTES, end)].translate(None, _NOT_BASE64)
        if b"=" in carry:
            break
        whole = len(carry) & ~3
        if whole:
            yield binascii.a2b_base64(carry[:whole])
            carry = carry[whole:]
    if carry:
        yield fields.base64_junk(carry)


def _quoted_printable(raw: Buffer, start: int, end: int) -> Iterator[bytes]:
    at = start
    while at < end:
        stop = min(at + CHUNK_BYTES, end)
        if stop < end:
            feed = raw.rfind(b"\n", at, stop)
            if feed >= 0:
                stop = feed + 1
            else:
                escape = raw.rfind(b"=", stop - 2, stop)
                stop = stop if escape < 0 else escape
        yield _quoted(raw[at:stop])
        at = stop


def _quoted(data: bytes) -> bytes:
    if b"= " in data or (b"\t" in data and b"=\t" in data):  # rare; a single byte is sought faster than two
        data = _SOFT_BREAK.sub(b"=", data)
    return binascii.a2b_qp(data)


def _uuencode(raw: Buffer, start: int, end: int) -> Iterator[bytes]:
    """What stands between "begin" and "end", line by line; lines that are no uuencode are left out.

    A body with lines shorter than any encoder writes is given as it is: its cost would be one of lines, not of bytes.
    """
    if structure.count_lines(raw, start, end) > MIN_UU_LINES + (end - start) // MIN_UU_LINE:
        yield from _decoded("binary", raw, start, end)
        return
    begin = start if raw[start : start + 6] == b"begin " else raw.find(b"\nbegin ", start, end)
    at = raw.find(b"\n", begin + 1, end) if begin >= 0 else -1
    if at < 0:
        return
    found = _UU_END.search(raw, at, end)
    stop = found.start() if found else end
    while at < stop:
        feed = raw.find(b"\n", at + CHUNK_BYTES, stop)
        feed = stop if feed < 0 else feed
        yield _uu_lines(raw[at:feed])
        at = feed


def _uu_lines(data: bytes) -> bytes:
    data = data.replace(b"\r", b"")
    try:
        return b"".join(map(binascii.a2b_uu, filter(None, data.split(b"\n"))))
    except binascii.Error:  # damaged lines, or old encoders' characters behind the data that the first one promises
        lines = _UU_JUNK.sub(b"", data).split(b"\n")
        return b"".join([binascii.a2b_uu(line[: ((line[0] - 32 & 63) * 4 + 5) // 3]) for line in lines if line])


# --- texts ------------------------------------------------------------------------------------------------------------


def _part_text(part: Part, raw: Buffer, limit: int) -> str:
    stop = min(part.end, part.body_start + limit)
    data = b"".join(_decoded(part.encoding, raw, part.body_start, stop))
    label = part.parameter("charset")
    if label is None and part.content_type == "text/html":
        meta = _META.search(data[:2_048])
        label = meta[1].decode("ascii") if meta else None
    return charset.decode(data, label)


def _bodies(message: Message) -> list[tuple[Part, bool]]:
    bodies: list[tuple[Part, bool]] = []
    _sort(message.root, "", 0, False, bodies, [])
    return bodies


def body_types(message: Message) -> set[str]:
    """The content types of its bodies: with ``text/plain`` it has a ``text``, with ``text/html`` an ``html``."""
    return {part.content_type for part, _ in _bodies(message)}


def text(message: Message, raw: Buffer) -> str | None:
    """The plain text of a message, several parts joined by a line end, CRLF as LF; None when it has none.

    ``MAX_TEXT_BYTES`` encoded bytes are decoded; what is behind them is in the raw message.
    """
    return _joined(message, raw, "text/plain")


def html(message: Message, raw: Buffer) -> str | None:
    """The HTML of a message as sent (not made safe), several parts joined by a line end; None when it has none.

    Bounded as ``text`` is.
    """
    return _joined(message, raw, "text/html")


def _joined(message: Message, raw: Buffer, kind: str) -> str | None:
    parts = [part for part, _ in _bodies(message) if part.content_type == kind]
    if not parts:
        return None
    return "\n".join([one.replace("\r\n", "\n") for one in _texts(parts, raw, MAX_TEXT_BYTES)])


def _texts(parts: Iterable[Part], raw: Buffer, limit: int) -> Iterator[str]:
    """The text of each part as sent, until ``limit`` encoded bytes are decoded."""
    for part in parts:
        if limit <= 0:
            return
        yield _part_text(part, raw, limit)
        limit -= part.end - part.body_start


def readable(message: Message, raw: Buffer, limit: int = MAX_SEARCHABLE_BYTES) -> Iterator[str]:
    """The text of each body part as a person reads it, HTML as text where no plain text says the same.

    At most ``limit`` encoded bytes are decoded; for a message that is only another message, that one's text.
    """
    bodies = _bodies(message)
    if not bodies:
        inner = next((part for part in structure.walk(message.root) if part.content_type == "message/rfc822"), None)
        if inner is not None and inner.children:
            _sort(inner.children[0], "", 0, False, bodies, [])
    blank = True
    for content in _readable_parts([part for part, hidden in bodies if not hidden], raw, limit):
        blank = blank and not content.strip()
        yield content
    if blank:
        yield from _readable_parts([part for part, hidden in bodies if hidden], raw, limit)


def _readable_parts(parts: list[Part], raw: Buffer, limit: int) -> Iterator[str]:
    for part, content in zip(parts, _texts(parts, raw, limit), strict=False):
        yield markup.to_text(content) if part.content_type == "text/html" else content


def preview(message: Message, raw: Buffer) -> str:
    """The first words of a message on one line, at most 200 characters."""
    first = message.root
    while first.children and first.content_type[:10] == "multipart/":
        first = first.children[0]
    if first.content_type == "text/plain" and first.disposition != "attachment":  # nearly always: the first body
        length = PREVIEW_LENGTH + FIRST_MARGIN
        found = _shown(_part_text(first, raw, FIRST_BYTES)[:FIRST_CHARS], length)
        if len(found) >= length - 1:  # a space at the cut is dropped
            return found[:PREVIEW_LENGTH].rstrip()
    return _first_words(readable(message, raw, PREVIEW_BYTES))


def searchable(message: Message, raw: Buffer) -> str:
    """What search looks through, one item a line: subject, sender, recipients, attachment names, body text."""
    return _all_words(message, readable(message, raw))


def extracts(message: Message, raw: Buffer) -> tuple[str, str]:
    """(preview, searchable) for the price of one: bodies are decoded once."""
    contents = list(readable(message, raw))
    return _first_words(contents), _all_words(message, contents)


def _first_words(contents: Iterable[str], length: int = PREVIEW_LENGTH) -> str:
    out = ""
    for content in contents:
        for size in (2 * PREVIEW_LENGTH, 10 * PREVIEW_LENGTH):  # nearly always the first one has enough
            found = _shown(f"{out} {content[:size]}", length)
            if len(found) >= length or size >= len(content):
                break
        out = found
        if len(out) >= length:
            break
    return out[:length].rstrip()


def _shown(text: str, length: int) -> str:
    """``text`` on one line, spaces for what cannot be printed."""
    text = " ".join(text.split())
    if text[:length].isprintable():
        return text
    text = "".join([one if one.isprintable() or one in _JOINERS else " " for one in text])
    return " ".join(text.split())


def _all_words(message: Message, contents: Iterable[str]) -> str:
    lines = [message.subject]
    for group in (message.from_, message.to, message.cc):
        lines += [f"{one.name} {one.email}" if one.name else one.email for one in group]
    lines += [one.filename for one in message.attachments if one.filename]
    size = sum(map(len, lines))
    for content in contents:
        lines.append(content)
        size += len(content)
        if size > MAX_SEARCHABLE:
            break
    return "\n".join(lines)[:MAX_SEARCHABLE]
