"""One filter of arrivals being answered: the places of a page, and the exact number of all that it lets pass.

It is answered from the smallest set that it names: an index of arrivals (of an inbox, a sender, the unread, the
favourites, or all), whose size the counters tell, or the places of words. Where a text is in so many mails that neither
is small, the subjects are scanned, each of which is there once.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, func, literal, not_, or_, select

from restante import clock
from restante.core.arrivals import dictionaries, texts
from restante.core.arrivals.texts import Correspondents, Text
from restante.ids import AccountId
from restante.mail import subjects
from restante.mail.subjects import Pattern
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import PreparedByIds

WALKED = 10  # places of an index that cost as much as looking one up
REACHED = 20_000  # places of which each may be looked at
FAR = 200_000  # places that a walk to a page should not go beyond
CHECKED = 500  # places that one statement looks up

_a, _c, _s, _p = tables.arrivals.c, tables.correspondents.c, tables.arrival_subjects.c, tables.arrival_postings.c


@dataclass(frozen=True, slots=True)
class Filter:
    """Which arrivals: all that satisfy everything that is not None (or False).

    ``inbox`` and ``sender``: an address, in any case. ``subject``: the whole of it in any case, ``*`` stands for any
    run. ``since`` and ``until``: received after and before these. ``search``: a part of the inbox's or the sender's
    address, or of the subject.
    """

    inbox: str | None = None
    sender: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    is_unread: bool | None = None
    is_favorite: bool | None = None


class Standing(NamedTuple):
    """Up to which event an account's arrivals are there, and how many."""

    event_number: int
    listed: int
    unread: int
    favorites: int


_LISTED = _a.account_id == bindparam("account"), _a.deleted_at.is_(None)
_OF = {
    role: PreparedByIds(select(_a.place).where(*_LISTED), column)
    for role, column in (("inbox", _a.inbox_id), ("sender", _a.sender_id))
}
_BY_PLACE = PreparedByIds(select(_a.inbox_id, _a.sender_id).where(*_LISTED), _a.place)
_LIKE = PreparedByIds(
    select(_c.id).where(
        _c.account_id == bindparam("account"),
        _c.role == bindparam("role"),
        _c.address.like(bindparam("pattern"), escape="\\"),
    ),
    _c.id,
)


