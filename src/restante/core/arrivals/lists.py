"""Lists of arrivals: a filter, a page of what it lets pass, and the exact number of all of it."""

import uuid
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, select

from restante.core.arrivals import dictionaries, rows
from restante.core.arrivals.query import Filter, Query, Standing
from restante.core.arrivals.rows import Arrival
from restante.core.arrivals.surveying import FORM
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning
from restante.schema.prepared import Prepared

MAX_LIMIT = 1_000
_x = tables.arrival_cursors.c
_STANDING = Prepared(
    select(_x.form, _x.event_number, _x.listed, _x.unread, _x.favorites).where(_x.account_id == bindparam("account"))
)


class Total(NamedTuple):
    """How many arrivals a filter lets pass, as long as the account's arrivals follow the log up to that event."""

    event_number: int
    arrivals: int


@dataclass(frozen=True, slots=True)
class ArrivalPage:
    """Some arrivals, the newest first, of ``total``; ``event_number``: up to which event this holds."""

    arrivals: list[Arrival]
    total: int
    event_number: int


@scanning
def list_page(
    conn: ReadConn, account_id: AccountId, wanted: Filter, *, page: int, limit: int, kept: Total | None = None
) -> ArrivalPage:
    """Page ``page`` (from 1) of ``limit`` arrivals (at most 1,000), the newest first, and the exact number of all.

    ``kept`` is a number from an earlier answer to the same filter, which saves the counting while nothing has changed.
    Raises Unavailable(code="arrivals_not_ready") while the account's arrivals are not all there.
    """
    standing = _standing(conn, account_id)
    if kept is not None and kept.event_number != standing.event_number:
        kept = None
    limit = max(1, min(limit, MAX_LIMIT))
    offset = (max(page, 1) - 1) * limit
    query = Query(conn, account_id, standing)
    places, total = query.page(wanted, offset, limit, None if kept is None else kept.arrivals)
    return ArrivalPage(rows.at_places(conn, account_id, places), total, standing.event_number)


def find(conn: ReadConn, account_id: AccountId, public_id: uuid.UUID) -> Arrival:
    """One arrival that is listed. Raises NotFound(code="message_not_found"), Unavailable as ``list_page``."""
    _standing(conn, account_id)
    found = rows.find(conn, account_id, public_id)
    if found is None:
        raise NotFound("no such message", code="message_not_found")
    return found


def knows_inbox(conn: ReadConn, account_id: AccountId, address: str) -> bool:
    """Whether mail ever came to an address."""
    return dictionaries.find_correspondent(conn, account_id, "inbox", address) is not None


def knows_sender(conn: ReadConn, account_id: AccountId, address: str) -> bool:
    """Whether mail ever came from an address."""
    return dictionaries.find_correspondent(conn, account_id, "sender", address) is not None


def _standing(conn: ReadConn, account_id: AccountId) -> Standing:
    row = _STANDING.row(conn, {"account": account_id})
    if row is None or row[0] != FORM:
        raise Unavailable("The list is being made.", code="arrivals_not_ready")
    return Standing(*row[1:])
