"""Abuse feedback reports: what a provider sends when one of its users calls a message spam (ARF, RFC 5965)."""

from typing import NamedTuple

from restante.mail import dsn, headers, message, serialize, structure
from restante.mail.dsn import MAX_FIELD, MAX_HEADER_BYTES, MAX_STATUS_BYTES
from restante.mail.message import Message
from restante.mail.structure import Buffer, Part

KINDS = ("abuse", "fraud", "virus", "other")  # RFC 5965 §7.3; any further one but NO_COMPLAINT is taken as other
NO_COMPLAINT = ("not-spam", "auth-failure")  # RFC 6430, RFC 6591
_REPORT = "message/feedback-report"
_ORIGINALS = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")


class Complaint(NamedTuple):
    """What a report says. ``return_path`` and ``recipient`` are "" when it keeps them to itself.

    ``message_id``: that of the message complained about, with its angle brackets; ``reporter``: who says so.
    """

    kind: str
    return_path: str
    recipient: str
    message_id: str
    reporter: str | None


def is_report(parsed: Message) -> bool:
    """Whether a message may be an abuse report: cheap, for every message that comes in."""
    return parsed.root.content_type == "multipart/report" and any(
        part.content_type == _REPORT for part in parsed.root.children
    )


def parse(parsed: Message, raw: Buffer) -> Complaint | None:
    """The complaint in a message; None when there is none. Never raises; linear in the size of its parts."""
    report = original = None
    for part in parsed.root.children:
        if part.content_type == _REPORT:
            report = report or part
        elif part.content_type in _ORIGINALS:
            original = original or part
    if report is None:
        return None
    text = dsn.part_text(report, raw, MAX_STATUS_BYTES)
    fields = next(dsn.field_groups(text.replace("\r\n", "\n").split("\n")), {})
    kind = fields.get("feedback-type", "").lower()
    if not kind or kind in NO_COMPLAINT:
        return None
    header = _header(original, raw) if original is not None else {}
    reporter = fields.get("reporting-mta", "").partition(";")[2].strip() or fields.get("user-agent", "")
    return Complaint(
        kind if kind in KINDS else "other",
        _address(fields.get("original-mail-from") or header.get("return-path", "")),
        _address(fields.get("original-rcpt-to", "")),
        serialize.clean(header.get("message-id", ""))[:MAX_FIELD],
        serialize.clean(reporter)[:MAX_FIELD] or None,
    )


def _address(value: str) -> str:
    return serialize.clean(value.strip().strip("<>").strip())[:MAX_FIELD]


def _header(part: Part, raw: Buffer) -> dict[str, str]:
    """The first field of each name in the original's header."""
    block = b""
    for chunk in message.decoded(part, raw):
        block += chunk[: MAX_HEADER_BYTES - len(block)]
        if len(block) >= MAX_HEADER_BYTES:
            break
    found: dict[str, str] = {}
    for name, value in structure.read_header(block, 0, len(block))[0]:
        found.setdefault(name.decode("latin-1").lower(), headers.text(value))
    return found
