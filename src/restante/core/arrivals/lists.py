"""Lists of arrivals: a filter, a page of what it lets pass, and the exact number of all of it.

Each filter is answered from the smallest set that it names: an index of arrivals (of an inbox, a sender, the unread,
the favourites, or all), whose size the counters tell, or the places of words. Where a text is in so many mails that
neither is small, the subjects are scanned, each of which is there once.
"""

import heapq
import itertools
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, func, literal, not_, or_, select

from restante import clock
from restante.core.arrivals import dictionaries
from restante.core.arrivals.dictionaries import WORDS
from restante.core.arrivals.surveying import FORM
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId, MailboxId, MessageId
from restante.mail import message, subjects
from restante.mail.subjects import Condition, Pattern
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning
from restante.schema.prepared import Prepared, PreparedByIds, Row

MAX_LIMIT = 1_000
NARROW = 250_000  # places that are gathered in memory; beyond, the engine scans
EXPANDED = 2_000  # words or correspondents that stand for a text; beyond, the engine scans
LOOKED_UP = 4  # conditions of a pattern whose words are looked up
HELPFUL = 4  # times as many places as the best condition's: worth to be looked at before the subjects are
FEW = 3_000  # places below which nothing better is looked for
WALKED = 10  # places of an index that cost as much as looking one up
REACHED = 20_000  # places of which each may be looked at
CHECKABLE = 50_000  # places that may be looked up one by one
FAR = 200_000  # places that a walk to a page should not go beyond
CHECKED = 500  # places that one statement looks up

_a, _c, _x = tables.arrivals.c, tables.correspondents.c, tables.arrival_cursors.c
_s, _p, _m, _t = tables.arrival_subjects.c, tables.arrival_postings.c, tables.messages.c, tables.contents.c


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


class _Standing(NamedTuple):
    form: int
    event_number: int
    listed: int
    unread: int
    favorites: int


class _Correspondents(NamedTuple):
    """Those with a text in their address, and how many arrivals they have; no ids: they are too many to name."""

    role: str
    arrivals: int
    ids: list[int] | None


class _Text(NamedTuple):
    """A text that is looked for: its pattern for subjects, and for a search the correspondents that have it too."""

    pattern: Pattern
    words: list[list[int]] | None  # sets of words, one of each of which all matching subjects have; None: too many
    size: int  # places to look at
    inboxes: _Correspondents | None = None
    senders: _Correspondents | None = None

    @property
    def addressed(self) -> int:
        """The arrivals of correspondents that have it (twice where both have)."""
        return sum(one.arrivals for one in (self.inboxes, self.senders) if one is not None)

    @property
    def is_soon_found(self) -> bool:
        """Whether it is in the addresses of thousands beside few subjects: easily counted, and found at any place."""
        is_named = all(one is None or one.ids is not None for one in (self.inboxes, self.senders))
        return not is_named and self.size - self.addressed <= CHECKABLE


_STANDING = Prepared(
    select(_x.form, _x.event_number, _x.listed, _x.unread, _x.favorites).where(_x.account_id == bindparam("account"))
)
_CORRESPONDENT = Prepared(
    select(_c.role, _c.address, _c.id, _c.arrivals).where(
        _c.account_id == bindparam("account"), _c.hash == bindparam("hash")
    )
)
_OF_ROLE = _c.account_id == bindparam("account"), _c.role == bindparam("role")
_CORRESPONDENTS = PreparedByIds(
    select(_c.id, _c.address, _c.name, _c.created_at, _c.updated_at).where(*_OF_ROLE), _c.id
)
_COUNTS = PreparedByIds(select(_c.id, _c.arrivals).where(*_OF_ROLE), _c.id)
_COUNT_LIKE = Prepared(
    select(func.sum(_c.arrivals)).where(*_OF_ROLE, _c.address.like(bindparam("pattern"), escape="\\"))
)
_LIKE = PreparedByIds(select(_c.id).where(*_OF_ROLE, _c.address.like(bindparam("pattern"), escape="\\")), _c.id)
_POSTED = PreparedByIds(select(_p.place).where(_p.account_id == bindparam("account")), _p.word_id)
_PLACES = PreparedByIds(select(_p.place, _p.subject_id).where(_p.account_id == bindparam("account")), _p.word_id)
_MATCHING = PreparedByIds(
    select(_s.id).where(_s.account_id == bindparam("account"), _s.text.like(bindparam("pattern"), escape="\\")), _s.id
)
_LISTED = _a.account_id == bindparam("account"), _a.deleted_at.is_(None)
_BY_INBOX = PreparedByIds(select(_a.place).where(*_LISTED), _a.inbox_id)
_BY_SENDER = PreparedByIds(select(_a.place).where(*_LISTED), _a.sender_id)
_OF = {"inbox": _BY_INBOX, "sender": _BY_SENDER}
_ROW = _a.place, _a.message_id, _a.inbox_id, _a.sender_id, _a.read_at, _a.is_favorite
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
    query = _Query(conn, account_id, standing)
    limit = max(1, min(limit, MAX_LIMIT))
    offset = (max(page, 1) - 1) * limit
    places, total = query.page(wanted, offset, limit, None if kept is None else kept.arrivals)
    rows = _BY_PLACE.rows(conn, {"account": account_id}, places)
    return ArrivalPage(_arrivals(conn, account_id, rows), total, standing.event_number)