class Query:
    """One filter being answered."""

    def __init__(self, conn: ReadConn, account_id: AccountId, standing: Standing) -> None:
        self._conn, self._account_id = conn, account_id
        self._key = {"account": account_id}
        self._index, self._size = "listed", standing.listed
        self._standing = standing
        self._having: dict[str, tuple[ColumnElement[Any], Any]] = {}  # index -> what it is an index of
        self._low: int | None = None
        self._high: int | None = None
        self._texts: list[Text] = []

    def page(self, wanted: Filter, offset: int, limit: int, total: int | None) -> tuple[list[int], int]:
        """The places of a page and the number of all."""
        if not self._read(wanted):
            return [], 0
        if total is not None and offset >= total:
            return [], total
        narrow = [
            one
            for one in self._texts
            if one.words is not None
            and one.size <= min(texts.NARROW, self._size)
            and not (one.is_soon_found and offset * self._size < FAR * one.size)
        ]
        if narrow:
            places = self._gather(min(narrow, key=lambda one: one.size))
            top = heapq.nlargest(offset + limit, places) if offset < 10 * limit else sorted(places, reverse=True)
            return top[offset : offset + limit], len(places)
        if total is None:
            total = self._count()
        if offset >= total:
            return [], total
        return list(self._conn.execute(self._walk().limit(limit).offset(offset)).scalars()), total

    def _read(self, wanted: Filter) -> bool:
        """Take in the filter; False when nothing can pass."""
        for role, address, column in (("inbox", wanted.inbox, _a.inbox_id), ("sender", wanted.sender, _a.sender_id)):
            if address is None:
                continue
            found = dictionaries.find_correspondent(self._conn, self._account_id, role, address)
            if found is None or not found[1]:
                return False
            self._narrow(role, found[1], column, found[0])
        if wanted.is_unread:
            self._narrow("unread", self._standing.unread, _a.read_at, None)
        if wanted.is_favorite:
            self._narrow("favorite", self._standing.favorites, _a.is_favorite, _ONE)
        if wanted.since is not None:
            self._low = clock.to_micros(wanted.since) + 1
        if wanted.until is not None:
            self._high = clock.to_micros(wanted.until)
        if (self._low, self._high) != (None, None) and self._size > texts.FEW:
            some = self._of_index(_a.place, self._index).limit(REACHED + 1).subquery()
            reached = self._counted(select(func.count()).select_from(some))
            self._size = reached if reached <= REACHED else self._size
        if wanted.subject is not None:
            pattern = subjects.whole(wanted.subject)
            if pattern.pieces:
                self._texts.append(self._subject(pattern))
        if wanted.search is not None:
            pattern = subjects.part(wanted.search)
            if pattern.pieces:
                self._texts.append(self._search(pattern))
        return self._size > 0

    def _narrow(self, index: str, size: int, column: ColumnElement[Any], value: Any) -> None:
        self._having[index] = column, value
        if size < self._size or self._index == "listed":
            self._index, self._size = index, size

    def _subject(self, pattern: Pattern) -> Text:
        if self._size <= texts.FEW:
            return Text(pattern, None, self._size)
        return texts.in_subject(self._conn, self._account_id, pattern)

    def _search(self, pattern: Pattern) -> Text:
        if self._size <= texts.FEW:
            few = (Correspondents(role, self._size) for role in ("inbox", "sender"))
            return Text(pattern, None, self._size, *few)
        return texts.anywhere(self._conn, self._account_id, pattern, min(texts.NARROW, self._size))

    def _gather(self, text: Text) -> Collection[int]:
        """All places that pass, beginning with those of one text."""
        places = texts.places_by_subject(self._conn, self._account_id, text)
        for named in (text.inboxes, text.senders):
            if named is not None and named.places is not None:
                places.update(named.places)
        unnamed = text._replace(inboxes=_unnamed(text.inboxes), senders=_unnamed(text.senders))
        for condition in self._addressed(unnamed):
            statement = select(_a.place).where(_a.account_id == self._account_id, _a.deleted_at.is_(None), condition)
            places.update(self._conn.execute(statement).scalars().all())
        if self._low is not None:
            places = {place for place in places if place >= self._low}
        if self._high is not None:
            places = {place for place in places if place < self._high}
        others = [one for one in self._texts if one is not text]
        if not self._having and not others:
            return places
        if not others and len(self._having) == 1 and self._index in _OF and self._size <= WALKED * len(places):
            _, of = self._having[self._index]
            return places.intersection(_OF[self._index].column(self._conn, self._key, [of]))
        checked, left = self._statement(_a.place, others, None), sorted(places)
        found: list[int] = []
        for start in range(0, len(left), CHECKED):
            found += self._conn.execute(checked.where(_a.place.in_(left[start : start + CHECKED]))).scalars()
        return found

    def _walk(self) -> Select[Any]:
        """What selects the places of all that pass, however many: from the places of words where these say all."""
        text = self._texts[0] if self._texts else None
        is_bounded = len(self._texts) > 1 or self._having or (self._low, self._high) != (None, None)
        if text is None or is_bounded or text.inboxes is not None or not text.words or not text.pattern.is_exact:
            return self._statement(_a.place, self._texts, self._index).order_by(_a.place.desc())
        posted = _p.account_id == self._account_id, _p.word_id.in_(text.words[0])
        return select(_p.place).where(*posted).distinct().order_by(_p.place.desc())

    def _count(self) -> int:
        if (self._low, self._high) == (None, None):
            if not self._texts and len(self._having) <= 1:
                return self._size
            if len(self._texts) == 1 and not self._having and self._size > texts.FEW:
                return self._count_text(self._texts[0])
        return self._counted(self._statement(func.count(), self._texts, self._index))

    def _counted(self, statement: Select[Any]) -> int:
        return int(self._conn.execute(statement).scalar_one() or 0)

    def _count_text(self, text: Text) -> int:
        """All that match one text: those with it in an address, and of the others those with it in their subject."""
        like = _s.text.like(text.pattern.like(), escape="\\")
        by_subject = select(func.sum(_s.arrivals)).where(_s.account_id == self._account_id, like)
        if text.inboxes is None or text.senders is None:
            return self._counted(by_subject)
        inboxes, senders = text.inboxes.arrivals, text.senders.arrivals
        if not inboxes and not senders:
            return self._counted(by_subject)
        if self._size in (inboxes, senders):
            return self._size
        addressed = text.addressed
        if text.words is not None and text.size - addressed <= texts.CHECKABLE:
            if inboxes and senders:
                both = self._base(func.count(), "listed").where(*self._addressed(text))
                addressed -= self._counted(both)
            return addressed + self._count_not_addressed(
                text, texts.places_by_subject(self._conn, self._account_id, text)
            )
        if addressed > self._size // 2:  # less is to be done for those that do not match
            neither = self._base(func.count(), "listed").where(not_(self._matching(text)))
            return self._size - self._counted(neither)
        others = self._base(func.count(), "listed").where(or_(*self._addressed(text)), not_(self._in_subject(text)))
        return self._counted(by_subject) + self._counted(others)

    def _count_not_addressed(self, text: Text, places: Collection[int]) -> int:
        """How many of the arrivals have the text neither in their inbox's nor in their sender's address."""
        rows = _BY_PLACE.rows(self._conn, self._key, sorted(places))
        having = {**self._key, "pattern": text.pattern.like()}
        inboxes, senders = (
            {row[0] for row in _LIKE.rows(self._conn, {**having, "role": role}, sorted(ids))}
            for role, ids in (("inbox", {row[0] for row in rows}), ("sender", {row[1] for row in rows}))
        )
        return sum(row[0] not in inboxes and row[1] not in senders for row in rows)

    def _statement(self, column: ColumnElement[Any], texts: Sequence[Text], index: str | None) -> Select[Any]:
        """What selects arrivals by everything (of the texts by these), from one index."""
        return self._base(column, index).where(*map(self._matching, texts))

    def _base(self, column: ColumnElement[Any], index: str | None) -> Select[Any]:
        """What selects arrivals by everything but texts, from one index."""
        statement = self._of_index(column, index)
        for name, (about, value) in self._having.items():
            if name != index:  # what is computed is no reason for an engine to take another index than the smallest
                statement = statement.where(_equals(about + 0, value))
        return statement

    def _of_index(self, column: ColumnElement[Any], index: str | None) -> Select[Any]:
        """What selects all that an index has between the moments."""
        mine = _a.account_id == self._account_id, _a.deleted_at.is_(None)
        statement = select(column).select_from(tables.arrivals).where(*mine)
        if index in self._having:
            statement = statement.where(_equals(*self._having[index]))
        if self._low is not None:
            statement = statement.where(_a.place >= self._low)
        if self._high is not None:
            statement = statement.where(_a.place < self._high)
        return statement

    def _matching(self, text: Text) -> ColumnElement[bool]:
        return or_(*self._addressed(text), self._in_subject(text))

    def _in_subject(self, text: Text) -> ColumnElement[bool]:
        like = _s.text.like(text.pattern.like(), escape="\\")
        return select(_s.id).where(_s.account_id == self._account_id, _s.id == _a.subject_id, like).exists()

    def _addressed(self, text: Text) -> Iterator[ColumnElement[bool]]:
        for column, found in ((_a.inbox_id, text.inboxes), (_a.sender_id, text.senders)):
            if found is None or not found.arrivals:
                continue
            if found.ids is not None:
                yield column.in_(found.ids)
                continue
            like = _c.address.like(text.pattern.like(), escape="\\")
            having = select(_c.id).where(_c.account_id == self._account_id, _c.role == found.role, like)
            yield having.where(_c.id == column).exists() if self._size <= REACHED else column.in_(having)


def _unnamed(found: Correspondents | None) -> Correspondents | None:
    return found if found is not None and found.places is None else None


def _equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


_ONE = literal(1, literal_execute=True)  # in the statement's text, as the partial index wants it
