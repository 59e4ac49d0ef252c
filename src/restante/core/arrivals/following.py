"""Keeping arrivals up to date: they follow the account's event log, so deliveries pay nothing for them.

``surveying.survey`` reads what comes next and ``advance`` writes it, a bounded piece at a time; the cursor moves in the
same transaction, so each piece counts once, whoever comes first.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from restante.core.arrivals import dictionaries
from restante.core.arrivals.dictionaries import SUBJECTS, WORDS, Seen
from restante.core.arrivals.surveying import STALE, Change, Mail, Piece, Stand, stand
from restante.ids import AccountId
from restante.mail import subjects
from restante.schema import tables
from restante.schema.batches import delete_some
from restante.schema.connections import WriteConn
from restante.schema.counters import Counter
from restante.schema.prepared import Prepared, PreparedByIds

DAY = 86_400_000_000  # microseconds

_x, _a, _p = tables.arrival_cursors.c, tables.arrivals.c, tables.arrival_postings.c
_DAYS = Counter(tables.arrival_days)
_TABLES = (
    tables.arrivals,
    tables.arrival_postings,
    tables.arrival_words,
    tables.arrival_subjects,
    tables.correspondents,
    tables.arrival_blocks,
    tables.arrival_days,
    tables.arrival_cursors,
)


def advance(conn: WriteConn, account_id: AccountId, piece: Piece, limit: int) -> bool:
    """Write a piece; False, and nothing done, when another writer was faster.

    ``limit`` bounds the rows that are thrown away at a time.
    """
    if stand(conn, account_id) != piece.stands:
        return False
    if piece.stands is None:
        assert piece.reaches is not None
        new = {"account_id": account_id, "listed": 0, "unread": 0, "favorites": 0, **piece.reaches._asdict()}
        conn.execute(insert(tables.arrival_cursors).values(new))
        return True
    if piece.reaches is None:
        purge(conn, account_id, limit)
        return True
    work = _Work(conn, account_id)
    work.load([(mail.mailbox_id, mail.message_id) for mail in piece.added])
    work.load([(change.mailbox_id, change.message_id) for change in piece.changes if change.kind != "removed"])
    work.add(piece.added)
    reaches = piece.reaches
    for change in piece.changes:
        if change.kind == "removed":
            if not work.remove_mailbox(change, limit):
                reaches = piece.stands
        else:
            work.change(change)
    work.write(reaches)
    return True


def purge(conn: WriteConn, account_id: AccountId, limit: int) -> bool:
    """Delete about ``limit`` rows of an account's arrivals, what they follow by last; False when there were none."""
    return any(delete_some(conn, table, limit, table.c.account_id == account_id) for table in _TABLES)


def discard(conn: WriteConn, account_id: AccountId) -> None:
    """Have an account's arrivals made anew when they are next asked for."""
    conn.execute(update(tables.arrival_cursors).where(_x.account_id == account_id).values(form=STALE))


@dataclass(slots=True)
class _Arrival:
    """A row while a piece is applied."""

    mailbox_id: int
    message_id: int
    place: int
    inbox_id: int
    sender_id: int
    subject_id: int
    size_bytes: int
    read_at: int | None
    is_favorite: int
    deleted_at: int | None
    subject: str = ""  # folded; "" until it is needed
    is_removed: bool = False

    @property
    def is_listed(self) -> bool:
        return self.deleted_at is None and not self.is_removed

    def counts(self) -> tuple[int, int, int]:
        """What it adds to the listed, unread and favourite ones."""
        shown = int(self.is_listed)
        return shown, shown * (self.read_at is None), shown * self.is_favorite


_STATE = (
    _a.mailbox_id,
    _a.message_id,
    _a.place,
    _a.inbox_id,
    _a.sender_id,
    _a.subject_id,
    _a.size_bytes,
    _a.read_at,
    _a.is_favorite,
    _a.deleted_at,
)
_FIND = PreparedByIds(
    select(*_STATE).where(_a.account_id == bindparam("account"), _a.mailbox_id == bindparam("mailbox")), _a.message_id
)
_OF_MAILBOX = Prepared(
    select(*_STATE)
    .where(_a.account_id == bindparam("account"), _a.mailbox_id == bindparam("mailbox"))
    .limit(bindparam("limit"))
)
_TAKEN = Prepared(
    select(_a.place)
    .where(_a.account_id == bindparam("account"), _a.place >= bindparam("since"), _a.deleted_at.is_(None))
    .order_by(_a.place)
    .limit(bindparam("limit"))
)
_INSERT = Prepared(insert(tables.arrivals))
_KEY = (
    _a.account_id == bindparam("account"),
    _a.mailbox_id == bindparam("mailbox"),
    _a.message_id == bindparam("message"),
)
_UPDATE = Prepared(
    update(tables.arrivals)
    .where(*_KEY)
    .values(
        {name: bindparam(f"new_{name}") for name in ("place", "subject_id", "read_at", "is_favorite", "deleted_at")}
    )
)
_DELETE = Prepared(delete(tables.arrivals).where(*_KEY))
_INSERT_POSTING = Prepared(insert(tables.arrival_postings))
_DELETE_POSTING = Prepared(
    delete(tables.arrival_postings).where(
        _p.account_id == bindparam("account"), _p.word_id == bindparam("word"), _p.place == bindparam("at")
    )
)
TRIED = 64  # microseconds behind a taken place that are tried one by one


