"""Operations on messages: list, show, raw bytes, take back from Trash."""

import asyncio
import uuid
from datetime import datetime
from typing import Any

from restante.core import accounts, folders, mailboxes, messages, search, trash
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.core.messages import MessageRow
from restante.errors import NotFound
from restante.mail import message
from restante.mail.address import Address
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming
from restante.services import retrieval
from restante.services.retrieval import Content

Json = dict[str, Any]

MAX_PAGE = 1000
MAX_TEXT = 1024 * 1024  # characters of a message's text that `message show` prints


def _person(address: Address) -> Json:
    return {"name": address.name, "email": address.email}


def _message_json(row: MessageRow, mailbox: str, folder: str) -> Json:
    return {
        "id": str(row.public_id),
        "mailbox": mailbox,
        "folder": folder,
        "uid": row.uid,
        "flags": list(row.flags),
        "from": _person(row.from_),
        "to": [_person(one) for one in row.to],
        "subject": row.subject,
        "preview": row.preview,
        "message_id": row.message_id_header,
        "sent_at": naming.moment(row.sent_at),
        "received_at": naming.moment(row.received_at),
        "size_bytes": row.size_bytes,
        "attachments": row.attachments,
        "envelope_sender": row.envelope_sender,
        "envelope_recipient": row.envelope_recipient,
    }


def _place(conn: ReadConn, mailbox: str, folder: str) -> tuple[Mailbox, Folder]:
    found = naming.mailbox(conn, mailbox)
    return found, folders.get_folder(conn, found.account_id, found.id, folder)


def _list_messages(conn: ReadConn, mailbox: str, folder: str, limit: int, before_uid: int | None) -> Json:
    owner, place = _place(conn, mailbox, folder)
    rows = messages.list_page(conn, owner.account_id, place.id, limit=limit, before_uid=before_uid)
    listed = [_message_json(row, owner.address, place.name) for row in rows]
    return {"total": place.messages, "messages": listed}


def _folder_names(conn: ReadConn, mailbox: str) -> tuple[Mailbox, dict[int, str]]:
    owner = naming.mailbox(conn, mailbox)
    return owner, {one.id: one.name for one in folders.list_folders(conn, owner.account_id, owner.id)}


def _find_message(conn: ReadConn, mailbox: str, folder: str, uid: int) -> tuple[MessageRow, Json]:
    owner, place = _place(conn, mailbox, folder)
    row = messages.find(conn, owner.account_id, place.id, uid)
    if row is None:
        raise NotFound(f"there is no message {uid} in {place.name} of {owner.address}", code="message_not_found")
    return row, _message_json(row, owner.address, place.name) | {"account_id": owner.account_id}


async def message_list(
    rt: Runtime,
    mailbox: str,
    folder: str = "INBOX",
    search: str | None = None,
    limit: int = 50,
    before_uid: int | None = None,
) -> Json:
    """Messages of a folder, newest first; with ``search`` those that hold every word (folder ``*``: in all)."""
    limit = max(1, min(limit, MAX_PAGE))
    if search is None:
        return await rt.db.read(_list_messages, mailbox, folder, limit, before_uid)
    return await _search_messages(rt, mailbox, folder, search, limit)


async def _search_messages(rt: Runtime, mailbox: str, folder: str, text: str, limit: int) -> Json:
    owner, names = await rt.db.read(_folder_names, mailbox)
    folder_id = None if folder == "*" else (await rt.db.read(_place, mailbox, folder))[1].id
    page = await rt.db.read(search.search, owner.account_id, owner.id, text, folder_id=folder_id, limit=limit, offset=0)
    listed = [_message_json(hit.row, owner.address, names.get(hit.row.folder_id, "")) for hit in page.items]
    return {"total": page.total, "messages": listed}


async def message_show(rt: Runtime, mailbox: str, uid: int, folder: str = "INBOX") -> Json:
    """One message with its headers, text and attachments' names."""
    row, shown = await rt.db.read(_find_message, mailbox, folder, uid)
    found = await retrieval.content(rt, shown.pop("account_id"), row.content_id)
    loop = asyncio.get_running_loop()  # a large message's text takes its time: others go on meanwhile
    return shown | await loop.run_in_executor(rt.pool, _content_json, found)


def _content_json(found: Content) -> Json:
    text = message.text(found.message, found.raw)
    return {
        "cc": [_person(one) for one in found.message.cc],
        "headers": [[name, value] for name, value in message.headers(found.raw)],
        "text": None if text is None else text[:MAX_TEXT],
        "has_html": message.html(found.message, found.raw) is not None,
        "attachment_list": [
            {
                "index": one.index,
                "filename": one.filename,
                "content_type": one.content_type,
                "size_bytes": one.size_bytes,
                "content_id": one.content_id,
            }
            for one in found.message.attachments
        ],
    }


async def message_raw(rt: Runtime, mailbox: str, uid: int, folder: str = "INBOX") -> bytes:
    """One message as its recipient sees it: trace headers, then the received bytes."""
    row, shown = await rt.db.read(_find_message, mailbox, folder, uid)
    return await retrieval.raw(rt, shown["account_id"], row.id)


async def message_undelete(rt: Runtime, message: str) -> Json:
    """Move a message, by its id, from Trash back to where it was."""
    return await rt.db.write(_undelete, naming.public_id(message, "message"), rt.clock.now())


def _undelete(conn: WriteConn, public_id: uuid.UUID, now: datetime) -> Json:
    for account in accounts.list_accounts(conn):  # the operator names no account
        if messages.find_public(conn, account.id, public_id) is not None:
            row = trash.undelete(conn, account.id, public_id, now)
            owner = mailboxes.get(conn, account.id, row.mailbox_id)
            names = {one.id: one.name for one in folders.list_folders(conn, account.id, owner.id)}
            return _message_json(row, owner.address, names[row.folder_id])
    raise NotFound(f"there is no message {public_id}", code="message_not_found")
