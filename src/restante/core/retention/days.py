"""Which mail is the oldest, without an index that each delivery would pay for.

``retention_days`` has, for each day and folder, the UIDs between which the messages received on that day are. It
follows the folders' modseqs: whatever comes, moves or changes its flags gets a higher one, so only that is read. A
range may be too wide (messages leave), never too narrow.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, delete, insert, or_, select, tuple_, update

from restante import clock
from restante.core.messages import Flag
from restante.core.retention.rules import SPARED, Bound, Cover
from restante.ids import AccountId, FolderId, MailboxId, MessageId
from restante.schema import counters, tables
from restante.schema.batches import delete_some
from restante.schema.connections import ReadConn, WriteConn, scanning

DAY = 86_400_000_000  # microseconds
ROWS = 100  # days of folders that one call looks at
SCANNED = 5000  # messages

_b, _c, _d = tables.mailboxes.c, tables.retention_cursors.c, tables.retention_days.c
_f, _m = tables.folders.c, tables.messages.c


class Cursor(NamedTuple):
    """Up to which change of a folder its messages are known."""

    modseq: int
    message_id: int


class Stale(NamedTuple):
    """A folder with changes behind its cursor (None: nothing of it is known)."""

    mailbox_id: MailboxId
    folder_id: FolderId
    modseq: int
    cursor: Cursor | None


class Survey(NamedTuple):
    """What some changes of a folder say: the day of each message, as UIDs from the lowest to the highest of a day."""

    folder: Stale
    cursor: Cursor
    days: dict[int, tuple[int, int]]
    is_last: bool


class Found(NamedTuple):
    """A message that may be taken."""

    id: MessageId
    uid: int
    size_bytes: int


class Piece(NamedTuple):
    """Messages of one day in one folder, up to but without ``next_uid``; the range is what the row says."""

    mailbox_id: MailboxId
    folder_id: FolderId
    day: int
    low_uid: int
    high_uid: int
    next_uid: int
    found: tuple[Found, ...]


class Position(NamedTuple):
    """How far a walk from the oldest on has come."""

    day: int
    mailbox_id: int
    folder_id: int
    uid: int


def day_of(moment: datetime) -> int:
    """The number of a day."""
    return clock.to_micros(moment) // DAY


@scanning
def list_stale(conn: ReadConn, account_id: AccountId, cover: Cover, after: FolderId, limit: int) -> list[Stale]:
    """The next folders of the covered mailboxes, behind ``after``, with changes that are not known yet."""
    spared = tuple(role for role in SPARED if role not in cover.roles)
    joined = tables.folders.join(tables.mailboxes, (_b.account_id == _f.account_id) & (_b.id == _f.mailbox_id))
    joined = joined.outerjoin(tables.retention_cursors, (_c.account_id == _f.account_id) & (_c.folder_id == _f.id))
    behind = or_(_c.modseq < _f.modseq, and_(_c.modseq.is_(None), _f.messages > 0))
    rows = conn.execute(
        select(_f.mailbox_id, _f.id, _f.modseq, _c.modseq, _c.message_id)
        .select_from(joined)
        .where(_f.account_id == account_id, _f.id > after, or_(_f.role.is_(None), _f.role.not_in(spared)))
        .where(behind, cover.holds())
        .order_by(_f.id)
        .limit(limit)
    )
    return [
        Stale(MailboxId(row[0]), FolderId(row[1]), row[2], None if row[3] is None else Cursor(row[3], row[4]))
        for row in rows
    ]


@scanning
def survey(conn: ReadConn, account_id: AccountId, folder: Stale, limit: int) -> Survey:
    """The next ``limit`` changes of a folder behind its cursor."""
    after = folder.cursor or Cursor(0, 0)
    rows = conn.execute(
        select(_m.modseq, _m.id, _m.uid, _m.flags, _m.received_at)
        .where(_m.account_id == account_id, _m.folder_id == folder.folder_id, _m.modseq >= after.modseq)
        .where(or_(_m.modseq > after.modseq, _m.id > after.message_id))
        .order_by(_m.modseq, _m.id)
        .limit(limit)
    ).all()
    found: dict[int, tuple[int, int]] = {}
    for row in rows:
        if not row.flags & Flag.FLAGGED:
            day = row.received_at // DAY
            low, high = found.get(day, (row.uid, row.uid))
            found[day] = min(low, row.uid), max(high, row.uid)
    last = Cursor(rows[-1].modseq, rows[-1].id) if rows else after
    is_last = len(rows) < limit
    return Survey(folder, max(last, Cursor(folder.modseq, 0)) if is_last else last, found, is_last)


def note(conn: WriteConn, account_id: AccountId, found: Survey) -> bool:
    """Keep what a survey found and move the cursor; False when somebody did so already, or the folder is gone."""
    folder = found.folder
    there = select(_f.id).where(_f.account_id == account_id, _f.id == folder.folder_id)
    if conn.execute(there).first() is None or not _move_cursor(conn, account_id, found):
        return False
    rows = [
        {
            "account_id": account_id,
            "mailbox_id": folder.mailbox_id,
            "day": day,
            "folder_id": folder.folder_id,
            "low_uid": low,
            "high_uid": high,
        }
        for day, (low, high) in sorted(found.days.items())
    ]
    if rows:
        new = counters.insert(conn.dialect.name, tables.retention_days)
        low, high = new.excluded.low_uid, new.excluded.high_uid
        wider = {
            "low_uid": case((low < _d.low_uid, low), else_=_d.low_uid),
            "high_uid": case((high > _d.high_uid, high), else_=_d.high_uid),
        }
        keys = list(tables.retention_days.primary_key.columns)
        conn.execute(new.on_conflict_do_update(index_elements=keys, set_=wider), rows)
    return True


def _move_cursor(conn: WriteConn, account_id: AccountId, found: Survey) -> bool:
    before, folder_id = found.folder.cursor, found.folder.folder_id
    mine = _c.account_id == account_id, _c.folder_id == folder_id
    values = found.cursor._asdict()
    if before is not None:
        same = _c.modseq == before.modseq, _c.message_id == before.message_id
        return conn.execute(update(tables.retention_cursors).where(*mine, *same).values(values)).rowcount == 1
    if conn.execute(select(_c.modseq).where(*mine)).first() is not None:
        return False
    conn.execute(insert(tables.retention_cursors).values(values | {"account_id": account_id, "folder_id": folder_id}))
    return True


def first_day(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, bound: Bound) -> int | None:
    """The day of the oldest mail in some folders of a mailbox; None when there is nothing that could be taken."""
    statement = select(_d.day).join(tables.folders, _IN_FOLDER).where(*_within(account_id, mailbox_id, bound))
    return conn.execute(statement.order_by(_d.day).limit(1)).scalar()


_IN_FOLDER = (_f.account_id == _d.account_id) & (_f.id == _d.folder_id)


def _within(account_id: AccountId, mailbox_id: MailboxId | None, bound: Bound) -> Sequence[ColumnElement[bool]]:
    whose = () if mailbox_id is None else (_d.mailbox_id == mailbox_id,)
    return _d.account_id == account_id, *whose, bound.is_about()


@scanning
def list_oldest(
    conn: ReadConn,
    account_id: AccountId,
    mailbox_id: MailboxId | None,
    bound: Bound,
    after: Position | None,
    limit: int,
    before_day: int | None = None,
) -> tuple[list[Piece], Position | None]:
    """The next ``limit`` messages or less, the oldest day first, of a mailbox or the whole account: no favourites.

    Also where to go on, None at the end; a call looks at a bounded number of rows, so it may find nothing before that.
    """
    statement = select(tables.retention_days).join(tables.folders, _IN_FOLDER)
    statement = statement.where(*_within(account_id, mailbox_id, bound))
    if after is not None:
        key = tuple_(_d.day, _d.mailbox_id, _d.folder_id)
        statement = statement.where(_d.day >= after.day, key >= tuple_(*after[:3]))
    if before_day is not None:
        statement = statement.where(_d.day < before_day)
    rows = conn.execute(statement.order_by(_d.day, _d.mailbox_id, _d.folder_id).limit(ROWS)).all()
    pieces: list[Piece] = []
    room, scanned = limit, SCANNED
    for row in rows:
        low = row.low_uid
        if after is not None and after[:3] == (row.day, row.mailbox_id, row.folder_id):
            low = max(low, after.uid + 1)
        piece, seen = _piece(conn, account_id, row, low, room, scanned)
        pieces.append(piece)
        room, scanned = room - len(piece.found), scanned - seen
        if not room or not scanned:
            return pieces, Position(row.day, row.mailbox_id, row.folder_id, piece.next_uid - 1)
    if len(rows) < ROWS:
        return pieces, None
    return pieces, Position(row.day, row.mailbox_id, row.folder_id, row.high_uid)


def _piece(conn: ReadConn, account_id: AccountId, row: Any, low: int, room: int, most: int) -> tuple[Piece, int]:
    messages = conn.execute(
        select(_m.id, _m.uid, _m.flags, _m.received_at, _m.size_bytes)
        .where(_m.account_id == account_id, _m.folder_id == row.folder_id, _m.uid >= low, _m.uid <= row.high_uid)
        .order_by(_m.uid)
        .limit(most)
    )
    found: list[Found] = []
    seen, reach = 0, row.high_uid
    for one in messages:
        seen += 1
        if one.received_at // DAY == row.day and not one.flags & Flag.FLAGGED:
            found.append(Found(MessageId(one.id), one.uid, one.size_bytes))
        if len(found) == room or seen == most:
            reach = one.uid
            break
    piece = Piece(row.mailbox_id, row.folder_id, row.day, row.low_uid, row.high_uid, reach + 1, tuple(found))
    return piece, seen


def shrink(conn: WriteConn, account_id: AccountId, piece: Piece, next_uid: int) -> None:
    """Know no more of a day's messages below ``next_uid``, unless the range has changed since it was read."""
    mine = (
        _d.account_id == account_id,
        _d.mailbox_id == piece.mailbox_id,
        _d.day == piece.day,
        _d.folder_id == piece.folder_id,
        _d.low_uid == piece.low_uid,
        _d.high_uid == piece.high_uid,
    )
    if next_uid > piece.high_uid:
        conn.execute(delete(tables.retention_days).where(*mine))
    elif next_uid > piece.low_uid:
        conn.execute(update(tables.retention_days).where(*mine).values(low_uid=next_uid))


def forget(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, folder_ids: Iterable[int], limit: int
) -> bool:
    """Delete up to ``limit`` rows of a mailbox that goes; False when there were none."""
    mine = _d.account_id == account_id, _d.mailbox_id == mailbox_id
    if delete_some(conn, tables.retention_days, limit, *mine):
        return True
    known = _c.account_id == account_id, _c.folder_id.in_(list(folder_ids))
    return conn.execute(delete(tables.retention_cursors).where(*known)).rowcount > 0
