"""Delivery status notifications: ours to write, everybody's to read.

RFC 3464 (delivery-status), RFC 6522 (multipart/report), RFC 6533 (addresses beyond ASCII), RFC 3463 (status codes).
What other servers send is read in three shapes: RFC 3464 (Postfix, Exchange, Gmail, newer Exim),
``X-Failed-Recipients`` with a text (older Exim), and the qmail-send text (QSBMF). Anything else is no report: nothing
is guessed from prose.
"""

import re
from binascii import b2a_qp
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from restante.mail import headers, message, serialize, structure
from restante.mail.address import Address
from restante.mail.message import Message
from restante.mail.structure import Buffer, Part

MAX_REPORTED = 1000  # recipients read from one report
MAX_STATUS_BYTES = 1 << 20  # of a delivery-status part
MAX_TEXT_BYTES = 64 * 1024  # of a text that qmail wrote
MAX_HEADER_BYTES = 64 * 1024  # of the original message's header that we return
MAX_FIELD = 1000  # characters kept of a field

_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_STATUS_IN_TEXT = re.compile(r"(?<![0-9.])[45]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")  # no part of an IP address
_QMAIL = re.compile(r"^<([^<>\s]{1,320})>:[ \t]*\r?\n((?:[^\r\n<][^\r\n]*\r?\n)+)", re.MULTILINE)
_UTF8_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


class FailedRecipient(NamedTuple):
    """One recipient that will not get it, for a report of ours."""

    address: str
    dsn_code: str
    response: str
    remote_mta: str | None
    last_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What a report of ours says. ``original_header`` is the header block of the message, empty when it is gone."""

    hostname: str
    to: Address
    message_id: str
    date: datetime
    arrived_at: datetime
    subject: str
    recipients: tuple[FailedRecipient, ...]
    original_header: bytes


class Reported(NamedTuple):
    """What another server says of one recipient: always a final failure. ``address`` is "" when it names none."""

    address: str
    dsn_code: str
    text: str
    remote_mta: str | None


# --- writing ----------------------------------------------------------------------------------------------------------


def compose(report: Report) -> bytes:
    """The report as a message from the mailer daemon, with the header of the original and no more of it."""
    is_utf8 = not all(each.address.isascii() for each in report.recipients)
    boundary = f"=_{report.message_id.partition('@')[0]}"
    header = b"".join(
        (
            serialize.structured("Date", [serialize.date(report.date)]),
            serialize.addresses("From", (Address("Mail Delivery System", f"mailer-daemon@{report.hostname}"),), "from"),
            serialize.addresses("To", (report.to,), "to"),
            serialize.header("Subject", "Undelivered mail returned to sender"),
            serialize.structured("Message-ID", [f"<{report.message_id}>"]),
            b"Auto-Submitted: auto-replied\r\n",  # RFC 3834 §5
            b"MIME-Version: 1.0\r\n",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'.encode(),
        )
    )
    kind = b"global-" if is_utf8 else b""
    original_kind = b"text/rfc822-headers" if report.original_header.isascii() else b"message/global-headers"
    parts = [
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b2a_qp(_text(report).encode(), istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        b"Content-Type: message/" + kind + b"delivery-status\r\n\r\n" + _status(report, is_utf8=is_utf8),
    ]
    if report.original_header:
        parts.append(b"Content-Type: " + original_kind + b"\r\n\r\n" + _bounded_header(report.original_header))
    mark = f"\r\n--{boundary}".encode()
    return header + b"".join(mark + b"\r\n" + part for part in parts) + mark + b"--\r\n"


def _text(report: Report) -> str:
    lines = [
        f"This is the mail system at {report.hostname}.",
        "",
        "Your message could not be delivered to everybody. It was given up for:",
        "",
    ]
    for each in report.recipients:
        where = f" ({serialize.clean(each.remote_mta)})" if each.remote_mta else ""
        lines += [f"<{each.address}>{where}", f"    {serialize.clean(each.response)}", ""]
    lines += [
        f"Its subject was: {serialize.clean(report.subject)}",
        f"It was accepted on {serialize.date(report.arrived_at)}.",
        "The part below is for programs; the header of your message follows it.",
        "",
    ]
    return "\n".join(lines)


def _status(report: Report, *, is_utf8: bool) -> bytes:
    """The machine's part: fields of the message, then those of each recipient (RFC 3464 §2.2, §2.3)."""
    kind = "utf-8" if is_utf8 else "rfc822"
    lines = [f"Reporting-MTA: dns; {report.hostname}", f"Arrival-Date: {serialize.date(report.arrived_at)}"]
    for each in report.recipients:
        lines += [
            "",
            f"Final-Recipient: {kind}; {each.address}",
            "Action: failed",
            # RFC 3463 §3.1: the class of a final failure is 5 (ours says 4.4.7 of what expired)
            f"Status: 5{each.dsn_code[1:]}",
        ]
        if each.remote_mta:
            lines.append(f"Remote-MTA: dns; {serialize.clean(each.remote_mta)}")
        diagnostic = serialize.clean(each.response)
        lines.append(f"Diagnostic-Code: smtp; {diagnostic if is_utf8 else ascii(diagnostic)[1:-1]}"[: MAX_FIELD - 20])
        lines.append(f"Last-Attempt-Date: {serialize.date(each.last_attempt_at)}")
    return "\r\n".join([*lines, ""]).encode()


