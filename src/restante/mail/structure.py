"""The MIME tree of a message as byte offsets (RFC 2045, RFC 2046): nothing of a body is copied, nothing raises.

One scan with ``find``: header fields of each entity, then the delimiter lines of its boundary; an outer boundary ends
whatever is inside it, so a missing close costs only its own part. Line ends may be CRLF or LF. Bounds: ``MAX_PARTS``,
``MAX_DEPTH``, ``MAX_CANDIDATES`` and those of ``headers``; what is beyond them stays readable as text of the last part.
"""

import mmap
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from restante.mail import headers

Buffer = bytes | mmap.mmap

MAX_PARTS = 1_000  # of one message, containers included
MAX_DEPTH = 50
MAX_CANDIDATES = 100_000  # lines that begin like a delimiter
MAX_SCANS = 12  # times the size of a message that may be searched for delimiters and counted, level below level
FREE_SCANS = 4 << 20  # bytes that may be in any case: small messages are not bounded by it
MAX_PART_HEADER = 64 << 10  # bytes of a part's own header that are looked at
MAX_BOUNDARY = 1_000  # RFC 2046 allows 70, senders do not care

Parameters = tuple[tuple[str, str], ...]
Wanted = dict[bytes, bytes]  # first field of each name, lower case -> value still folded

_ENVELOPE = (b"date", b"subject", b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"in-reply-to", b"message-id")
_KNOWN = frozenset(
    (*_ENVELOPE, b"received", b"return-path", b"mime-version", b"references", b"content-type", b"delivered-to")
)
_ANY_BREAK = re.compile(rb"\r?\n(?![ \t])")
_BLOCK = 1 << 20
_WINDOW = 16 << 10  # more than nearly every header has


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entity of a message. Offsets are into the raw message.

    ``start`` .. ``body_start`` is its header with the blank line (IMAP ``MIME`` or ``HEADER``), ``body_start`` ..
    ``end`` its body without the line end that belongs to the next delimiter (RFC 2046 §5.1.1). ``section`` is an IMAP
    one: "1.2" for a leaf, "TEXT" or "2.TEXT" for the multipart root of the message or of the message part 2.
    """

    start: int
    body_start: int
    end: int
    section: str = "1"
    content_type: str = "text/plain"
    parameters: Parameters = ()
    encoding: str = "7bit"
    disposition: str | None = None
    disposition_parameters: Parameters = ()
    content_id: str | None = None  # as written, with <>
    description: str | None = None  # as written, encoded words kept
    lines: int = 0  # of text and message parts
    children: tuple["Part", ...] = ()  # of a multipart; the one message of message/rfc822
    envelope: tuple[bytes | None, ...] | None = (
        None  # of a message in message/rfc822: RFC 9051 §7.5.2's ten fields, raw
    )
    md5: str | None = None
    language: str | None = None
    location: str | None = None

    @property
    def kind(self) -> str:
        """The type before the slash."""
        return self.content_type.partition("/")[0]

    def parameter(self, name: str) -> str | None:
        """A Content-Type parameter, decoded."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None

    @property
    def filename(self) -> str | None:
        """The name the sender gave it, decoded, as sent: it may hold slashes (RFC 2183 §2.3)."""
        for key, value in self.disposition_parameters:
            if key == "filename" and value:
                return value
        for key, value in self.parameters:
            if key == "name" and value:
                return value
        return None


def walk(part: Part, *, into_messages: bool = False) -> Iterator[Part]:
    """A part and everything in it in MIME order; the inside of message/rfc822 only when asked for."""
    yield part
    if part.children and (into_messages or part.content_type[:8] != "message/"):
        for child in part.children:
            yield from walk(child, into_messages=into_messages)


def find_part(root: Part, section: str) -> Part | None:
    """The part with this IMAP section number, inside message/rfc822 too."""
    return next((part for part in walk(root, into_messages=True) if part.section == section), None)


def envelope_fields(wanted: Wanted) -> tuple[bytes | None, ...]:
    """The raw values of the ten fields of an IMAP ENVELOPE, in its order."""
    return tuple(map(wanted.get, _ENVELOPE))


def scan(raw: Buffer) -> tuple[Part, Wanted]:
    """The MIME tree of a whole message, and the first field of each name of its header."""
    return _Scanner(raw).message(0, len(raw), "", 0)


def header_end(raw: Buffer, start: int, end: int) -> int:
    """Where the header of an entity ends, behind its blank line; ``end`` when it has no body."""
    first = raw[start : min(start + 2, end)]
    if first[:1] == b"\n":
        return start + 1
    if first == b"\r\n":
        return start + 2
    for stop in (start + _WINDOW, end):  # a body with the other line ends is not searched through
        crlf = raw.find(b"\n\r\n", start, min(stop, end))
        bare = raw.find(b"\n\n", start, min(stop, end) if crlf < 0 else crlf + 1)
        if bare >= 0:
            return bare + 2
        if crlf >= 0:
            return crlf + 3
    return end


