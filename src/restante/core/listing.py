"""The page of a folder that lists show: the hottest read, so it takes only what a list needs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Select, bindparam, func, null, select

from restante.clock import EPOCH
from restante.core import folders, messages, places
from restante.core.access import Presumed, Principal
from restante.ids import AccountId, DomainId, FolderId, MailboxId, Uid
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared, Row

MICROSECONDS = 1_000_000
KEPT_RECIPIENTS = 2_048  # lists of To in memory: in a mailbox most are the same
KEPT_CHARS = 200  # of one that is

_m = tables.messages.c
_COLUMNS = (
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


def _page(account: Any, folder: Any) -> Select[Any]:
    """Newest first. The first UID is found in the index alone: rows that are left out are not read."""
    mine = (_m.account_id == account) & (_m.folder_id == folder)
    uids = select(_m.uid).where(mine).order_by(_m.uid.desc())
    first = uids.limit(1).offset(bindparam("offset")).scalar_subquery()
    page = select(*_COLUMNS).where(mine, _m.uid <= first)
    return page.order_by(_m.uid.desc()).limit(bindparam("limit"))


_PAGE = Prepared(_page(bindparam("account"), bindparam("folder")))


def _find_page(*, is_presumed: bool) -> Prepared:
    """The places with their folder of some name, in the columns of a page and recognized by having no recipients; and
    the page of the likeliest."""
    b, f = tables.mailboxes.c, tables.folders.c
    in_folder = (f.account_id == b.account_id) & (f.mailbox_id == b.id) & (f.name == bindparam("folder"))
    folder = f.id.label("folder_id"), f.name, f.role, f.messages
    named = places.named(b.id, b.account_id, b.domain_id, b.address, *folder, is_presumed=is_presumed)
    found = named.outerjoin(tables.folders, in_folder).cte("places")
    p, none = found.c, null()
    meant = places.likeliest(found, p.account_id, p.folder_id).c
    page = _page(select(meant.account_id).scalar_subquery(), select(meant.folder_id).scalar_subquery()).subquery()
    shown = select(
        p.id, p.address, p.name, p.role, none, none, p.account_id, p.domain_id, p.folder_id, none, p.messages
    )
    return Prepared(shown.union_all(select(page)))


_FIND_PAGE = {is_presumed: _find_page(is_presumed=is_presumed) for is_presumed in (False, True)}
_decoder = msgspec.json.Decoder(tuple[tuple[str, str], ...])
_kept = lru_cache(KEPT_RECIPIENTS)(_decoder.decode)

T = TypeVar("T")
People = tuple[tuple[str, str], ...]
Make = Callable[[Uid, str | None, str, str, People, str, datetime, int, tuple[str, ...], int], T]
"""Makes an item of a list: UID, Message-ID, name and address of From, those of To, subject, Date header (without one
the arrival) in whole seconds, size in bytes, flags, number of attachments. Called for each row, so that no row is
built twice."""


class Place(NamedTuple):
    """A mailbox that an address names, and its folder of some name: None when it has no such folder."""

    id: MailboxId
    address: str
    folder: str | None
    role: str | None
    account_id: AccountId
    domain_id: DomainId
    folder_id: FolderId | None
    messages: int | None


def find_page(
    conn: ReadConn,
    who: Principal | Presumed,
    address: str,
    folder: str,
    make: Make[T],
    *,
    limit: int,
    offset: int = 0,
) -> tuple[Place, list[T]]:
    """A page of a folder in the mailbox that an address or alias names, if who asks may read it: one statement.

    A second one where they may read another of the alias's mailboxes than the likeliest. The place has no folder, and
    the page is empty, where there is none of that name. Errors: as ``access.require_mailbox``; for who is only presumed
    there may be no such mailbox.
    """
    asked = places.values(who, address)
    rows: list[Row] = []
    if asked is not None:
        name = "" if "\0" in folder else folders.canonical(folder)  # no engine keeps it
        asked |= {"folder": name, "limit": limit, "offset": offset}
        rows = _FIND_PAGE[isinstance(who, Presumed)].rows(conn, asked)
    found = [Place._make((*row[:4], *row[6:9], row[10])) for row in rows if row[4] is None]
    place, is_likeliest = places.choose(conn, who, found)
    if place.folder_id is None:
        return place, []
    if not is_likeliest:
        return place, list_page(conn, place.account_id, place.folder_id, make, limit=limit, offset=offset)
    return place, _made([row for row in rows if row[4] is not None], make)


def list_page(
    conn: ReadConn, account_id: AccountId, folder_id: FolderId, make: Make[T], *, limit: int, offset: int = 0
) -> list[T]:
    """Newest first by UID: at most ``limit`` messages after leaving out ``offset``, each as ``make`` makes it."""
    values = {"account": account_id, "folder": folder_id, "limit": limit, "offset": offset}
    return _made(_PAGE.rows(conn, values), make)


def _made(rows: list[Row], make: Make[T]) -> list[T]:
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
        for uid, message_id, name, email, to, subject, date, size, flags, keywords, attachments in rows
    ]
