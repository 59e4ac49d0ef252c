"""The JSON of a received message as MailCare has it: what its API shows and what its automations post.

Names and order of the fields are the contract's. Attachments are read from the structure that was kept at reception, so
no byte of a message is looked at.
"""

import hashlib
import uuid
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct, structs

from restante.core import arrivals
from restante.core.arrivals import Arrival
from restante.mail import message, structure
from restante.mail.message import Attachment
from restante.mail.structure import Part

MAX_SUBJECT = 255  # characters
MAX_ATTACHMENTS = 100  # of one email that are listed; the others are in the raw message
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")

_encoder = msgspec.json.Encoder()


class Correspondent(Struct, frozen=True):
    """A sender or an inbox: one for each address, named as its newest mail names it (the address, where none does)."""

    id: str
    display_name: str
    email: str
    created_at: str
    updated_at: str


class CarbonCopy(Struct, frozen=True):
    """Somebody of the Cc header."""

    display_name: str
    email: str


class EmailAttachment(Struct, frozen=True):
    """An attachment. ``size_in_bytes`` is that of the encoded part with its headers; ``headers_hashed`` 32 hex digits.

    Its times have no zone (UTC) and a space.
    """

    id: str
    email_id: str
    headers_hashed: str
    file_name: str
    content_type: str
    size_in_bytes: int
    created_at: str
    updated_at: str
    size_for_human: str


class Email(Struct, frozen=True):
    """A received message. ``read`` is when it was read, null before; ``size_in_bytes`` counts the raw message."""

    id: str
    sender: Correspondent
    inbox: Correspondent
    carbon_copies: list[CarbonCopy]
    subject: str
    created_at: str
    read: str | None
    favorite: bool
    has_html: bool
    has_text: bool
    size_in_bytes: int
    attachments: list[EmailAttachment]


class EmailWithBodies(Email, frozen=True):
    """An email with its decoded bodies, null where it has none."""

    html: str | None
    text: str | None


class EmailDocument(Struct, frozen=True):
    """One email."""

    data: Email


def moment(when: datetime) -> str:
    """A time as MailCare shows it: whole seconds, UTC, such as ``2018-01-19T12:23:27+00:00``.

    Rounded up: so a client that asks for what came ``since`` the time shown does not get the same message again, and
    one that asks with the second in which it began misses nothing.
    """
    if when.microsecond:
        when += timedelta(microseconds=1_000_000 - when.microsecond)
    return when.isoformat(timespec="seconds")


def human_size(size_bytes: int) -> str:
    """A size for people: two decimals, the unit by the number of digits: ``500.00B``, ``34.00kB``, ``48.08MB``."""
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:.2f}{_UNITS[power]}"


def attachment_id(email_id: uuid.UUID, index: int) -> uuid.UUID:
    """The id of an attachment, made from that of its email and its place in it."""
    return uuid.uuid5(email_id, str(index))


def find_attachment(email_id: uuid.UUID, count: int, wanted: str) -> int | None:
    """The place of the attachment with that id among the ``count`` of an email."""
    for index in range(count):
        if str(attachment_id(email_id, index)) == wanted:
            return index
    return None


def show(arrival: Arrival) -> Email:
    """The email as every list and answer shows it."""
    return Email(
        str(arrival.id),
        _correspondent(arrival.sender),
        _correspondent(arrival.inbox),
        [CarbonCopy(name or address, address) for name, address in arrival.carbon_copies],
        arrival.subject[:MAX_SUBJECT],
        moment(arrival.created_at),
        None if arrival.read_at is None else moment(arrival.read_at),
        arrival.is_favorite,
        arrival.has_html,
        arrival.has_text,
        arrival.size_bytes,
        [] if arrival.structure is None else _attachments(arrival, arrival.structure),
    )


def encode(email: Email) -> bytes:
    """The document of one email: ``{"data": ...}``."""
    return _encoder.encode(EmailDocument(email))


def with_bodies(email: Email, html: str | None, text: str | None) -> EmailWithBodies:
    """The email with its bodies added at the end."""
    return EmailWithBodies(**structs.asdict(email), html=html, text=text)


def _correspondent(row: arrivals.Correspondent) -> Correspondent:
    return Correspondent(str(row.id), row.display_name, row.address, moment(row.created_at), moment(row.updated_at))


def _attachments(arrival: Arrival, kept: bytes) -> list[EmailAttachment]:
    parsed = message.load(kept)
    parts = {part.section: part for part in structure.walk(parsed.root)}
    when = moment(arrival.created_at)[:19].replace("T", " ")
    return [_attachment(arrival.id, one, parts[one.section], when) for one in parsed.attachments[:MAX_ATTACHMENTS]]


def _attachment(email_id: uuid.UUID, attachment: Attachment, part: Part, when: str) -> EmailAttachment:
    size_bytes = part.end - part.start
    return EmailAttachment(
        str(attachment_id(email_id, attachment.index)),
        str(email_id),
        _headers_hashed(part),
        attachment.filename or f"attachment-{attachment.index}",
        attachment.content_type,
        size_bytes,
        when,
        when,
        human_size(size_bytes),
    )


def _headers_hashed(part: Part) -> str:
    """The MD5 of the part's headers as JSON: a mark to tell attachments apart by, nothing that is secret."""
    fields = {
        "content-type": part.content_type,
        "parameters": part.parameters,
        "content-transfer-encoding": part.encoding,
        "content-disposition": part.disposition,
        "disposition-parameters": part.disposition_parameters,
        "content-id": part.content_id,
        "content-description": part.description,
    }
    return hashlib.md5(_encoder.encode(fields), usedforsecurity=False).hexdigest()
