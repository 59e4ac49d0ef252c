"""Import and export: the command reads and writes the files, the bytes travel through here."""

import uuid
from datetime import datetime
from typing import Any

from restante.core import folders, messages
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.errors import Invalid, QuotaExceeded
from restante.ids import MessageId
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming
from restante.services import retrieval, storing

Json = dict[str, Any]


def _ensured_folder(conn: WriteConn, owner: Mailbox, name: str, now: datetime) -> Folder:
    found = folders.find_folder(conn, owner.account_id, owner.id, name)
    return found or folders.create(conn, owner.account_id, owner.id, name, now)


async def import_begin(rt: Runtime, mailbox: str, folder_names: list[str]) -> Json:
    """Make sure that a mailbox has the folders which an import needs; says how large a message may be."""
    owner = await rt.db.read(naming.own_mailbox, mailbox)
    made = {name: (await rt.db.write(_ensured_folder, owner, name, rt.clock.now())).name for name in folder_names}
    limit = rt.config.smtp.limits.max_message_bytes
    return {"mailbox": owner.address, "folders": made, "max_message_bytes": limit}


async def import_message(
    rt: Runtime,
    mailbox: str,
    folder: str,
    raw: bytes,
    flags: int = 0,
    keywords: str = "",
    received_at: str | None = None,
) -> Json:
    """Store one message as it is; durable when it answers."""
    owner = await rt.db.read(naming.own_mailbox, mailbox)
    if owner.quota_bytes is not None and owner.used_bytes + len(raw) > owner.quota_bytes:
        raise QuotaExceeded(f"the mailbox {owner.address} is full", code="over_quota")
    moment = naming.read_moment(received_at)
    stored = await storing.store(
        rt,
        owner.account_id,
        owner.id,
        folder,
        raw,
        flags=messages.Flag(flags & 31),
        keywords=messages.require_keywords(keywords.split()),
        received_at=moment,
    )
    return {"id": stored.public_id, "uid": stored.uid}


def _list_folders(conn: ReadConn, mailbox: str) -> Json:
    owner = naming.mailbox(conn, mailbox)
    found = folders.list_folders(conn, owner.account_id, owner.id)
    return {
        "mailbox": owner.address,
        "folders": [
            {"name": one.name, "role": one.role, "messages": one.messages, "size_bytes": one.size_bytes}
            for one in found
        ],
    }


async def folder_list(rt: Runtime, mailbox: str) -> Json:
    """The folders of a mailbox."""
    return await rt.db.read(_list_folders, mailbox)


async def export_message(rt: Runtime, mailbox: str, message_id: str) -> bytes:
    """One message's bytes by its public id."""
    owner = await rt.db.read(naming.mailbox, mailbox)
    row = await rt.db.read(messages.get_public, owner.account_id, _uuid(message_id))
    return await retrieval.raw(rt, owner.account_id, MessageId(row.id))


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no message id") from error
