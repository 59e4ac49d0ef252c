"""Trash: how long a message has been there, taking it back, deleting it for good in the end.

A folder's UIDs are given out in the order in which messages get there. ``messages.move`` notes the time beside the UID;
what got into Trash some other way (stored there, or before there were notes) has been there at least as long as the
next message behind it, so it is enough to note the last one now and then.
"""

import uuid
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select

from restante import clock
from restante.core import folders, messages
from restante.core.messages import TRASH, MessageRow
from restante.errors import Conflict
from restante.ids import AccountId, FolderId, MailboxId, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning

_b, _f, _m, _t = tables.mailboxes.c, tables.folders.c, tables.messages.c, tables.trashed.c


class Trash(NamedTuple):
    """The Trash folder of a mailbox, which has something to be noted or deleted."""

    mailbox_id: MailboxId
    folder_id: FolderId


@scanning
def list_waiting(
    conn: ReadConn, account_id: AccountId, before: datetime, after: FolderId, limit: int
) -> tuple[list[Trash], FolderId | None]:
    """Of the next ``limit`` filled Trash folders behind ``after``, those with a message from before ``before``.

    Or with a last message whose time is not noted. Also where to go on; None at the end.
    """
    filled = (
        select(_f.mailbox_id, _f.id)
        .join(tables.mailboxes, (_b.account_id == _f.account_id) & (_b.id == _f.mailbox_id))
        .where(_f.account_id == account_id, _f.role == TRASH, _f.messages > 0, _f.id > after, _b.status != "removed")
        .order_by(_f.id)
        .limit(limit)
    )
    every = [Trash(MailboxId(row[0]), FolderId(row[1])) for row in conn.execute(filled)]
    moment = clock.to_micros(before)
    waiting = [one for one in every if _is_waiting(conn, account_id, one.folder_id, moment)]
    return waiting, every[-1].folder_id if len(every) == limit else None


def _is_waiting(conn: ReadConn, account_id: AccountId, folder_id: FolderId, moment: int) -> bool:
    noted = _t.account_id == account_id, _t.folder_id == folder_id
    oldest = conn.execute(select(_t.trashed_at).where(*noted).order_by(_t.uid).limit(1)).scalar()
    return (oldest is not None and oldest < moment) or find_unnoted(conn, account_id, folder_id) is not None


def find_unnoted(conn: ReadConn, account_id: AccountId, folder_id: FolderId) -> int | None:
    """The UID of the last message, if its time is not noted."""
    last = select(func.max(_m.uid)).where(_m.account_id == account_id, _m.folder_id == folder_id)
    noted = select(func.max(_t.uid)).where(_t.account_id == account_id, _t.folder_id == folder_id)
    uid, noted_uid = conn.execute(last).scalar(), conn.execute(noted).scalar()
    return None if uid is None or uid == noted_uid else int(uid)


def note(conn: WriteConn, account_id: AccountId, folder_id: FolderId, now: datetime) -> None:
    """Note the last message of a Trash folder as being there, if that is not noted."""
    uid = find_unnoted(conn, account_id, folder_id)
    if uid is not None:
        values = {"account_id": account_id, "folder_id": folder_id, "uid": uid, "trashed_at": clock.to_micros(now)}
        conn.execute(insert(tables.trashed).values(values))


def purge(conn: WriteConn, account_id: AccountId, trash: Trash, before: datetime, limit: int, now: datetime) -> int:
    """Delete for good up to ``limit`` messages that have been in Trash since before ``before``; returns how many.

    Records ``message.deleted`` for each.
    """
    moment = clock.to_micros(before)
    mine = _t.account_id == account_id, _t.folder_id == trash.folder_id
    oldest = conn.execute(select(_t.uid, _t.trashed_at).where(*mine).order_by(_t.uid).limit(limit))
    reach = None
    for uid, trashed_at in oldest:
        if trashed_at >= moment:
            break
        reach = uid
    if reach is None:
        return 0
    due = (
        select(_m.id)
        .where(_m.account_id == account_id, _m.folder_id == trash.folder_id, _m.uid <= reach)
        .order_by(_m.uid)
        .limit(limit)
    )
    gone = [MessageId(found) for found in conn.execute(due).scalars()]
    if len(gone) < limit:
        conn.execute(delete(tables.trashed).where(*mine, _t.uid <= reach))
    return messages.remove(conn, account_id, trash.mailbox_id, gone, now=now)


def undelete(conn: WriteConn, account_id: AccountId, public_id: uuid.UUID, now: datetime) -> MessageRow:
    """Move a message from Trash back to the folder it was in, or to INBOX; returns it as it is then.

    Errors: NotFound ``message_not_found``, Conflict ``message_not_in_trash``.
    """
    row = messages.get_public(conn, account_id, public_id)
    folder = select(_f.role).where(_f.account_id == account_id, _f.id == row.folder_id)
    if conn.execute(folder).scalar() != TRASH:
        raise Conflict("The message is not in Trash.", code="message_not_in_trash")
    origin = (
        select(_f.id)
        .join(tables.trashed, (_t.account_id == _f.account_id) & (_t.origin_id == _f.id))
        .where(_t.account_id == account_id, _t.folder_id == row.folder_id, _t.uid == row.uid)
        .where(_f.mailbox_id == row.mailbox_id)
    )
    found = conn.execute(origin).scalar()
    target = folders.get_folder(conn, account_id, row.mailbox_id, "INBOX").id if found is None else FolderId(found)
    messages.move(conn, account_id, row.mailbox_id, [row.id], target, now=now)
    return messages.get(conn, account_id, row.id)