class _Work:
    """A piece being applied: rows are loaded, changed in memory and written together."""

    def __init__(self, conn: WriteConn, account_id: AccountId) -> None:
        self._conn, self._account_id = conn, account_id
        self._before: dict[tuple[int, int], _Arrival] = {}
        self._now: dict[tuple[int, int], _Arrival] = {}
        self._days: dict[int, Tally[str]] = {}
        self._places: set[int] = set()

    def load(self, keys: Iterable[tuple[int, int]]) -> None:
        """Read the rows that there are."""
        by_mailbox: dict[int, list[int]] = {}
        for mailbox_id, message_id in keys:
            by_mailbox.setdefault(mailbox_id, []).append(message_id)
        for mailbox_id, message_ids in by_mailbox.items():
            key = {"account": self._account_id, "mailbox": mailbox_id}
            self._take(_FIND.rows(self._conn, key, message_ids))

    def _take(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            key = row[0], row[1]
            self._before[key], self._now[key] = _Arrival(*row), _Arrival(*row)

    def add(self, mails: Sequence[Mail]) -> None:
        """Take in messages that are not there yet."""
        new = {(mail.mailbox_id, mail.message_id): mail for mail in mails}
        new = {key: mail for key, mail in new.items() if key not in self._now}
        seen = [Seen("inbox", mail.inbox, mail.inbox_name, mail.received_at) for mail in new.values()]
        seen += [Seen("sender", m.sender, m.sender_name, m.received_at) for m in new.values() if not m.is_gone]
        ids, firsts = dictionaries.meet(self._conn, self._account_id, seen)
        for first in firsts:
            if first.role == "inbox":
                self._count(first.at, inboxes=1)
        for key, mail in new.items():
            self._count(mail.received_at, received=1, size_bytes=mail.size_bytes)
            if mail.deleted_at is not None:
                self._count(mail.deleted_at, deleted=1, deleted_bytes=mail.size_bytes)
            if mail.is_gone:
                continue
            self._now[key] = _Arrival(
                *key,
                mail.received_at,
                ids["inbox", mail.inbox],
                ids["sender", mail.sender],
                0,
                mail.size_bytes,
                mail.read_at,
                int(mail.is_favorite),
                mail.deleted_at,
                mail.subject,
            )

    def _count(self, at: int, **more: int) -> None:
        self._days.setdefault(at // DAY, Tally()).update(more)

    def change(self, change: Change) -> None:
        """Apply what became of a message; those that are none of ours (copies of what was sent) are left alone."""
        found = self._now.get((change.mailbox_id, change.message_id))
        if found is None or found.is_removed:
            return
        match change.kind:
            case "read":
                found.read_at = change.at
            case "flagged":
                found.is_favorite = int(change.is_favorite)
                found.read_at = (found.read_at or change.at) if change.is_read else None
            case "trashed" | "deleted":
                if found.deleted_at is None:
                    found.deleted_at = change.at
                    self._count(change.at, deleted=1, deleted_bytes=found.size_bytes)
                found.is_removed = change.kind == "deleted"
            case "untrashed" if found.deleted_at is not None and change.subject:
                self._count(found.deleted_at, deleted=-1, deleted_bytes=-found.size_bytes)
                found.deleted_at, found.subject = None, change.subject

    def remove_mailbox(self, change: Change, limit: int) -> bool:
        """Take out arrivals of a removed mailbox; False when there may be more."""
        key = {"account": self._account_id, "mailbox": change.mailbox_id, "limit": limit}
        self._take(_OF_MAILBOX.rows(self._conn, key))
        for found in self._now.values():
            self.change(Change("deleted", found.mailbox_id, found.message_id, change.at))
        return len(self._now) < limit

    def write(self, reaches: Stand) -> None:
        """Store everything and move the cursor."""
        conn, account_id = self._conn, self._account_id
        left = [old for key, old in self._before.items() if old.is_listed and not self._now[key].is_listed]
        come = [new for key, new in self._now.items() if new.is_listed and not self._was_listed(key)]
        texts = SUBJECTS.texts(conn, account_id, {old.subject_id for old in left})
        for old in left:
            old.subject = texts[old.subject_id]
        for new in sorted(come, key=lambda one: (one.place, one.message_id)):
            new.place = self._free_place(new.place)
        self._index(come, left)
        self._store()
        moved = [0, 0, 0]
        correspondents = Tally[tuple[str, int]]()
        for sign, rows in ((-1, self._before), (1, self._now)):
            for row in rows.values():
                moved = [total + sign * more for total, more in zip(moved, row.counts(), strict=True)]
                if row.is_listed:
                    correspondents["inbox", row.inbox_id] += sign
                    correspondents["sender", row.sender_id] += sign
        dictionaries.count_correspondents(conn, account_id, correspondents)
        names = "received", "inboxes", "size_bytes", "deleted", "deleted_bytes"
        days = [
            {"account_id": account_id, "day": day, **{name: counts[name] for name in names}}
            for day, counts in sorted(self._days.items())
        ]
        _DAYS.add(conn, days)
        conn.execute(
            update(tables.arrival_cursors)
            .where(_x.account_id == account_id)
            .values(
                listed=_x.listed + moved[0],
                unread=_x.unread + moved[1],
                favorites=_x.favorites + moved[2],
                **reaches._asdict(),
            )
        )

    def _was_listed(self, key: tuple[int, int]) -> bool:
        return key in self._before and self._before[key].is_listed

    def _free_place(self, wanted: int) -> int:
        """A moment at which no other listed arrival stands: the one wanted, or the next free one."""
        place = wanted
        while True:
            key = {"account": self._account_id, "since": place, "limit": TRIED}
            taken = {row[0] for row in _TAKEN.rows(self._conn, key)} | self._places
            free = next((one for one in range(place, place + TRIED) if one not in taken), None)
            if free is not None:
                self._places.add(free)
                return free
            place = self._behind_second(place)

    def _behind_second(self, place: int) -> int:
        """The first moment behind all arrivals of a crowded second."""
        until = place - place % 1_000_000 + 1_000_000
        last = select(func.max(_a.place)).where(
            _a.account_id == self._account_id, _a.deleted_at.is_(None), _a.place >= place, _a.place < until
        )
        stored = self._conn.execute(last).scalar() or place
        return max([stored, *(one for one in self._places if place <= one < until)]) + 1

    def _index(self, come: Sequence[_Arrival], left: Sequence[_Arrival]) -> None:
        conn, account_id = self._conn, self._account_id
        counts, words = Tally[str](), Tally[str]()
        cut: dict[str, set[str]] = {}
        for sign, rows in ((1, come), (-1, left)):
            for row in rows:
                counts[row.subject] += sign
                if row.subject not in cut:
                    cut[row.subject] = subjects.cut(row.subject)
                for word in cut[row.subject]:
                    words[word] += sign
        ids, word_ids = SUBJECTS.count(conn, account_id, counts), WORDS.count(conn, account_id, words)
        gone = [
            {"account": account_id, "word": word_ids[word], "at": row.place}
            for row in left
            for word in cut[row.subject]
        ]
        _DELETE_POSTING.many(conn, gone)
        for row in come:
            row.subject_id = ids[row.subject]
        made = [(word_ids[word], row.place, row.subject_id) for row in come for word in cut[row.subject]]
        names = "word_id", "place", "subject_id"
        _INSERT_POSTING.many(
            conn, [{"account_id": account_id, **dict(zip(names, row, strict=True))} for row in sorted(made)]
        )

    def _store(self) -> None:
        added, changed, gone = [], [], []
        for key, row in self._now.items():
            named = {"account": self._account_id, "mailbox": row.mailbox_id, "message": row.message_id}
            if key not in self._before:
                if not row.is_removed:
                    added.append({"account_id": self._account_id, **_values(row)})
            elif row.is_removed:
                gone.append(named)
            elif row != self._before[key]:
                changed.append({**named, **{f"new_{name}": value for name, value in _values(row).items()}})
        _DELETE.many(self._conn, gone)
        _UPDATE.many(self._conn, changed)
        _INSERT.many(self._conn, added)


def _values(row: _Arrival) -> Mapping[str, Any]:
    names = ("mailbox_id", "message_id", "place", "inbox_id", "sender_id", "subject_id", "size_bytes")
    return {name: getattr(row, name) for name in (*names, "read_at", "is_favorite", "deleted_at")}