def count_lines(raw: Buffer, start: int, end: int) -> int:
    """Line feeds between two offsets."""
    if isinstance(raw, bytes):
        return raw.count(b"\n", start, end)
    return sum(raw[at : min(at + _BLOCK, end)].count(b"\n") for at in range(start, end, _BLOCK))


def read_header(
    raw: Buffer, start: int, end: int, limit: int = headers.MAX_HEADER_BYTES
) -> tuple[list[headers.Field], int]:
    """The fields of the entity at ``start`` and the offset of its body.

    A line that is no field is left out while known fields follow it; otherwise the body starts there (a message
    without a header, or without the blank line behind it).
    """
    body_start = header_end(raw, start, end)
    fields, size = _fields(raw[start : min(body_start, start + limit)])
    return fields, body_start if size is None else start + size


def _fields(block: bytes) -> tuple[list[headers.Field], int | None]:
    """The fields of a header with its blank line; and where it ends when that is before the end of the block."""
    block = block.rstrip(b"\r\n")
    if not block:
        return [], None
    fields = headers.fields(block)
    return _careful(block) if fields is None else (fields, None)


def _careful(block: bytes) -> tuple[list[headers.Field], int | None]:
    """As ``_fields`` for a block with lines that are no fields."""
    starts = [0, *(found.end() for found in _ANY_BREAK.finditer(block))][: headers.MAX_FIELDS]
    kept: list[tuple[int, headers.Field | None]] = []
    last_known = -1
    for index, at in enumerate(starts):
        line = block[at : starts[index + 1] if index + 1 < len(starts) else len(block)]
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if colon and headers.is_name(name):
            lowered = name.lower()
            if lowered in _KNOWN or lowered.startswith((b"content-", b"x-")):
                last_known = index
            kept.append((at, (name, value.rstrip(b"\r\n")[: headers.MAX_VALUE_BYTES])))
        else:
            kept.append((at, None))
    fields: list[headers.Field] = []
    for index, (at, field) in enumerate(kept):
        if field is not None:
            fields.append(field)
            continue
        if block.startswith(b"--", at):  # a delimiter line where the blank line should be
            return fields, at
        mbox = index == 0 and block[:6].lstrip(b">").startswith(b"From ")
        if not mbox and (last_known < index or (index == 0 and not _looks_like_header(kept))):
            return fields, at
    return fields, None


def _looks_like_header(kept: list[tuple[int, headers.Field | None]]) -> bool:
    # junk in front of a header, against a body that merely has colons: the next line decides
    return len(kept) > 1 and kept[1][1] is not None and kept[1][1][0].lower() in _KNOWN


class _About(NamedTuple):
    """What the header of an entity says about its body; the names are those of ``Part``."""

    content_type: str
    parameters: Parameters
    encoding: str
    disposition: str | None
    disposition_parameters: Parameters
    content_id: str | None
    description: str | None
    md5: str | None
    language: str | None
    location: str | None


def _about(wanted: Wanted, default: str) -> _About:
    get = wanted.get
    kind, parameters = headers.content_type(get(b"content-type"), default)
    encoding, disposition = get(b"content-transfer-encoding"), get(b"content-disposition")
    name, disposition_parameters = headers.disposition(disposition) if disposition else (None, ())
    return _About(
        kind,
        parameters,
        "7bit" if encoding is None else _encoding(encoding),
        name,
        disposition_parameters,
        _plain(get(b"content-id")),
        _plain(get(b"content-description")),
        _plain(get(b"content-md5")),
        _plain(get(b"content-language")),
        _plain(get(b"content-location")),
    )


def _part_header(block: bytes, default: str) -> tuple[_About, int | None]:
    fields, size = _fields(block)
    return _about(_first(fields), default), size


# Most parts of most mails begin with one of a few headers: "Content-Type: text/plain; charset=utf-8" and the like.
_known_part_header = lru_cache(maxsize=1_024)(_part_header)
_MAX_KNOWN = 300  # bytes


def _first(fields: list[headers.Field]) -> Wanted:
    return {name.lower(): value for name, value in reversed(fields)}