def find(conn: ReadConn, account_id: AccountId, public_id: uuid.UUID) -> Arrival:
    """One arrival that is listed. Raises NotFound(code="message_not_found"), Unavailable as ``list_page``."""
    _standing(conn, account_id)
    found = _arrivals(conn, account_id, _FIND.rows(conn, {"account": account_id, "public_id": public_id.bytes}))
    if not found:
        raise NotFound("no such message", code="message_not_found")
    return found[0]


def knows_inbox(conn: ReadConn, account_id: AccountId, address: str) -> bool:
    """Whether mail ever came to an address."""
    return _correspondent(conn, account_id, "inbox", address) is not None


def knows_sender(conn: ReadConn, account_id: AccountId, address: str) -> bool:
    """Whether mail ever came from an address."""
    return _correspondent(conn, account_id, "sender", address) is not None


def _standing(conn: ReadConn, account_id: AccountId) -> _Standing:
    row = _STANDING.row(conn, {"account": account_id})
    if row is None or row[0] != FORM:
        raise Unavailable("The list is being made.", code="arrivals_not_ready")
    return _Standing(*row)


def _correspondent(conn: ReadConn, account_id: AccountId, role: str, address: str) -> tuple[int, int] | None:
    """Number and listed arrivals of an address."""
    folded = subjects.fold(address)
    key = {"account": account_id, "hash": dictionaries.correspondent_hash(role, folded)}
    return next(((row[2], row[3]) for row in _CORRESPONDENT.rows(conn, key) if row[:2] == (role, folded)), None)


