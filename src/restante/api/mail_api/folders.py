"""Folders of one's own mailbox: make, rename, delete. ``view_mailbox`` reads and changes nothing."""

from msgspec import Struct

from restante.api.mail_api import auth, mailbox, paging, shapes
from restante.api.mail_api.shapes import Done, FolderItem, FolderName
from restante.core import folders
from restante.core.folders import Folder
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call


class NewFolder(Struct, frozen=True):
    """A folder's name; ``/`` stands between a folder and those below it."""

    name: FolderName


class WhichFolder(Struct, frozen=True):
    """Which folder."""

    folder: FolderName


class FolderAnswer(Struct, frozen=True):
    """One folder."""

    success: bool
    mailbox: str
    folder: FolderItem


async def create_folder(call: Call) -> Answer:
    """Make a folder."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewFolder)
    folders.require_name(wanted.name)
    owner = await call.rt.db.read(mailbox.read_own, caller.principal, call.params["email"])
    made = await call.rt.db.write(folders.create, owner.account_id, owner.id, wanted.name, call.rt.clock.now())
    return _answer(owner.address, made, 201)


async def rename_folder(call: Call) -> Answer:
    """Rename a folder, and those below it with it. The folders that every mailbox has keep their names."""
    caller = await auth.require(call)
    query = schemas.query(call, WhichFolder)
    wanted = await schemas.body(call, NewFolder)
    folders.require_name(wanted.name)
    owner = await call.rt.db.read(mailbox.read_own, caller.principal, call.params["email"])
    place = owner.account_id, owner.id
    renamed = await call.rt.db.write(folders.rename, *place, query.folder, wanted.name, call.rt.clock.now())
    return _answer(owner.address, renamed)


async def delete_folder(call: Call) -> Answer:
    """Delete an empty folder."""
    caller = await auth.require(call)
    query = schemas.query(call, WhichFolder)
    owner = await call.rt.db.read(mailbox.read_own, caller.principal, call.params["email"])
    place = owner.account_id, owner.id
    gone = await call.rt.db.write(folders.remove, *place, query.folder, call.rt.clock.now())
    return shapes.answer(Done(True, f"Folder {gone.name} has been deleted"))


def _answer(address: str, folder: Folder, status: int = 200) -> Answer:
    return shapes.answer(FolderAnswer(True, address, paging.folder_item(folder)), status=status)