class _Scanner:
    def __init__(self, raw: Buffer) -> None:
        self.raw = raw
        self.parts = 0
        self.candidates = 0
        self.bytes_left = FREE_SCANS + MAX_SCANS * len(raw)

    def message(self, start: int, end: int, prefix: str, depth: int) -> tuple[Part, Wanted]:
        """A whole message: ``prefix`` is "" at the top and "2." inside the message part 2."""
        limit = headers.MAX_HEADER_BYTES if depth == 0 else MAX_PART_HEADER
        fields, body_start = read_header(self.raw, start, end, limit)
        wanted = _first(fields)
        return self.entity(_about(wanted, "text/plain"), start, body_start, end, prefix, "", depth), wanted

    def child(self, start: int, end: int, section: str, depth: int, default: str) -> Part:
        body_start = header_end(self.raw, start, end)
        block = self.raw[start : min(body_start, start + MAX_PART_HEADER)]
        read = _known_part_header if len(block) <= _MAX_KNOWN else _part_header
        about, size = read(block, default)
        return self.entity(about, start, body_start if size is None else start + size, end, "", section, depth)

    def entity(
        self, about: _About, start: int, body_start: int, end: int, prefix: str, section: str, depth: int
    ) -> Part:
        """One entity. ``section`` is "" for the root of a message, numbered below ``prefix``."""
        self.parts += 1
        kind = about.content_type
        lines = 0
        children: tuple[Part, ...] = ()
        envelope: tuple[bytes | None, ...] | None = None
        if kind[:10] == "multipart/":
            prefix = f"{section}." if section else prefix
            children = self.multipart(kind, about.parameters, body_start, end, prefix, depth)
            section = section or f"{prefix}TEXT"
        else:
            section = section or f"{prefix}1"
            if kind in {"message/rfc822", "message/global"}:
                lines = count_lines(self.raw, body_start, end) if self.affords(end - body_start) else 0
                if about.encoding not in _CODED and depth < MAX_DEPTH and self.parts < MAX_PARTS:
                    inner, inner_wanted = self.message(body_start, end, f"{section}.", depth + 1)
                    children = (inner,)
                    envelope = envelope_fields(inner_wanted)
            elif kind[:5] == "text/":
                lines = count_lines(self.raw, body_start, end)
        return Part(
            start,
            body_start,
            end,
            section,
            kind,
            about.parameters,
            about.encoding,
            about.disposition,
            about.disposition_parameters,
            about.content_id,
            about.description,
            lines,
            children,
            envelope,
            about.md5,
            about.language,
            about.location,
        )

    def multipart(
        self, kind: str, parameters: Parameters, body_start: int, end: int, prefix: str, depth: int
    ) -> tuple[Part, ...]:
        boundary = next((value for name, value in parameters if name == "boundary"), "")
        ranges: list[tuple[int, int]] | None = None
        if boundary and depth < MAX_DEPTH and self.parts < MAX_PARTS and self.affords(end - body_start):
            ranges = self.delimited(boundary.rstrip()[:MAX_BOUNDARY].encode("utf-8", "replace"), body_start, end)
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        children: list[Part] = []
        for index, (start, stop) in enumerate(ranges or (), 1):
            if self.parts >= MAX_PARTS:
                children.append(Part(start, start, end, f"{prefix}{index}", lines=count_lines(self.raw, start, end)))
                break
            children.append(self.child(start, stop, f"{prefix}{index}", depth + 1, default))
        if not children:  # no boundary, or none that appears: its body is readable as one text; only a close: no text
            self.parts += 1
            stop = end if ranges is None else body_start
            children.append(
                Part(body_start, body_start, stop, f"{prefix}1", lines=count_lines(self.raw, body_start, stop))
            )
        return tuple(children)

    def affords(self, size: int) -> bool:
        """Whether ``size`` more bytes may be looked at; takes them from what is left."""
        self.bytes_left -= size
        return self.bytes_left >= 0

    def delimited(self, boundary: bytes, body_start: int, end: int) -> list[tuple[int, int]] | None:
        """The byte ranges between the delimiter lines of one boundary (RFC 2046 §5.1.1); None when it never appears."""
        raw = self.raw
        needle = b"\n--" + boundary
        width = len(needle)
        ranges: list[tuple[int, int]] = []
        begin = -1  # of the part that is open
        at = (
            body_start - 1
            if raw[body_start : body_start + width - 1] == needle[1:]
            else raw.find(needle, body_start, end)
        )
        while at >= 0 and self.candidates < MAX_CANDIDATES and len(ranges) <= MAX_PARTS:
            self.candidates += 1
            after = at + width
            following, closes = self.line_end(after, end)
            if following < 0:
                at = raw.find(needle, after, end)
                continue
            if begin >= 0:
                stop = at - 1 if raw[at - 1 : at] == b"\r" else at
                ranges.append((begin, max(begin, stop)))
            if closes:
                return ranges
            begin = following
            at = raw.find(needle, following - 1, end)
        if begin < 0:
            return None
        ranges.append((begin, end))
        return ranges

    def line_end(self, after: int, end: int) -> tuple[int, bool]:
        """(offset of the next line, is it the close); the offset is -1 when the line goes on: a longer boundary."""
        tail = self.raw[after : min(after + 4, end)]
        closes = tail[:2] == b"--"
        if closes:
            after += 2
            tail = self.raw[after : min(after + 4, end)]
        if tail[:2] == b"\r\n":
            return after + 2, closes
        if tail[:1] == b"\n":
            return after + 1, closes
        if not tail:
            return end, closes
        if tail[:1] not in b" \t\r":
            return -1, False
        feed = self.raw.find(b"\n", after, min(after + 1_000, end))
        stop = min(after + 1_000, end) if feed < 0 else feed
        if self.raw[after:stop].strip(b" \t\r"):
            return -1, False
        return (end if feed < 0 else feed + 1), closes


_CODED = frozenset(("base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue"))


def _encoding(value: bytes) -> str:
    name = headers.text(value).partition(";")[0].partition("(")[0].strip().strip("\"'").lower()
    return name[:40] if name.isascii() else "7bit"


def _plain(value: bytes | None) -> str | None:
    if value is None:
        return None
    return headers.text(value)[:2_000] or None
