"""Messages of one's own mailbox: flags, moves, deletion; their bytes; the room that they take."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from restante.api.mail_api import auth, mailbox, paging, shapes
from restante.api.mail_api.mailbox import Found
from restante.api.mail_api.shapes import Done, FolderName
from restante.core import access, messages
from restante.core.access import Principal
from restante.core.folders import Folder
from restante.core.messages import FLAG_NAMES, NO_FLAGS, Flag
from restante.errors import Invalid
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.downloads import DOWNLOAD_HEADERS, disposition
from restante.schema.connections import ReadConn
from restante.services import retrieval

_FLAGS = {name: flag for flag, name in FLAG_NAMES.items()}

FlagName = Literal["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]
Flags = Annotated[list[FlagName], Meta(max_length=10, examples=[["\\Seen"]])]


class MessageChanges(Struct, frozen=True):
    """Flags to set and to clear, and the folder to move the message to; at least one of them."""

    add_flags: Flags = []
    remove_flags: Flags = []
    move_to: FolderName | None = None


class ChangedMessage(Struct, frozen=True):
    """Where the message is now and how it is flagged; a move gives it another ``uid``."""

    success: bool
    mailbox: str
    folder: str
    uid: int
    flags: tuple[str, ...]


class DeleteQuery(Struct, frozen=True):
    """Which folder; ``permanent=true`` skips the Trash."""

    folder: FolderName = "INBOX"
    permanent: bool = False


class QuotaAnswer(Struct, frozen=True):
    """Bytes that the mailbox may hold (null: no limit) and holds."""

    success: bool
    mailbox: str
    quota: int | None
    used: int
    messages: int


async def change_message(call: Call) -> Answer:
    """Flag a message, move it to another folder, or both."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.FolderQuery)
    changes = await schemas.body(call, MessageChanges)
    if not (changes.add_flags or changes.remove_flags or changes.move_to):
        raise Invalid("There is nothing to change.", details={"body": "add_flags, remove_flags or move_to"})
    found, target = await call.rt.db.read(read_move, caller.principal, call.params, query.folder, changes.move_to)
    owner, row = found.mailbox, found.row
    changed = await call.rt.db.write(
        messages.revise, owner.account_id, owner.id, row.id,
        add=_bits(changes.add_flags), remove=_bits(changes.remove_flags),
        folder_id=None if changes.move_to is None else target.id, now=call.rt.clock.now(),
    )  # fmt: skip
    shown = ChangedMessage(True, owner.address, paging.shown_name(target), changed.uid, changed.flags)
    return shapes.answer(shown)


async def delete_message(call: Call) -> Answer:
    """Move a message to the Trash. One that is there already, or with `permanent=true`, is deleted for good."""
    caller = await auth.require(call)
    query = schemas.query(call, DeleteQuery)
    found, trash = await call.rt.db.read(read_move, caller.principal, call.params, query.folder, "Trash")
    owner, row, now = found.mailbox, found.row, call.rt.clock.now()
    if query.permanent or row.folder_id == trash.id:
        await call.rt.db.write(messages.remove, owner.account_id, owner.id, [row.id], now=now)
        return shapes.answer(Done(True, "The message has been deleted for good"))
    await call.rt.db.write(messages.move, owner.account_id, owner.id, [row.id], trash.id, now=now)
    return shapes.answer(Done(True, "The message has been moved to Trash"))


async def get_raw(call: Call) -> Answer:
    """Download a message as it was received, with the headers that delivery put in front."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.FolderQuery)
    found = await call.rt.db.read(mailbox.read_message, caller.principal, call.params, query.folder)
    raw = await retrieval.raw(call.rt, found.mailbox.account_id, found.row.id)
    name = (b"content-disposition", disposition(f"message-{found.row.uid}.eml", 0))
    return Answer(raw, content_type=b"message/rfc822", headers=(name, *DOWNLOAD_HEADERS))


async def get_quota(call: Call) -> Answer:
    """Show how many bytes a mailbox may hold and holds."""
    caller = await auth.require(call)
    owner = await call.rt.db.read(access.require_mailbox, caller.principal, call.params["email"])
    shown = QuotaAnswer(True, owner.address, owner.quota_bytes, owner.used_bytes, owner.messages)
    return shapes.answer(shown)


def read_move(
    conn: ReadConn, principal: Principal, params: dict[str, str], folder_name: str, move_to: str | None
) -> tuple[Found, Folder]:
    """A message of a mailbox that the principal may change, and the folder it goes to (None: stays in).

    Errors: Forbidden, NotFound (mailbox, folder, message).
    """
    owner = mailbox.read_own(conn, principal, params["email"])
    found = mailbox.read_message(conn, principal, params, folder_name)
    return found, paging.require_folder(conn, owner, folder_name if move_to is None else move_to)


def _bits(names: list[FlagName]) -> Flag:
    found = NO_FLAGS
    for name in names:
        found |= _FLAGS[name]
    return found
