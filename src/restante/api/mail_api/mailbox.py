"""Endpoints 4 to 7: folders, messages, one message, an attachment. Nothing here changes mail (see ``filing``)."""

import asyncio
from datetime import datetime
from typing import NamedTuple

from restante.api.mail_api import auth, mail_shapes, paging, shapes
from restante.core import access, folders, listing, messages
from restante.core.access import Presumed, Principal
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.core.messages import MessageRow
from restante.errors import NotFound
from restante.http import schemas
from restante.http.answers import Answer, Stream
from restante.http.calls import Call
from restante.http.downloads import attached
from restante.ids import Uid
from restante.mail import message as mail
from restante.mail.message import Attachment
from restante.schema.connections import ReadConn, single
from restante.services import retrieval
from restante.services.retrieval import Content

OFF_LOOP_BYTES = 256 * 1024  # bodies of larger messages are decoded in a thread

# Headers that an answer shows in fields of their own, or that describe the MIME structure.
_OWN_FIELDS = frozenset({"from", "to", "cc", "subject", "date", "message-id", "mime-version"})


class FolderPage(NamedTuple):
    """A page of a folder under the name that it has here; ``total`` counts all messages of the folder."""

    address: str
    folder: str
    total: int
    items: list[shapes.MessageItem]


class Found(NamedTuple):
    """One message as read in one transaction; ``trace`` is the recipient's own header lines."""

    row: MessageRow
    mailbox: Mailbox
    trace: bytes


async def list_folders(call: Call) -> Answer:
    """List the folders of a mailbox with their counters."""
    caller = await auth.require(call)
    mailbox, found = await call.rt.db.read(read_folders, caller.principal, call.params["email"])
    items = [paging.folder_item(folder) for folder in paging.sorted_folders(found)]
    return shapes.answer(shapes.FolderList(True, mailbox.address, items))


async def list_messages(call: Call) -> Answer:
    """List the messages of a folder, newest first."""
    _, listed = await auth.read(call, read_page, _list_query)
    return _listed(listed)


def _list_query(call: Call) -> shapes.ListQuery:
    return schemas.query(call, shapes.ListQuery)


def _listed(listed: FolderPage) -> Answer:
    return shapes.answer(shapes.MessageList(True, *listed))


async def list_inbox(call: Call) -> Answer:
    """List the messages of an INBOX, newest first: the token's own, or that of `email`."""
    caller = await auth.require(call)
    query = schemas.query(call, mail_shapes.InboxQuery)
    address = query.email or caller.principal.address
    if address is None:
        raise paging.wrong("email", "An admin token has no mailbox of its own.")
    page = shapes.ListQuery(limit=query.limit, offset=query.offset)
    return _listed(await call.rt.db.read(read_page, caller.principal, address, page))


async def get_message(call: Call) -> Answer:
    """Get one message with its text and the list of its attachments. It is not marked as read."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.FolderQuery)
    found = await call.rt.db.read(read_message, caller.principal, call.params, query.folder)
    content = await retrieval.content(call.rt, found.mailbox.account_id, found.row.content_id)
    if found.row.size_bytes > OFF_LOOP_BYTES:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(call.rt.pool, _full, found, content)
    return _full(found, content)


async def get_attachment(call: Call) -> Stream:
    """Download an attachment: its decoded bytes with its own Content-Type and its name in Content-Disposition."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.FolderQuery)
    found = await call.rt.db.read(read_message, caller.principal, call.params, query.folder)
    index = _attachment_index(call.params["index"])
    return attached(await retrieval.attachment(call.rt, found.mailbox.account_id, found.row.content_id, index))


def read_folders(conn: ReadConn, principal: Principal, address: str) -> tuple[Mailbox, list[Folder]]:
    """The folders of a mailbox that the principal may read."""
    mailbox = access.require_mailbox(conn, principal, address)
    return mailbox, folders.list_folders(conn, mailbox.account_id, mailbox.id)


def read_own(conn: ReadConn, principal: Principal, address: str) -> Mailbox:
    """The mailbox that the principal may change: their own, an admin all. Errors: Forbidden, NotFound."""
    return access.require_mailbox(conn, principal, address, None)


@single
def read_page(conn: ReadConn, who: Principal | Presumed, address: str, query: shapes.ListQuery) -> FolderPage:
    """A page of a folder that who asks may read. Errors: Forbidden, NotFound (mailbox, folder)."""
    place, items = listing.find_page(conn, who, address, query.folder, _item, limit=query.limit, offset=query.offset)
    if place.folder is None:
        raise paging.no_folder(query.folder)
    return FolderPage(place.address, paging.shown(place.folder, place.role), place.messages or 0, items)


def read_message(conn: ReadConn, principal: Principal, params: dict[str, str], folder_name: str) -> Found:
    """The message that a path names. Errors: Forbidden, NotFound (mailbox, folder, message)."""
    mailbox = access.require_mailbox(conn, principal, params["email"])
    folder = paging.require_folder(conn, mailbox, folder_name)
    uid: Uid = paging.uid(params["uid"])
    row = messages.find(conn, mailbox.account_id, folder.id, uid)
    if row is None:
        raise NotFound(f"There is no message {uid} in {paging.shown_name(folder)}.", code="message_not_found")
    trace, _ = messages.trace(conn, mailbox.account_id, row.id)
    return Found(row, mailbox, trace)


def _item(
    uid: Uid,
    message_id: str | None,
    name: str,
    email: str,
    to: listing.People,
    subject: str,
    date: datetime,
    size: int,
    flags: tuple[str, ...],
    attachments: int,
) -> shapes.MessageItem:
    person = shapes.Person
    people = [person(*to[0])] if len(to) == 1 else [person(*one) for one in to]
    return shapes.MessageItem(uid, message_id, person(name, email), people, subject, date, size, flags, attachments > 0)


def _full(found: Found, content: Content) -> Answer:
    row, parsed = found.row, content.message
    full = shapes.FullMessage(
        success=True,
        uid=row.uid,
        message_id=row.message_id_header,
        from_=shapes.person(row.from_),
        to=[shapes.person(one) for one in parsed.to],
        cc=[shapes.person(one) for one in parsed.cc],
        subject=parsed.subject,
        date=shapes.moment(row.sent_at or row.received_at),
        headers=other_headers([*mail.headers(found.trace), *mail.headers(content.raw)]),
        body=shapes.Body(mail.text(parsed, content.raw), mail.html(parsed, content.raw)),
        attachments=[attachment_item(attachment) for attachment in parsed.attachments],
        flags=row.flags,
    )
    return shapes.answer(full)


def attachment_item(attachment: Attachment) -> shapes.AttachmentItem:
    """An attachment as lists show it."""
    name = attachment.filename or f"attachment-{attachment.index}"
    kind, size = attachment.content_type, attachment.size_bytes
    return shapes.AttachmentItem(attachment.index, name, kind, size, attachment.content_id)


def other_headers(found: list[tuple[str, str]]) -> dict[str, str]:
    """The headers without a field of their own, as first spelled; the values of repeated ones joined by newline."""
    values: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, value in found:
        key = name.lower()
        if key not in _OWN_FIELDS and not key.startswith("content-"):
            values.setdefault(spelled.setdefault(key, name), []).append(value)
    return {name: "\n".join(parts) for name, parts in values.items()}


def _attachment_index(text: str) -> int:
    index = paging.number(text)
    if index is None:
        raise NotFound(f"There is no attachment {text[:20]}.", code="attachment_not_found")
    return index
