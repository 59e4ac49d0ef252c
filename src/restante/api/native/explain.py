"""Why a message is where it is: how it came, which address led here, where its bytes are, what happened to it since."""

import uuid
from typing import NamedTuple

import msgspec

from restante.api.native import auth, resources, shapes
from restante.core import contents, events, folders, mailboxes, messages
from restante.core.access import Principal
from restante.core.contents import StoredContent
from restante.core.events import Event
from restante.core.messages import MessageRow
from restante.errors import NotFound
from restante.http.answers import Reply
from restante.http.calls import Call
from restante.mail import address as addresses
from restante.mail import message as mail
from restante.mail import structure
from restante.schema.connections import ReadConn, scanning

SCOPE = "messages:read"


class Arrival(msgspec.Struct):
    """How the message came. ``trace`` are the lines that this server put in front of it (RFC 5321 §4.4).

    ``route``: which rule led the recipient to this mailbox: address, tag (a plus-address), alias, catch-all, or stored
    (it did not come by mail).
    """

    received_at: str
    envelope_sender: str
    recipient: str
    route: str
    trace: list[str]


class Bytes(msgspec.Struct):
    """The bytes as they came. ``kept_in``: row or blob; ``parts``: MIME parts, the message itself among them."""

    size_bytes: int
    sha256: str
    kept_in: str
    parts: int


class Explained(msgspec.Struct):
    """All that this server knows of a message. ``is_whole``: whether ``events`` are all that there were."""

    message: shapes.MessageItem
    mailbox: str
    folder: str
    arrival: Arrival
    bytes: Bytes
    events: list[shapes.EventItem]
    is_whole: bool


class _Found(NamedTuple):
    row: MessageRow
    mailbox: mailboxes.Mailbox
    folder: str
    route: str
    trace: bytes
    content: StoredContent
    history: list[Event]
    is_whole: bool


async def explain(call: Call) -> Reply:
    """Tell what happened to a message, from the server that brought it to now."""
    principal = await auth.require(call, SCOPE)
    found = await call.rt.db.read(_read, principal, resources.public_id(call, "message"))
    row, content = found.row, found.content
    lines = found.trace.decode("utf-8", "replace").replace("\r\n\t", " ").split("\r\n")
    recipient = row.envelope_recipient
    arrival = Arrival(
        shapes.moment(row.received_at), row.envelope_sender, recipient, found.route, [line for line in lines if line]
    )
    parts = sum(1 for _ in structure.walk(mail.load(content.structure).root))
    kept = Bytes(content.size_bytes, content.sha256.hex(), "row" if content.blob_key is None else "blob", parts)
    told = [shapes.event(event) for event in found.history]
    shown = Explained(shapes.message(row), found.mailbox.address, found.folder, arrival, kept, told, found.is_whole)
    return shapes.answer(shown)


@scanning
def _read(conn: ReadConn, principal: Principal, public_id: uuid.UUID) -> _Found:
    account_id = principal.account_id
    row = messages.get_public(conn, account_id, public_id)
    if principal.mailbox_id not in (None, row.mailbox_id):
        raise NotFound("There is no such message.", code="message_not_found")
    mailbox = mailboxes.get(conn, account_id, row.mailbox_id)
    trace, content_id = messages.trace(conn, account_id, row.id)
    history, is_whole = events.list_of_message(conn, account_id, row.mailbox_id, row.public_id, row.received_at)
    return _Found(
        row,
        mailbox,
        next(one.name for one in folders.list_folders(conn, account_id, mailbox.id) if one.id == row.folder_id),
        _route(conn, mailbox, row.envelope_recipient),
        trace,
        contents.get(conn, account_id, content_id),
        history,
        is_whole,
    )


def _route(conn: ReadConn, mailbox: mailboxes.Mailbox, recipient: str) -> str:
    """Which rule leads from the recipient to the mailbox now."""
    if not recipient:
        return "stored"
    if recipient == mailbox.address:
        return "address"
    local, domain = addresses.split(recipient)
    base = f"{local.partition('+')[0]}@{domain}"
    aliases = {alias.address for alias in mailboxes.list_aliases(conn, mailbox.account_id, mailbox.id)}
    if recipient in aliases:
        return "alias"
    return "tag" if base == mailbox.address or base in aliases else "catch-all"
