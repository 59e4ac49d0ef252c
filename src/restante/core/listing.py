"""The page of a folder that lists show: the hottest read, so it takes only what a list needs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import msgspec
from sqlalchemy import bindparam, func, select

from restante.clock import EPOCH
from restante.core import messages
from restante.ids import AccountId, FolderId, Uid
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared

MICROSECONDS = 1_000_000
KEPT_RECIPIENTS = 2_048  # lists of To in memory: in a mailbox most are the same
KEPT_CHARS = 200  # of one that is

_m = tables.messages.c
_in_folder = (_m.account_id == bindparam("account")) & (_m.folder_id == bindparam("folder"))
_page = (
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
    .where(_in_folder)
    .order_by(_m.uid.desc())
    .limit(bindparam("limit"))
)
# The first UID of a page is found in the index alone: rows that are left out are not read.
_first = select(_m.uid).where(_in_folder).order_by(_m.uid.desc()).limit(1).offset(bindparam("offset"))
_FIRST_PAGE = Prepared(_page)
_PAGE = Prepared(_page.where(_m.uid <= _first.scalar_subquery()))
_decoder = msgspec.json.Decoder(tuple[tuple[str, str], ...])
_kept = lru_cache(KEPT_RECIPIENTS)(_decoder.decode)

T = TypeVar("T")
People = tuple[tuple[str, str], ...]
Make = Callable[[Uid, str | None, str, str, People, str, datetime, int, tuple[str, ...], int], T]
"""Makes an item of a list: UID, Message-ID, name and address of From, those of To, subject, Date header (without one
the arrival) in whole seconds, size in bytes, flags, number of attachments. Called for each row, so that no row is
built twice."""


def list_page(
    conn: ReadConn, account_id: AccountId, folder_id: FolderId, make: Make[T], *, limit: int, offset: int = 0
) -> list[T]:
    """Newest first by UID: at most ``limit`` messages after leaving out ``offset``, each as ``make`` makes it."""
    values = {"account": account_id, "folder": folder_id, "limit": limit, "offset": offset}
    return [
        make(
            uid,
            message_id,
            name,
            email,
            _kept(to) if len(to) <= KEPT_CHARS else _decoder.decode(to),
            subject,
            EPOCH + timedelta(0, date // MICROSECONDS),
            size,
            messages.flag_names(flags, keywords) if flags or keywords else (),
            attachments,
        )
        for uid, message_id, name, email, to, subject, date, size, flags, keywords, attachments in (
            _PAGE if offset else _FIRST_PAGE
        ).rows(conn, values)
    ]
