"""Folders by the names that the Mail API shows, and numbers in paths."""

from collections.abc import Iterable

from restante.core import folders
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.errors import NotFound
from restante.ids import Uid
from restante.schema.connections import ReadConn

MAX_NUMBER = 2**63 - 1
_ORDER = {"inbox": 0, "sent": 1, "drafts": 2, "trash": 3, "junk": 4}


def shown_name(folder: Folder) -> str:
    """The folder's name here: Junk is shown as Spam."""
    return "Spam" if folder.role == "junk" else folder.name


def sorted_folders(found: Iterable[Folder]) -> list[Folder]:
    """INBOX, Sent, Drafts, Trash, Spam, then the others by name."""
    return sorted(found, key=lambda folder: (_ORDER.get(folder.role or "", 9), folder.name.casefold(), folder.name))


def require_folder(conn: ReadConn, mailbox: Mailbox, name: str) -> Folder:
    """The folder of that name; NotFound ``folder_not_found`` (INVALID_FOLDER)."""
    found = folders.find_folder(conn, mailbox.account_id, mailbox.id, name)
    if found is None:
        raise NotFound(f"There is no folder {name[:100]!r}.", code="folder_not_found")
    return found


def number(text: str) -> int | None:
    """A path's number, or None when it is none that a row could have."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    value = int(text)
    return value if value <= MAX_NUMBER else None


def uid(text: str) -> Uid:
    """A path's UID; NotFound ``message_not_found`` when it cannot be one."""
    found = number(text)
    if found is None:
        raise NotFound("There is no such message.", code="message_not_found")
    return Uid(found)
