"""Looking at what arrivals are to follow: the next piece of an account's event log, or of its messages at first.

An account's arrivals begin with a fill from its messages in order of their public ids, which no move changes; what
happens meanwhile is behind the cursor and follows. Whatever cannot be followed any more (events that are pruned, rows
of another ``FORM``) is thrown away and made anew.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, literal, select

from restante import clock
from restante.core import events
from restante.core.events import Event
from restante.core.messages import Flag
from restante.ids import AccountId, EventNumber
from restante.mail import subjects
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning
from restante.schema.prepared import Prepared, PreparedByIds

FORM = 1  # of the rows: counted up when they, or what mail.subjects makes of a subject, change
STALE = 0  # a form that is made anew
UNWRITTEN = 1_000  # events that say nothing of messages, before the cursor moves for them alone
_TYPES = frozenset(
    {"message.received", "message.read", "message.flagged", "message.moved", "message.deleted", "mailbox.removed"}
)
_NOT_RECEIVED = ("sent", "drafts")  # roles of folders

_x, _m, _e = tables.arrival_cursors.c, tables.messages.c, tables.events.c
_recipients = msgspec.json.Decoder(list[tuple[str, str]])


class Stand(NamedTuple):
    """How far an account's arrivals are."""

    form: int
    event_number: int
    filled_to: bytes | None


class Mail(NamedTuple):
    """A message that came; times are microseconds. ``is_gone``: it was removed before it could be looked at."""

    mailbox_id: int
    message_id: int
    received_at: int
    inbox: str
    inbox_name: str
    sender: str
    sender_name: str
    subject: str  # folded
    size_bytes: int
    read_at: int | None
    is_favorite: bool
    deleted_at: int | None
    is_gone: bool = False


class Change(NamedTuple):
    """What became of a message: read, flagged, trashed, untrashed, deleted; or of a mailbox: removed.

    ``subject`` (folded) is that of a message that came back from the trash.
    """

    kind: str
    mailbox_id: int
    message_id: int
    at: int
    is_read: bool = False
    is_favorite: bool = False
    subject: str = ""


class Piece(NamedTuple):
    """The next piece of work: where the arrivals stand (None: there are none) and will stand after it."""

    stands: Stand | None
    reaches: Stand | None
    added: Sequence[Mail] = ()
    changes: Sequence[Change] = ()


def stand(conn: ReadConn, account_id: AccountId) -> Stand | None:
    """How far the account's arrivals are; None when there are none."""
    found = _STAND.row(conn, {"account": account_id})
    return None if found is None else Stand(*found)


_STAND = Prepared(select(_x.form, _x.event_number, _x.filled_to).where(_x.account_id == bindparam("account")))


_TOLD = Prepared(
    select(_e.number)
    .where(_e.account_id == bindparam("account"), _e.number > bindparam("after"))
    .where(_e.type.in_([literal(name) for name in sorted(_TYPES)]))
    .limit(1)
)


def is_current(conn: ReadConn, account_id: AccountId) -> bool:
    """Whether the arrivals are all there: no event behind them says anything of messages.

    Raises NotFound for no such account.
    """
    newest, pruned = events.bounds(conn, account_id)
    stands = stand(conn, account_id)
    if stands is None or (stands.form, stands.filled_to) != (FORM, None):
        return False
    if stands.event_number == newest:
        return True
    is_near = pruned <= stands.event_number and newest - stands.event_number < UNWRITTEN
    return is_near and _TOLD.row(conn, {"account": account_id, "after": stands.event_number}) is None


def list_followed(conn: ReadConn) -> list[AccountId]:
    """The accounts whose arrivals are kept but not up to date (for the standing job)."""
    a = tables.accounts.c
    is_behind = (_x.event_number < a.event_number) | _x.filled_to.is_not(None) | (_x.form != FORM)
    statement = select(_x.account_id).join(tables.accounts, a.id == _x.account_id).where(is_behind)
    return [AccountId(row.account_id) for row in conn.execute(statement.where(a.status != "removed"))]


@scanning
def survey(conn: ReadConn, account_id: AccountId, limit: int) -> Piece | None:
    """The next piece, of ``limit`` messages or events at most; None when nothing is left to do.

    Raises NotFound for no such account.
    """
    newest, pruned = events.bounds(conn, account_id)
    stands = stand(conn, account_id)
    if stands is None:
        return Piece(None, Stand(FORM, newest, b""))
    if stands.form != FORM or stands.event_number < pruned:
        return Piece(stands, None)
    if stands.filled_to is not None:
        return _fill(conn, account_id, stands, limit)
    if stands.event_number == newest:
        return None
    page = events.list_after(conn, account_id, EventNumber(stands.event_number), limit, types=_TYPES)
    if not page.events and page.is_last and page.cursor - stands.event_number < UNWRITTEN:
        return None
    return _follow(conn, account_id, stands, page.events, page.cursor)


_READ = (
    _m.id,
    _m.mailbox_id,
    _m.folder_id,
    _m.public_id,
    _m.received_at,
    _m.envelope_recipient,
    _m.from_name,
    _m.from_email,
    _m.recipients,
    _m.subject,
    _m.size_bytes,
    _m.flags,
)
_OLDER = Prepared(
    select(*_READ)
    .where(_m.account_id == bindparam("account"), _m.public_id > bindparam("after"))
    .order_by(_m.public_id)
    .limit(bindparam("limit"))
)
_MESSAGES = PreparedByIds(select(*_READ).where(_m.account_id == bindparam("account")), _m.id)


