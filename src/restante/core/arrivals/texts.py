"""Texts that are looked for: the words and the addresses that they are in, and how many arrivals these have."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from restante.core.arrivals import blocks
from restante.core.arrivals.dictionaries import WORDS
from restante.ids import AccountId
from restante.mail.subjects import Condition, Pattern
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.schema.prepared import Prepared, PreparedByIds, Row

NARROW = 250_000  # places that are gathered in memory; beyond, the engine scans
EXPANDED = 2_000  # words that stand for a text, or correspondents in a statement; beyond, the engine scans
NAMED = 20_000  # correspondents whose arrivals are looked up one by one
AT_ONCE = 500  # of them in one statement
LOOKED_UP = 4  # conditions of a pattern whose words are looked up
HELPFUL = 10  # times as many places as the best condition's: worth to be looked at before the subjects are
FEW = 3_000  # places each of which is looked at rather than that a text is looked up
SOON = 300  # places whose subjects are looked at rather than that another word narrows them down
CHECKABLE = 50_000  # places that may be looked up one by one

_a, _c, _s, _p = tables.arrivals.c, tables.correspondents.c, tables.arrival_subjects.c, tables.arrival_postings.c


class Correspondents(NamedTuple):
    """Those with a text in their address, how many arrivals they have, and where; None: too many to name."""

    role: str
    arrivals: int
    ids: list[int] | None = None
    places: list[int] | None = None

    @property
    def is_named(self) -> bool:
        """Whether their arrivals are found without looking at all addresses once more."""
        return self.ids is not None or self.places is not None


class Text(NamedTuple):
    """A text that is looked for: its pattern for subjects, and for a search the correspondents that have it too."""

    pattern: Pattern
    words: list[list[int]] | None  # sets of words, one of each of which all matching subjects have; None: too many
    size: int  # places to look at
    inboxes: Correspondents | None = None
    senders: Correspondents | None = None

    @property
    def addressed(self) -> int:
        """The arrivals of correspondents that have it (twice where both have)."""
        return sum(one.arrivals for one in (self.inboxes, self.senders) if one is not None)

    @property
    def is_soon_found(self) -> bool:
        """Whether it is in the addresses of thousands beside few subjects: easily counted, and found at any place."""
        is_named = all(one is None or one.is_named for one in (self.inboxes, self.senders))
        return not is_named and self.size - self.addressed <= CHECKABLE


_OF_ROLE = _c.account_id == bindparam("account"), _c.role == bindparam("role")
_LISTED = select(_a.place).where(_a.account_id == bindparam("account"), _a.deleted_at.is_(None))
_OF = {
    role: PreparedByIds(_LISTED.limit(bindparam("most")), column, AT_ONCE)
    for role, column in (("inbox", _a.inbox_id), ("sender", _a.sender_id))
}
_COUNTS = PreparedByIds(select(_c.id, _c.arrivals).where(*_OF_ROLE), _c.id)
_COUNT_LIKE = Prepared(
    select(func.sum(_c.arrivals)).where(*_OF_ROLE, _c.address.like(bindparam("pattern"), escape="\\"))
)
_POSTED = PreparedByIds(select(_p.place).where(_p.account_id == bindparam("account")), _p.word_id)
_PLACES = PreparedByIds(select(_p.place, _p.subject_id).where(_p.account_id == bindparam("account")), _p.word_id)
_MATCHING = PreparedByIds(
    select(_s.id).where(_s.account_id == bindparam("account"), _s.text.like(bindparam("pattern"), escape="\\")), _s.id
)


def in_subject(conn: ReadConn, account_id: AccountId, pattern: Pattern) -> Text:
    """What a pattern for subjects comes to."""
    found: list[tuple[int, list[int]]] = []
    for condition in pattern.conditions()[:LOOKED_UP]:
        ids = _words(conn, account_id, condition)
        if ids is not None:
            size = sum(WORDS.arrivals(conn, account_id, ids).values())
            found.append((size, ids))
            if size <= SOON:
                break
    if not found:
        return Text(pattern, None, NARROW + 1)
    found.sort(key=lambda one: one[0])
    size = found[0][0]
    helpful = [ids for other, ids in found[1:2] if size > SOON and other <= HELPFUL * size]
    return Text(pattern, [found[0][1], *helpful], size)


def anywhere(conn: ReadConn, account_id: AccountId, pattern: Pattern, most: int) -> Text:
    """What a search comes to: a text of one piece in subjects and in addresses, in ``most`` places or more."""
    text = in_subject(conn, account_id, pattern)
    inboxes = _named(conn, account_id, "inbox", pattern, most - text.size)
    text = text._replace(size=text.size + inboxes.arrivals, inboxes=inboxes)
    senders = _named(conn, account_id, "sender", pattern, most - text.size)
    return text._replace(size=text.size + senders.arrivals, senders=senders)


def places_by_subject(conn: ReadConn, account_id: AccountId, text: Text) -> set[int]:
    """The places of all whose subject has it."""
    key = {"account": account_id}
    first, *others = text.words or [[]]
    if text.pattern.is_exact and not others:
        return set(_POSTED.column(conn, key, first))
    rows: list[Row] = _PLACES.rows(conn, key, first)
    for words in others:
        among = set(_POSTED.column(conn, key, words))
        rows = [row for row in rows if row[0] in among]
    if not text.pattern.is_exact:
        ids = sorted({row[1] for row in rows})
        like = {**key, "pattern": text.pattern.like()}
        matching = {row[0] for row in _MATCHING.rows(conn, like, ids)}
        rows = [row for row in rows if row[1] in matching]
    return {row[0] for row in rows}


def _words(conn: ReadConn, account_id: AccountId, condition: Condition) -> list[int] | None:
    """The words that satisfy a condition; None when they are too many."""
    ids = list(itertools.islice(blocks.words(conn, account_id, condition.text, condition.where), EXPANDED + 1))
    return ids if len(ids) <= EXPANDED else None


def _named(conn: ReadConn, account_id: AccountId, role: str, pattern: Pattern, most: int) -> Correspondents:
    """The correspondents with a text in their address; their places, where these are not more than ``most``."""
    key = {"account": account_id, "role": role}
    ids = list(itertools.islice(blocks.addresses(conn, account_id, role, pattern.pieces[0]), NAMED + 1))
    named = ids if len(ids) <= EXPANDED else None
    if len(ids) <= NAMED:
        places = _places(conn, account_id, role, ids, most)
        if places is not None:
            return Correspondents(role, len(places), named, places)
    if named is not None:
        return Correspondents(role, sum(row[1] for row in _COUNTS.rows(conn, key, named)), named)
    row = _COUNT_LIKE.row(conn, {**key, "pattern": pattern.like()})
    return Correspondents(role, int(row[0]) if row else 0)


def _places(conn: ReadConn, account_id: AccountId, role: str, ids: Sequence[int], most: int) -> list[int] | None:
    """The places of all arrivals of some correspondents; None when they are more than ``most``."""
    found: list[int] = []
    for start in range(0, len(ids), AT_ONCE):
        if len(found) > most:
            return None
        key = {"account": account_id, "most": max(most + 1 - len(found), 0)}
        found += _OF[role].column(conn, key, ids[start : start + AT_ONCE])
    return found if len(found) <= most else None
