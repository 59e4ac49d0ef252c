"""Rows of arrivals with what else is shown of them: from their messages, and of the addresses."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import bindparam, select

from restante import clock
from restante.errors import Unavailable
from restante.ids import AccountId, MailboxId, MessageId
from restante.mail import message
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared, PreparedByIds, Row

_a, _c, _m, _t = tables.arrivals.c, tables.correspondents.c, tables.messages.c, tables.contents.c
_LISTED = _a.account_id == bindparam("account"), _a.deleted_at.is_(None)
_ROW = _a.place, _a.message_id, _a.inbox_id, _a.sender_id, _a.read_at, _a.is_favorite


@dataclass(frozen=True, slots=True)
class Correspondent:
    """An address that mail came from or to, and its name in the newest mail (the address, where it has none)."""

    id: uuid.UUID
    address: str
    display_name: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that was received. ``structure``: what ``mail.message`` keeps of it, None without attachments."""

    id: uuid.UUID
    message_id: MessageId
    mailbox_id: MailboxId
    sender: Correspondent
    inbox: Correspondent
    subject: str
    created_at: datetime
    read_at: datetime | None
    is_favorite: bool
    has_html: bool
    has_text: bool
    size_bytes: int
    carbon_copies: tuple[tuple[str, str], ...]  # (name, address)
    attachments: int
    structure: bytes | None


_BY_PLACE = PreparedByIds(select(*_ROW).where(*_LISTED), _a.place)
_FIND = Prepared(
    select(*_ROW)
    .join(tables.messages, (_m.account_id == _a.account_id) & (_m.id == _a.message_id))
    .where(*_LISTED, _a.mailbox_id == _m.mailbox_id)
    .where(_m.account_id == bindparam("account"), _m.public_id == bindparam("public_id"))
)
_MESSAGES = PreparedByIds(
    select(_m.id, _m.public_id, _m.mailbox_id, _m.subject, _m.size_bytes, _m.attachments, _m.content_id).where(
        _m.account_id == bindparam("account")
    ),
    _m.id,
)
_STRUCTURES = PreparedByIds(select(_t.id, _t.structure).where(_t.account_id == bindparam("account")), _t.id)
_CORRESPONDENTS = PreparedByIds(
    select(_c.id, _c.address, _c.name, _c.created_at, _c.updated_at).where(
        _c.account_id == bindparam("account"), _c.role == bindparam("role")
    ),
    _c.id,
)


def at_places(conn: ReadConn, account_id: AccountId, places: Sequence[int]) -> list[Arrival]:
    """The arrivals at some places, the newest first; without what was removed just now."""
    return _arrivals(conn, account_id, _BY_PLACE.rows(conn, {"account": account_id}, places))


def find(conn: ReadConn, account_id: AccountId, public_id: uuid.UUID) -> Arrival | None:
    """One arrival that is listed."""
    rows = _FIND.rows(conn, {"account": account_id, "public_id": public_id.bytes})
    return next(iter(_arrivals(conn, account_id, rows)), None)


def _arrivals(conn: ReadConn, account_id: AccountId, rows: Sequence[Row]) -> list[Arrival]:
    """Rows of arrivals with what else is shown of them, the newest first; without what was removed just now."""
    key = {"account": account_id}
    messages = {row[0]: row for row in _MESSAGES.rows(conn, key, [row[1] for row in rows])}
    contents = {row[0]: row[1] for row in _STRUCTURES.rows(conn, key, [row[6] for row in messages.values()])}
    inboxes = _correspondents(conn, account_id, "inbox", {row[2] for row in rows})
    senders = _correspondents(conn, account_id, "sender", {row[3] for row in rows})
    found = []
    for place, message_id, inbox_id, sender_id, read_at, is_favorite in sorted(rows, reverse=True):
        if message_id not in messages:
            continue
        _, public_id, mailbox_id, subject, size_bytes, attachments, content_id = messages[message_id]
        parsed = _parsed(contents[content_id])
        types = message.body_types(parsed)
        found.append(
            Arrival(
                uuid.UUID(bytes=public_id),
                message_id,
                mailbox_id,
                senders[sender_id],
                inboxes[inbox_id],
                subject,
                clock.from_micros(place),
                clock.optional_from_micros(read_at),
                bool(is_favorite),
                "text/html" in types,
                "text/plain" in types,
                size_bytes,
                tuple((one.name, one.email) for one in parsed.cc),
                attachments,
                contents[content_id] if attachments else None,
            )
        )
    return found


def _parsed(structure: bytes) -> message.Message:
    try:
        return message.load(structure)
    except msgspec.MsgspecError as error:
        raise Unavailable("the stored rows are damaged; run `restante verify`", code="content_damaged") from error


def _correspondents(conn: ReadConn, account_id: AccountId, role: str, ids: Collection[int]) -> dict[int, Correspondent]:
    rows = _CORRESPONDENTS.rows(conn, {"account": account_id, "role": role}, sorted(ids))
    return {
        row[0]: Correspondent(
            _correspondent_id(account_id, role, row[1]),
            row[1],
            row[2] or row[1],
            clock.from_micros(row[3]),
            clock.from_micros(row[4]),
        )
        for row in rows
    }


def _correspondent_id(account_id: AccountId, role: str, address: str) -> uuid.UUID:
    """Made from what it names, so that it stays when the rows are made anew."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"restante:{account_id}:{role}:{address}")
