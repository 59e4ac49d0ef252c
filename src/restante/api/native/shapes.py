"""The native API's JSON, as msgspec structs: what is read, what is given, what the OpenAPI document says."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from restante.core import event_types
from restante.core.events import Event
from restante.core.messages import MessageRow
from restante.http.answers import Answer, Headers

MAX_CURSOR = 2**62


class EventItem(msgspec.Struct, rename={"id_": "id"}):
    """One event. ``id`` is its number in the account's log, without gaps: the cursor behind it.

    ``data`` has the fields of its ``type`` and ``version``; ``mailbox`` is the address it is about, if any.
    """

    id_: int
    type: str
    version: int
    created_at: str
    mailbox: str | None
    data: Any


class EventList(msgspec.Struct):
    """A page. Ask again with ``after=cursor``; a page of rare types may be empty before the log's end (``is_last``)."""

    events: list[EventItem]
    cursor: int
    is_last: bool


class EventQuery(msgspec.Struct, frozen=True):
    """Which events."""

    after: Annotated[int, Meta(ge=0, le=MAX_CURSOR, description="The cursor: events behind this number.")] = 0
    types: Annotated[
        str,
        Meta(max_length=1000, description="Types or families, separated by commas: message.received,transfer.*"),
    ] = "*"
    mailbox: Annotated[str, Meta(max_length=320, description="Only those about this mailbox.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="Events of a page.")] = 100


class Person(msgspec.Struct):
    """A name and an address, as the header has them."""

    name: str
    address: str


class MessageItem(msgspec.Struct, rename={"id_": "id", "from_": "from"}):
    """A message. ``envelope_sender`` and ``recipient`` are what the other server said; the rest is in its headers."""

    id_: str
    mailbox_id: int
    folder_id: int
    uid: int
    received_at: str
    envelope_sender: str
    recipient: str
    from_: Person
    to: list[Person]
    subject: str
    message_id: str | None
    preview: str
    flags: list[str]
    attachments: int
    size_bytes: int


def message(row: MessageRow) -> MessageItem:
    """A message as it is shown."""
    return MessageItem(
        id_=str(row.public_id),
        mailbox_id=int(row.mailbox_id),
        folder_id=int(row.folder_id),
        uid=int(row.uid),
        received_at=moment(row.received_at),
        envelope_sender=row.envelope_sender,
        recipient=row.envelope_recipient,
        from_=Person(row.from_.name, row.from_.email),
        to=[Person(one.name, one.email) for one in row.to],
        subject=row.subject,
        message_id=row.message_id_header,
        preview=row.preview,
        flags=list(row.flags),
        attachments=row.attachments,
        size_bytes=row.size_bytes,
    )


def moment(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def optional_moment(value: datetime | None) -> str | None:
    """As ``moment``, where there may be none."""
    return None if value is None else moment(value)


def event(item: Event) -> EventItem:
    """An event as it is shown."""
    return EventItem(int(item.number), item.type, item.version, moment(item.created_at), item.mailbox, item.body)


def answer(value: msgspec.Struct, status: int = 200, headers: Headers = ()) -> Answer:
    """JSON that nobody keeps."""
    return Answer(msgspec.json.encode(value), status, headers=(*headers, (b"cache-control", b"no-store")))


BODIES = sorted({kind.body for kind in event_types.TYPES.values()}, key=lambda kind: kind.__name__)
"""Of the event types: parts of the OpenAPI document."""
