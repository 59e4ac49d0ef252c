"""Folders of a mailbox: names, roles, and the counters that IMAP and the APIs show (RFC 9051 §2.3, RFC 6154)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from restante import clock
from restante.core import events
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, FolderId, MailboxId, ModSeq, Uid
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

DEFAULTS = (
    ("INBOX", "inbox"),
    ("Sent", "sent"),
    ("Drafts", "drafts"),
    ("Junk", "junk"),
    ("Trash", "trash"),
    ("Archive", "archive"),
)
SPECIAL = {name.casefold(): name for name, _ in DEFAULTS} | {"spam": "Junk"}
"""Case-folded spellings of the folders that every mailbox has."""

MAX_NAME = 255  # characters
MAX_DEPTH = 20
MAX_FOLDERS = 5_000  # of one mailbox

_f = tables.folders.c
_COLUMNS = (
    _f.id,
    _f.mailbox_id,
    _f.name,
    _f.role,
    _f.uid_validity,
    _f.uid_next,
    _f.modseq,
    _f.messages,
    _f.unseen,
    _f.size_bytes,
)

_LIST = Prepared(
    select(*_COLUMNS)
    .where(_f.account_id == bindparam("account"), _f.mailbox_id == bindparam("mailbox"))
    .order_by(_f.id)
)
_FIND = Prepared(
    select(*_COLUMNS).where(
        _f.account_id == bindparam("account"),
        _f.mailbox_id == bindparam("mailbox"),
        _f.name == bindparam("folder_name"),
    )
)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with its counters. ``modseq`` is HIGHESTMODSEQ, ``uid_next`` the next UID to be given out."""

    id: FolderId
    mailbox_id: MailboxId
    name: str
    role: str | None
    uid_validity: int
    uid_next: Uid
    modseq: ModSeq
    messages: int
    unseen: int
    size_bytes: int


def _folder(row: Any) -> Folder:
    return Folder(*row)


def canonical(name: str) -> str:
    """The stored spelling: special folders in any case, ``Spam`` for ``Junk``; other names as they are."""
    return SPECIAL.get(name.casefold(), name)


def require_name(name: str) -> str:
    """The stored spelling of a name that may be created. Raises Invalid."""
    parts = name.split("/")
    bad = not name or len(name) > MAX_NAME or len(parts) > MAX_DEPTH or not all(parts)
    if bad or any(ord(letter) < 32 or ord(letter) == 127 for letter in name) or any(p in (".", "..") for p in parts):
        raise Invalid("not a folder name", code="invalid_folder", details={"folder": "not a folder name"})
    return canonical(name)


def create_defaults(conn: WriteConn, account_id: int, mailbox_id: int, now: datetime) -> None:
    """Create the folders that every mailbox has."""
    for name, role in DEFAULTS:
        _insert(conn, account_id, mailbox_id, name, role, now)


def create(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, name: str, now: datetime) -> Folder:
    """Create a folder of the user's own.

    Raises Conflict(code="folder_exists"), Invalid(code="invalid_folder"), LimitExceeded(code="too_many_folders").
    """
    name = require_name(name)
    _require_free(conn, account_id, mailbox_id, name)
    mine = _f.account_id == account_id, _f.mailbox_id == mailbox_id
    if conn.execute(select(func.count()).select_from(tables.folders).where(*mine)).scalar_one() >= MAX_FOLDERS:
        raise LimitExceeded(f"a mailbox has {MAX_FOLDERS} folders at most", code="too_many_folders")
    _insert(conn, account_id, mailbox_id, name, None, now)
    events.record(conn, account_id, "folder.created", {"folder": name}, mailbox_id=mailbox_id, now=now)
    return get_folder(conn, account_id, mailbox_id, name)


def rename(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, name: str, new_name: str, now: datetime
) -> Folder:
    """Give a folder another name, and those below it with it (RFC 9051 §6.3.6); its messages keep their UIDs.

    Raises NotFound(code="folder_not_found"), Invalid(code="invalid_folder") also for a place below itself,
    Conflict: "special_folder" (one that every mailbox has), "folder_exists".
    """
    folder = _own_folder(conn, account_id, mailbox_id, name)
    wanted = require_name(new_name)
    if wanted == folder.name:
        return folder
    if wanted.startswith(f"{folder.name}/"):
        raise Invalid("a folder cannot be below itself", code="invalid_folder", details={"name": "below itself"})
    below = [one for one in list_folders(conn, account_id, mailbox_id) if one.name.startswith(f"{folder.name}/")]
    for one in (folder, *below):
        moved = require_name(wanted + one.name[len(folder.name) :])
        _require_free(conn, account_id, mailbox_id, moved)
        conn.execute(update(tables.folders).where(_f.account_id == account_id, _f.id == one.id).values(name=moved))
    body = {"folder": folder.name, "name": wanted}
    events.record(conn, account_id, "folder.renamed", body, mailbox_id=mailbox_id, now=now)
    return get_folder(conn, account_id, mailbox_id, wanted)


def remove(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, name: str, now: datetime) -> Folder:
    """Delete an empty folder of the user's own, and what is known of UIDs that left it; returns it as it was.

    Those below it stay. Raises NotFound(code="folder_not_found"), Conflict: "special_folder", "folder_not_empty".
    """
    folder = _own_folder(conn, account_id, mailbox_id, name)
    if folder.messages:
        raise Conflict(f"the folder holds {folder.messages} messages", code="folder_not_empty")
    x = tables.expunged.c
    conn.execute(delete(tables.expunged).where(x.account_id == account_id, x.folder_id == folder.id))
    conn.execute(delete(tables.folders).where(_f.account_id == account_id, _f.id == folder.id))
    events.record(conn, account_id, "folder.removed", {"folder": folder.name}, mailbox_id=mailbox_id, now=now)
    return folder


def _own_folder(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, name: str) -> Folder:
    folder = get_folder(conn, account_id, mailbox_id, name)
    if folder.role is not None:
        raise Conflict(f"{folder.name} is a folder that every mailbox has", code="special_folder")
    return folder


def _require_free(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, name: str) -> None:
    if find_folder(conn, account_id, mailbox_id, name) is not None:
        raise Conflict(f"there is a folder {name!r} already", code="folder_exists")


def _insert(conn: WriteConn, account_id: int, mailbox_id: int, name: str, role: str | None, now: datetime) -> None:
    micros = clock.to_micros(now)
    conn.execute(
        insert(tables.folders).values(
            account_id=account_id,
            mailbox_id=mailbox_id,
            name=name,
            role=role,
            uid_validity=max(1, micros // 1_000_000 % (1 << 32)),  # 32 bits, never 0 (RFC 9051 §2.3.1.1)
            uid_next=1,
            modseq=1,
            created_at=micros,
        )
    )


def list_folders(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> list[Folder]:
    """All folders of a mailbox, in the order of their making (the special ones first)."""
    return [_folder(row) for row in _LIST.rows(conn, {"account": account_id, "mailbox": mailbox_id})]


def find_folder(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, name: str) -> Folder | None:
    """The folder of that name; special folders in any case, ``Spam`` is ``Junk``."""
    if "\0" in name:  # no engine keeps it
        return None
    row = _FIND.row(conn, {"account": account_id, "mailbox": mailbox_id, "folder_name": canonical(name)})
    return None if row is None else _folder(row)


def get_folder(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, name: str) -> Folder:
    """As ``find_folder``. Raises NotFound(code="folder_not_found")."""
    found = find_folder(conn, account_id, mailbox_id, name)
    if found is None:
        raise NotFound("no such folder", code="folder_not_found")
    return found