class _Query:
    """One filter being answered."""

    def __init__(self, conn: ReadConn, account_id: AccountId, standing: _Standing) -> None:
        self._conn, self._account_id = conn, account_id
        self._key = {"account": account_id}
        self._index, self._size = "listed", standing.listed
        self._standing = standing
        self._having: dict[str, tuple[ColumnElement[Any], Any]] = {}  # index -> what it is an index of
        self._low: int | None = None
        self._high: int | None = None
        self._texts: list[_Text] = []

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
            and one.size <= min(NARROW, self._size)
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
            found = _correspondent(self._conn, self._account_id, role, address)
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
        if (self._low, self._high) != (None, None) and self._size > FEW:
            some = self._of_index(_a.place, self._index).limit(REACHED + 1).subquery()
            reached = self._counted(select(func.count()).select_from(some))
            self._size = reached if reached <= REACHED else self._size
        if wanted.subject is not None:
            pattern = subjects.whole(wanted.subject)
            if pattern.pieces:
                self._texts.append(self._subject(pattern) if self._size > FEW else _Text(pattern, None, self._size))
        if wanted.search is not None:
            pattern = subjects.part(wanted.search)
            if pattern.pieces:
                self._texts.append(self._search(pattern))
        return self._size > 0

    def _narrow(self, index: str, size: int, column: ColumnElement[Any], value: Any) -> None:
        self._having[index] = column, value
        if size < self._size or self._index == "listed":
            self._index, self._size = index, size

    def _subject(self, pattern: Pattern) -> _Text:
        found: list[tuple[int, list[int]]] = []
        for condition in pattern.conditions()[:LOOKED_UP]:
            ids = self._words(condition)
            if ids is not None:
                size = sum(WORDS.arrivals(self._conn, self._account_id, ids).values())
                found.append((size, ids))
                if size <= FEW:
                    break
        if not found:
            return _Text(pattern, None, NARROW + 1)
        found.sort(key=lambda one: one[0])
        size = found[0][0]
        helpful = [ids for other, ids in found[1:2] if size > FEW and other <= HELPFUL * size]
        return _Text(pattern, [found[0][1], *helpful], size)

    def _words(self, condition: Condition) -> list[int] | None:
        """The words that satisfy a condition; None when they are too many."""
        ids: list[int] = []
        found = dictionaries.look_through(self._conn, self._account_id, "word", condition.text, condition.holds)
        for one in found:
            if len(ids) == EXPANDED:
                return None
            ids.append(one)
        return ids

    def _search(self, pattern: Pattern) -> _Text:
        if self._size <= FEW:
            few = (_Correspondents(role, self._size, None) for role in ("inbox", "sender"))
            return _Text(pattern, None, self._size, *few)
        text = self._subject(pattern)
        inboxes, senders = (self._named(role, pattern) for role in ("inbox", "sender"))
        return text._replace(size=text.size + inboxes.arrivals + senders.arrivals, inboxes=inboxes, senders=senders)

    def _named(self, role: str, pattern: Pattern) -> _Correspondents:
        """The correspondents with a text in their address."""
        conn, key = self._conn, {**self._key, "role": role}
        found = dictionaries.look_through(conn, self._account_id, role, pattern.pieces[0])
        ids = list(itertools.islice(found, EXPANDED + 1))
        if len(ids) <= EXPANDED:
            return _Correspondents(role, sum(row[1] for row in _COUNTS.rows(conn, key, ids)), ids)
        row = _COUNT_LIKE.row(conn, {**key, "pattern": pattern.like()})
        return _Correspondents(role, int(row[0]) if row else 0, None)

    def _gather(self, text: _Text) -> Collection[int]:
        """All places that pass, beginning with those of one text."""
        places = self._in_subjects(text)
        for named, prepared in ((text.inboxes, _BY_INBOX), (text.senders, _BY_SENDER)):
            if named is not None and named.ids is not None:
                places |= _places(prepared.rows(self._conn, self._key, named.ids))
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
            return places.intersection(row[0] for row in _OF[self._index].rows(self._conn, self._key, [of]))
        checked, left = self._statement(_a.place, others, None), sorted(places)
        found: list[int] = []
        for start in range(0, len(left), CHECKED):
            found += self._conn.execute(checked.where(_a.place.in_(left[start : start + CHECKED]))).scalars()
        return found

    def _in_subjects(self, text: _Text) -> set[int]:
        """The places of all whose subject matches."""
        first, *others = text.words or [[]]
        if text.pattern.is_exact and not others:
            return _places(_POSTED.rows(self._conn, self._key, first))
        rows = _PLACES.rows(self._conn, self._key, first)
        for words in others:
            among = _places(_POSTED.rows(self._conn, self._key, words))
            rows = [row for row in rows if row[0] in among]
        if not text.pattern.is_exact:
            ids = sorted({row[1] for row in rows})
            like = {**self._key, "pattern": text.pattern.like()}
            matching = {row[0] for row in _MATCHING.rows(self._conn, like, ids)}
            rows = [row for row in rows if row[1] in matching]
        return {row[0] for row in rows}

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
            if len(self._texts) == 1 and not self._having and self._size > FEW:
                return self._count_text(self._texts[0])
        return self._counted(self._statement(func.count(), self._texts, self._index))

    def _counted(self, statement: Select[Any]) -> int:
        return int(self._conn.execute(statement).scalar_one() or 0)

    def _count_text(self, text: _Text) -> int:
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
        if text.words is not None and text.size - addressed <= CHECKABLE:
            if inboxes and senders:
                both = self._base(func.count(), "listed").where(*self._addressed(text))
                addressed -= self._counted(both)
            return addressed + self._count_not_addressed(text, self._in_subjects(text))
        if addressed > self._size // 2:  # less is to be done for those that do not match
            neither = self._base(func.count(), "listed").where(not_(self._matching(text)))
            return self._size - self._counted(neither)
        others = self._base(func.count(), "listed").where(or_(*self._addressed(text)), not_(self._in_subject(text)))
        return self._counted(by_subject) + self._counted(others)

    def _count_not_addressed(self, text: _Text, places: Collection[int]) -> int:
        """How many of the arrivals have the text neither in their inbox's nor in their sender's address."""
        rows = _BY_PLACE.rows(self._conn, self._key, sorted(places))
        having = {**self._key, "pattern": text.pattern.like()}
        inboxes, senders = (
            {row[0] for row in _LIKE.rows(self._conn, {**having, "role": role}, sorted(ids))}
            for role, ids in (("inbox", {row[2] for row in rows}), ("sender", {row[3] for row in rows}))
        )
        return sum(row[2] not in inboxes and row[3] not in senders for row in rows)

    def _statement(self, column: ColumnElement[Any], texts: Sequence[_Text], index: str | None) -> Select[Any]:
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

    def _matching(self, text: _Text) -> ColumnElement[bool]:
        return or_(*self._addressed(text), self._in_subject(text))

    def _in_subject(self, text: _Text) -> ColumnElement[bool]:
        like = _s.text.like(text.pattern.like(), escape="\\")
        return select(_s.id).where(_s.account_id == self._account_id, _s.id == _a.subject_id, like).exists()

    def _addressed(self, text: _Text) -> Iterator[ColumnElement[bool]]:
        for column, found in ((_a.inbox_id, text.inboxes), (_a.sender_id, text.senders)):
            if found is None or not found.arrivals:
                continue
            if found.ids is not None:
                yield column.in_(found.ids)
                continue
            like = _c.address.like(text.pattern.like(), escape="\\")
            having = select(_c.id).where(_c.account_id == self._account_id, _c.role == found.role, like)
            yield having.where(_c.id == column).exists() if self._size <= REACHED else column.in_(having)


def _places(rows: list[Row]) -> set[int]:
    """Those of rows that have nothing else."""
    return set(itertools.chain.from_iterable(rows))


def _unnamed(found: _Correspondents | None) -> _Correspondents | None:
    return found if found is not None and found.ids is None else None


def _equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


_ONE = literal(1, literal_execute=True)  # in the statement's text, as the partial index wants it


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