def _fill(conn: ReadConn, account_id: AccountId, stands: Stand, limit: int) -> Piece:
    rows = _OLDER.rows(conn, {"account": account_id, "after": stands.filled_to, "limit": limit})
    filled_to = rows[-1][3] if len(rows) == limit else None
    reader = _Reader(conn, account_id, rows)
    added = [reader.mail(row) for row in rows if reader.was_received(row)]
    return Piece(stands, stands._replace(filled_to=filled_to), added)


def _follow(conn: ReadConn, account_id: AccountId, stands: Stand, found: Sequence[Event], cursor: EventNumber) -> Piece:
    for place, event in enumerate(found):
        if event.type == "mailbox.removed":  # takes steps of its own
            found, cursor = found[: max(place, 1)], EventNumber(event.number - (place > 0))
            break
    wanted = {event.body["message"] for event in found if event.type in ("message.received", "message.moved")}
    rows = _MESSAGES.rows(conn, {"account": account_id}, sorted(wanted))
    reader = _Reader(conn, account_id, rows, [event.body["folder"] for event in found if "folder" in event.body])
    added, changes = [], []
    for event in found:
        if event.type == "message.received":
            if reader.role(event.body["folder"]) not in _NOT_RECEIVED:
                added.append(reader.received(event))
        else:
            changes.append(reader.change(event))
    return Piece(stands, stands._replace(event_number=int(cursor)), added, changes)


class _Reader:
    """What is known of some messages: their rows, the roles of their folders, the addresses of their mailboxes."""

    def __init__(
        self, conn: ReadConn, account_id: AccountId, rows: Iterable[Sequence[Any]], folders: Iterable[int] = ()
    ) -> None:
        self._rows = {row[0]: row for row in rows}
        f, b = tables.folders.c, tables.mailboxes.c
        wanted = {*folders, *(row[2] for row in self._rows.values())}
        roles = conn.execute(select(f.id, f.role).where(f.account_id == account_id, f.id.in_(wanted)))
        self._roles = {row.id: row.role for row in roles}
        mailboxes = {row[1] for row in self._rows.values()}
        named = select(b.id, b.address).where(b.account_id == account_id, b.id.in_(mailboxes), b.status != "removed")
        self._addresses = {row.id: row.address for row in conn.execute(named)}

    def role(self, folder_id: int) -> str | None:
        """What a folder is for; None: nothing special, or it is gone."""
        return self._roles.get(folder_id)

    def was_received(self, row: Sequence[Any]) -> bool:
        """Whether a message that is there is one that came, in a mailbox that is not being deleted."""
        return row[1] in self._addresses and self.role(row[2]) not in _NOT_RECEIVED

    def mail(self, row: Sequence[Any]) -> Mail:
        """A message as it is now."""
        message_id, mailbox_id, folder_id, _, received_at, recipient, name, sender, to, subject, size, flags = row
        inbox = subjects.fold(recipient or self._addresses.get(mailbox_id) or "")
        names = {subjects.fold(email): shown for shown, email in reversed(_recipients.decode(to))}
        return Mail(
            mailbox_id=mailbox_id,
            message_id=message_id,
            received_at=received_at,
            inbox=inbox,
            inbox_name=names.get(inbox, ""),
            sender=subjects.fold(sender),
            sender_name=name,
            subject=subjects.folded(subject),
            size_bytes=size,
            read_at=received_at if flags & Flag.SEEN else None,
            is_favorite=bool(flags & Flag.FLAGGED),
            deleted_at=received_at if self.role(folder_id) == "trash" else None,
        )

    def received(self, event: Event) -> Mail:
        """The message that an event tells of."""
        row = self._rows.get(event.body["message"])
        at = clock.to_micros(event.created_at)
        if row is not None:
            is_trash = self.role(event.body["folder"]) == "trash"
            return self.mail(row)._replace(deleted_at=at if is_trash else None)
        return Mail(
            mailbox_id=event.mailbox_id or 0,
            message_id=event.body["message"],
            received_at=at,
            inbox=subjects.fold(event.body["recipient"] or event.mailbox or ""),
            inbox_name="",
            sender="",
            sender_name="",
            subject="",
            size_bytes=event.body["size_bytes"],
            read_at=None,
            is_favorite=False,
            deleted_at=at,
            is_gone=True,
        )

    def change(self, event: Event) -> Change:
        """What an event says became of a message or a mailbox."""
        mailbox_id, at = event.mailbox_id or 0, clock.to_micros(event.created_at)
        if event.type == "mailbox.removed":
            return Change("removed", mailbox_id, 0, at)
        message_id = event.body["message"]
        match event.type:
            case "message.read":
                return Change("read", mailbox_id, message_id, at)
            case "message.flagged":
                flags = event.body["flags"]
                return Change("flagged", mailbox_id, message_id, at, "\\Seen" in flags, "\\Flagged" in flags)
            case "message.moved" if self.role(event.body["folder"]) == "trash":
                return Change("trashed", mailbox_id, message_id, at)
            case "message.moved":
                row = self._rows.get(message_id)
                subject = "" if row is None else subjects.folded(row[9])
                return Change("untrashed", mailbox_id, message_id, at, subject=subject)
            case _:
                return Change("deleted", mailbox_id, message_id, at)
