"""Comparing arrivals with the messages they are made from, in short steps.

What several steps say together is sound when the arrivals stand at the end where they stood at the beginning, at the
newest event.
"""

from dataclasses import dataclass

from sqlalchemy import and_, func, select, tuple_

from restante.core.messages import Flag
from restante.ids import AccountId, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning

_a, _m, _f, _b = tables.arrivals.c, tables.messages.c, tables.folders.c, tables.mailboxes.c
_x, _c = tables.arrival_cursors.c, tables.correspondents.c
_w, _p, _s = tables.arrival_words.c, tables.arrival_postings.c, tables.arrival_subjects.c


@dataclass(frozen=True, slots=True)
class Checked:
    """What a step found: wrong messages; how many of its arrivals are listed, unread, favourites; where it ended."""

    wrong: list[MessageId]
    counts: tuple[int, int, int]
    last: tuple[int, int] | None  # None: there is nothing behind


@scanning
def check_rows(conn: ReadConn, account_id: AccountId, after: tuple[int, int], limit: int) -> Checked:
    """The next arrivals by mailbox and message: is each what its message is?"""
    joined = tables.arrivals.outerjoin(
        tables.messages,
        and_(_m.account_id == _a.account_id, _m.id == _a.message_id, _m.mailbox_id == _a.mailbox_id),
    ).outerjoin(tables.folders, and_(_f.account_id == _m.account_id, _f.id == _m.folder_id))
    rows = conn.execute(
        select(_a.mailbox_id, _a.message_id, _a.read_at, _a.is_favorite, _a.deleted_at, _m.flags, _f.role)
        .select_from(joined)
        .where(_a.account_id == account_id, tuple_(_a.mailbox_id, _a.message_id) > after)
        .order_by(_a.mailbox_id, _a.message_id)
        .limit(limit)
    ).all()
    wrong = []
    listed = unread = favorites = 0
    for row in rows:
        is_listed = row.deleted_at is None
        listed += is_listed
        unread += is_listed and row.read_at is None
        favorites += is_listed and row.is_favorite
        is_right = row.flags is not None and (
            (row.read_at is not None, bool(row.is_favorite), is_listed)
            == (bool(row.flags & Flag.SEEN), bool(row.flags & Flag.FLAGGED), row.role != "trash")
        )
        if not is_right:
            wrong.append(MessageId(row.message_id))
    last = (rows[-1].mailbox_id, rows[-1].message_id) if len(rows) == limit else None
    return Checked(wrong, (listed, unread, favorites), last)


@scanning
def list_missing(
    conn: ReadConn, account_id: AccountId, after: bytes, limit: int
) -> tuple[list[MessageId], bytes | None]:
    """Messages from outside that are no arrivals, among the next ones by public id; and where the step ended."""
    rows = conn.execute(
        select(_m.id, _m.mailbox_id, _m.public_id, _m.envelope_recipient, _f.role, _b.status)
        .join(tables.folders, and_(_f.account_id == _m.account_id, _f.id == _m.folder_id))
        .join(tables.mailboxes, and_(_b.account_id == _m.account_id, _b.id == _m.mailbox_id))
        .where(_m.account_id == account_id, _m.public_id > after)
        .order_by(_m.public_id)
        .limit(limit)
    ).all()
    wanted = {
        (row.mailbox_id, row.id)
        for row in rows
        if row.envelope_recipient and row.role not in ("sent", "drafts") and row.status != "removed"
    }
    there = select(_a.mailbox_id, _a.message_id).where(
        _a.account_id == account_id,
        _a.mailbox_id.in_({mailbox_id for mailbox_id, _ in wanted}),
        _a.message_id.in_({message_id for _, message_id in wanted}),
    )
    missing = wanted - {(row.mailbox_id, row.message_id) for row in conn.execute(there)}
    return [MessageId(one) for _, one in sorted(missing)], rows[-1].public_id if len(rows) == limit else None


@scanning
def list_miscounted_words(
    conn: ReadConn, account_id: AccountId, after: int, limit: int
) -> tuple[list[int], int | None]:
    """Words that do not stand in as many places as they count, among the next ones; and where the step ended."""
    some = select(_w.id, _w.arrivals).where(_w.account_id == account_id, _w.id > after).order_by(_w.id).limit(limit)
    words = {row.id: row.arrivals for row in conn.execute(some)}
    last = max(words, default=after)
    places = (
        select(_p.word_id, func.count().label("places"))
        .where(_p.account_id == account_id, _p.word_id > after, _p.word_id <= last)
        .group_by(_p.word_id)
    )
    found = {row.word_id: row.places for row in conn.execute(places)}
    wrong = [one for one in words.keys() | found.keys() if words.get(one) != found.get(one)]
    return sorted(wrong), last if len(words) == limit else None


@scanning
def are_totals_right(conn: ReadConn, account_id: AccountId, counts: tuple[int, int, int]) -> bool:
    """Whether the stored totals are these, and the dictionaries add up to them."""
    stored = conn.execute(select(_x.listed, _x.unread, _x.favorites).where(_x.account_id == account_id)).one()
    everything = select(func.coalesce(func.sum(_s.arrivals), 0))
    by_subject = conn.execute(everything.where(_s.account_id == account_id)).scalar_one()
    by_role = select(_c.role, func.sum(_c.arrivals)).where(_c.account_id == account_id).group_by(_c.role)
    totals = [int(by_subject), *(int(row[1]) for row in conn.execute(by_role))]
    return tuple(stored) == counts and all(total == counts[0] for total in totals)


__all__ = ["Checked", "are_totals_right", "check_rows", "list_miscounted_words", "list_missing"]
