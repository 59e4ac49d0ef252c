"""Places: the mailboxes that an address names, found by the statement that also reads from the likeliest of them.

So one statement finds, reads and, where it is only presumed who asks, proves that: without the proof the address names
nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import CTE, ColumnElement, Select, bindparam, case, null, select

from restante.core import access, folders, tokens
from restante.core.access import Named, Presumed, Principal
from restante.errors import Invalid
from restante.ids import AccountId, DomainId, FolderId, MailboxId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared

N = TypeVar("N", bound=Named)


class Place(NamedTuple):
    """A mailbox that an address names."""

    id: MailboxId
    account_id: AccountId
    domain_id: DomainId


class NamedFolder(NamedTuple):
    """A folder without its counters."""

    id: FolderId
    name: str
    role: str | None


def named(*columns: ColumnElement[Any], is_presumed: bool) -> Select[Any]:
    """The mailboxes that ``address`` names, for ``places`` of a statement that ``values`` goes with."""
    a, b = tables.addresses.c, tables.mailboxes.c
    found = (
        select(*columns)
        .join_from(tables.addresses, tables.mailboxes, (b.id == a.mailbox_id) & (b.account_id == a.account_id))
        .where(a.address == bindparam("address"))
    )
    return found.where(tokens.proof()) if is_presumed else found


def likeliest(places: CTE, *columns: ColumnElement[Any]) -> CTE:
    """The one of ``places`` that most likely is meant."""
    p = places.c
    order = case((p.id == bindparam("mailbox"), 0), (p.account_id == bindparam("account"), 1), else_=2)
    return select(*columns).order_by(order, p.id).limit(1).cte("likeliest")


def values(who: Principal | Presumed, address: str) -> dict[str, Any] | None:
    """What such a statement is asked with; None for an address that names nothing anywhere."""
    try:
        wanted = addresses.normalise(address)
    except Invalid:
        return None
    mailbox, account = _expected(_principal(who))
    proof = who.proof if isinstance(who, Presumed) else {}
    return {"address": wanted, "mailbox": mailbox, "account": account, **proof}


def choose(conn: ReadConn, who: Principal | Presumed, places: Sequence[N]) -> tuple[N, bool]:
    """The place that may be read, and whether it is the likeliest. Errors: as ``access.require_mailbox``."""
    principal = _principal(who)
    place = access.choose_mailbox(conn, principal, sorted(places, key=lambda one: one.id))
    mailbox, account = _expected(principal)
    return place, place == min(places, key=lambda one: (one.id != mailbox, one.account_id != account, one.id))


def _principal(who: Principal | Presumed) -> Principal:
    return who.principal if isinstance(who, Presumed) else who


def _expected(principal: Principal) -> tuple[int, int]:
    """The mailbox and the account of which an alias most likely means something; an operator has none."""
    return (0, 0) if principal.kind == "operator" else (principal.mailbox_id or 0, principal.account_id)


def _find_folders(*, is_presumed: bool) -> Prepared:
    """The places, recognized by having no name, and the folders of the likeliest."""
    b, f = tables.mailboxes.c, tables.folders.c
    places = named(b.id, b.account_id, b.domain_id, is_presumed=is_presumed).cte("places")
    p = places.c
    meant = likeliest(places, p.id, p.account_id)
    mine = (
        f.account_id == select(meant.c.account_id).scalar_subquery(),
        f.mailbox_id == select(meant.c.id).scalar_subquery(),
    )
    shown = select(p.id, p.account_id, p.domain_id, null(), null())
    return Prepared(shown.union_all(select(f.id, f.account_id, null(), f.name, f.role).where(*mine)))


_FIND_FOLDERS = {is_presumed: _find_folders(is_presumed=is_presumed) for is_presumed in (False, True)}


def find_folders(conn: ReadConn, who: Principal | Presumed, address: str) -> tuple[Place, list[NamedFolder]]:
    """The mailbox that an address or alias names, if who asks may read it, with its folders: one statement.

    A second one where they may read another of the alias's mailboxes than the likeliest. Errors: as
    ``access.require_mailbox``; for who is only presumed there may be no such mailbox.
    """
    asked = values(who, address)
    rows = [] if asked is None else _FIND_FOLDERS[isinstance(who, Presumed)].rows(conn, asked)
    place, is_likeliest = choose(conn, who, [Place(*row[:3]) for row in rows if row[3] is None])
    if not is_likeliest:
        listed = folders.list_folders(conn, place.account_id, place.id)
        return place, [NamedFolder(folder.id, folder.name, folder.role) for folder in listed]
    return place, [NamedFolder(row[0], row[3], row[4]) for row in rows if row[3] is not None]
