"""Folders by the names that the Mail API shows, and numbers in paths."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time

from restante.api.mail_api.shapes import FolderItem
from restante.core import folders
from restante.core.folders import Folder
from restante.core.mailboxes import Mailbox
from restante.errors import Invalid, NotFound
from restante.ids import Uid
from restante.schema.connections import ReadConn

YEARS = range(1970, 9999)
MAX_NUMBER = 2**63 - 1
_UNESCAPED_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")  # in a query a raw + means a space
_ORDER = {"inbox": 0, "sent": 1, "drafts": 2, "trash": 3, "junk": 4}


def shown_name(folder: Folder) -> str:
    """The folder's name here."""
    return shown(folder.name, folder.role)


def shown(name: str, role: str | None) -> str:
    """The name of a folder here: Junk is shown as Spam."""
    return "Spam" if role == "junk" else name


def folder_item(folder: Folder) -> FolderItem:
    """A folder as the API shows it."""
    return FolderItem(shown_name(folder), folder.messages, folder.unseen, folder.size_bytes)


def sorted_folders(found: Iterable[Folder]) -> list[Folder]:
    """INBOX, Sent, Drafts, Trash, Spam, then the others by name."""
    return sorted(found, key=lambda folder: (_ORDER.get(folder.role or "", 9), folder.name.casefold(), folder.name))


def require_folder(conn: ReadConn, mailbox: Mailbox, name: str) -> Folder:
    """The folder of that name; NotFound ``folder_not_found`` (INVALID_FOLDER)."""
    found = folders.find_folder(conn, mailbox.account_id, mailbox.id, name)
    if found is None:
        raise no_folder(name)
    return found


def no_folder(name: str) -> NotFound:
    """There is no folder of that name."""
    return NotFound(f"There is no folder {name[:100]!r}.", code="folder_not_found")


def number(text: str) -> int | None:
    """A path's number, or None when it is none that a row could have."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    value = int(text)
    return value if value <= MAX_NUMBER else None


def moment(field: str, text: str, time_of_day: time) -> datetime:
    """An ISO 8601 time in UTC (which is meant where no offset is given); a bare date is completed. Errors: Invalid."""
    try:
        if len(text) <= len("2026-W01-1"):
            found = datetime.combine(datetime.fromisoformat(text).date(), time_of_day)
        else:
            found = datetime.fromisoformat(_UNESCAPED_PLUS.sub("+", text))
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise wrong(field, "Not an ISO 8601 date or time.") from error
    if found.year not in YEARS:
        raise wrong(field, f"The year is not within {YEARS[0]} and {YEARS[-1]}.")
    return found


def wrong(field: str, reason: str) -> Invalid:
    """What is wrong with one query field."""
    return Invalid(f"{field}: {reason}", details={field: reason})


def uid(text: str) -> Uid:
    """A path's UID; NotFound ``message_not_found`` when it cannot be one."""
    found = number(text)
    if found is None:
        raise NotFound("There is no such message.", code="message_not_found")
    return Uid(found)