def _bounded_header(block: bytes) -> bytes:
    if len(block) <= MAX_HEADER_BYTES:
        return block
    return block[: block.rfind(b"\r\n", 0, MAX_HEADER_BYTES) + 2]


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(parsed: Message, raw: Buffer) -> tuple[Reported, ...]:
    """The failures that a message reports; empty when it is no report, or one of a delay or a success. Never raises.

    Linear in its size; at most ``MAX_REPORTED``.
    """
    for part in structure.walk(parsed.root):
        if part.content_type in _STATUS_TYPES:
            return tuple(_rfc3464(part_text(part, raw, MAX_STATUS_BYTES)))
    failed = _exim(raw)
    return failed or tuple(_qmail(parsed, raw))


def part_text(part: Part, raw: Buffer, limit: int) -> str:
    """The first ``limit`` bytes of a part of a report, decoded."""
    body = b""
    for chunk in message.decoded(part, raw):
        body += chunk[: limit - len(body)]
        if len(body) >= limit:
            break
    return body.decode("utf-8", "replace")


def _rfc3464(text: str) -> Iterator[Reported]:
    """The recipients that a delivery-status part gives up on: those whose action is ``failed``."""
    found = 0
    lines = text.replace("\r\n", "\n").split("\n")
    for fields in field_groups(lines):
        recipient = fields.get("original-recipient") or fields.get("final-recipient")
        if recipient is None or fields.get("action", "").lower() != "failed":
            continue
        found += 1
        if found > MAX_REPORTED:
            return
        status = _STATUS.match(fields.get("status", ""))
        code = status[0] if status else "5.0.0"
        diagnostic = fields.get("diagnostic-code", "").partition(";")[2].strip()
        mta = serialize.clean(fields.get("remote-mta", "").partition(";")[2]) or None
        final = _address(fields.get("final-recipient", "")) or _address(recipient)
        yield Reported(final, code, serialize.clean(diagnostic) or f"reported as failed: {code}", mta)


def field_groups(lines: list[str]) -> Iterator[dict[str, str]]:
    """Groups of fields between blank lines, folded lines joined, the first of equal names kept."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name and len(fields[name]) < MAX_FIELD:
                fields[name] = (fields[name] + " " + line.strip())[:MAX_FIELD]
        else:
            key, colon, value = line.partition(":")
            name = key.strip().lower() if colon and key.strip().lower() not in fields and len(fields) < 50 else ""
            if name:
                fields[name] = value.strip()[:MAX_FIELD]
    if fields:
        yield fields


def _address(value: str) -> str:
    """The address of ``rfc822; <joe@example.org>``; RFC 6533 §3's escapes of a ``utf-8`` one are undone."""
    kind, semicolon, address = value.partition(";")
    if not semicolon:
        kind, address = "rfc822", value
    address = address.strip().strip("<>").strip()
    if kind.strip().lower() == "utf-8":
        address = _UTF8_ESCAPE.sub(_unescaped, address)
    return serialize.clean(address)[:MAX_FIELD] if "@" in address else ""


def _unescaped(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "?"


def _exim(raw: Buffer) -> tuple[Reported, ...]:
    """Older Exim: the addresses in a header, the reasons in prose."""
    block, _ = structure.read_header(raw, 0, len(raw))
    found = [headers.text(value) for name, value in block if name.lower() == b"x-failed-recipients"]
    addresses = [each.strip() for value in found for each in value.split(",") if "@" in each][:MAX_REPORTED]
    return tuple(Reported(serialize.clean(each)[:MAX_FIELD], "5.0.0", "reported as failed", None) for each in addresses)


def _qmail(parsed: Message, raw: Buffer) -> Iterator[Reported]:
    """qmail-send's text (QSBMF): a paragraph ``<address>:`` and the reason for each recipient."""
    if parsed.root.content_type != "text/plain":
        return
    text = part_text(parsed.root, raw, MAX_TEXT_BYTES)
    if not text.lstrip().startswith("Hi. This is the qmail-send program"):
        return
    for number, found in enumerate(_QMAIL.finditer(text)):
        if number >= MAX_REPORTED:
            return
        reason = serialize.clean(" ".join(found[2].split()))[:MAX_FIELD]
        code = _STATUS_IN_TEXT.search(reason)
        yield Reported(serialize.clean(found[1]), code[0] if code else "5.0.0", reason, None)
