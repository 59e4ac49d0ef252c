"""The page of a folder that lists show: the hottest read, so it takes only what a list needs."""

from datetime import UTC, datetime

import msgspec
from sqlalchemy import bindparam, func, select

from restante.core import messages
from restante.ids import AccountId, FolderId, Uid
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared

MICROSECONDS = 1_000_000

_m = tables.messages.c
_PAGE = Prepared(
    select(
        _m.uid,
        _m.message_id_header,
        _m.from_name,
        _m.from_email,
        _m.recipients,
        _m.subject,
        func.coalesce(_m.sent_at, _m.received_at),
        _m.size_bytes,
        _m.flags,
        _m.keywords,
        _m.attachments,
    )
    .where(_m.account_id == bindparam("account"), _m.folder_id == bindparam("folder"))
    .order_by(_m.uid.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_recipients = msgspec.json.Decoder(tuple[tuple[str, str], ...])


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A message in a list. ``date`` is its Date header, without one its arrival, in whole seconds."""

    uid: Uid
    message_id_header: str | None
    from_: tuple[str, str]  # name, email
    to: tuple[tuple[str, str], ...]
    subject: str
    date: datetime
    size_bytes: int
    flags: tuple[str, ...]
    attachments: int


def list_page(
    conn: ReadConn, account_id: AccountId, folder_id: FolderId, *, limit: int, offset: int = 0
) -> list[Listed]:
    """Newest first by UID: at most ``limit`` messages after leaving out ``offset``."""
    values = {"account": account_id, "folder": folder_id, "limit": limit, "offset": offset}
    return [
        Listed(
            uid,
            message_id,
            (name, email),
            _recipients.decode(to),
            subject,
            datetime.fromtimestamp(date // MICROSECONDS, UTC),
            size,
            messages.flag_names(flags, keywords),
            attachments,
        )
        for uid, message_id, name, email, to, subject, date, size, flags, keywords, attachments in _PAGE.rows(
            conn, values
        )
    ]
