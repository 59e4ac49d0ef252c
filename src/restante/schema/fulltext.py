"""Finding messages by their text on SQLite: the queries that go to ``index.db``, attached as ``search``.

``storage.indexer`` writes that file. ``fts``: FTS5, a document per message (rowid = its id), the set of its terms
(``mail.words``) and its scope terms: account, mailbox, folder. (A join for the folder would cost more than the search,
so a move puts the message in the queue again.) ``terms``: each account's vocabulary. ``grams``: FTS5, a document per
vocabulary entry, its trigrams, each marked with the account.

A condition of a query becomes an OR of vocabulary entries, at most ``EXPANSION_MAX`` of them (``SHORT_EXPANSION_MAX``
for one or two characters), the shortest first and then by code point, whatever the engine. Exact pieces are counted by
the index. Where a piece is only narrowed by the index, candidates are compared with the folded text, newest first,
``LOOKED_AT_MAX`` messages, ``LOOKED_AT_BYTES`` of compressed text and ``LOOKED_AT_SECONDS`` at most. What lies beyond
either bound is not found, and ``Found.is_complete`` says so.

Opening the entries of an OR costs as much as walking them, so the page is read first, ``PROBE`` hits at least: mostly
that is all there are, and nothing is left to count.
"""

import json
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from restante.mail.words import FOLDED_MAX, LONG_ADDRESS, Condition, Piece, Query, Where

if TYPE_CHECKING:  # the indexer imports this module and must stay small
    from sqlalchemy import Connection

EXPANSION_MAX = 1_000  # vocabulary entries that stand for one condition
LOOKED_AT_MAX = 5_000  # candidates compared with the text
LOOKED_AT_BYTES = 24 << 20
LOOKED_AT_SECONDS = 0.05
PROBE = 500  # hits that are read rather than counted
GROUP = 8  # FTS5 walks all children of an OR at each step: a tree of small groups is as much faster
SHORT_EXPANSION_MAX = 100  # of one with one or two characters: these are in most entries
WALKED = 30_000  # vocabulary entries looked at in their order for such a condition, before its trigrams are
BATCH = 100
FOLDED_BYTES = FOLDED_MAX * 4
LONGEST = LONG_ADDRESS  # no vocabulary entry has more characters
LAST = "\U0010ffff"
NOTHING = '"#"'  # a term that no document has

WORD_CHARACTERS = "_#%@.+-"
unidata_version = unicodedata.unidata_version


def scope_terms(account_id: int, mailbox_id: int, folder_id: int) -> tuple[str, str, str]:
    """The index terms of the account, mailbox and folder that a message is in; each names the wider ones too."""
    return f"#a{account_id}", f"#m{account_id}.{mailbox_id}", f"#f{account_id}.{mailbox_id}.{folder_id}"


def gram_terms(account_id: int, term: str) -> str:
    """The document of a vocabulary entry in ``grams``: its trigrams, its last two characters and its last one."""
    mark = f"{account_id}#"
    return " ".join({mark + term[i : i + 3] for i in range(len(term))})


def _grams_match(account_id: int, text: str) -> str:
    """What the trigrams of every vocabulary entry with ``text`` in it match; a short text is the beginning of one."""
    if len(text) < 3:
        return quote(f"{account_id}#{text}") + " *"
    grams = dict.fromkeys([f"{account_id}#{text[i : i + 3]}" for i in range(len(text) - 2)])
    return " AND ".join(map(quote, grams))


def quote(term: str) -> str:
    """A term as FTS5 reads it; no term has a quotation mark in it."""
    return f'"{term}"'


_TESTS = {
    Where.CONTAINS: "instr(term, ?) > 0",
    Where.STARTS: "instr(term, ?) = 1",
    Where.ENDS: "instr(term || ' ', ? || ' ') > 0",
}
_BY_GRAMS = "SELECT term FROM search.grams g CROSS JOIN search.terms t ON t.id = g.rowid WHERE g.grams MATCH ? AND {} "
_IN_ORDER = (
    "SELECT term FROM (SELECT term FROM search.terms WHERE account_id = ? ORDER BY size, term LIMIT ?) WHERE {} LIMIT ?"
)
_FIRST = "ORDER BY size, term LIMIT ?"


@dataclass(frozen=True, slots=True)
class Found:
    """Message ids of one page, newest first, and the number of all hits."""

    total: int
    ids: list[int]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to search: the whole account, one mailbox of it, or one folder of that."""

    account_id: int
    mailbox_id: int | None = None
    folder_id: int | None = None

    @property
    def term(self) -> str:
        """The scope term, quoted."""
        account, mailbox, folder = scope_terms(self.account_id, self.mailbox_id or 0, self.folder_id or 0)
        if self.mailbox_id is None:
            return quote(account)
        return quote(mailbox if self.folder_id is None else folder)


def find(conn: "Connection", scope: Scope, query: Query, *, limit: int, offset: int = 0) -> Found:
    """The page of hits from ``offset`` on, newest (highest message id) first, with the exact total."""
    if not query.pieces:
        return Found(0, [])
    return _Search(conn, scope).find(query, limit, offset)


# FTS5 expressions are strings; the empty one matches nothing.


def _any(parts: Iterable[str]) -> str:
    """One of ``parts`` holds."""
    entries = [part for part in parts if part]
    while len(entries) > GROUP:
        # FTS5 would merge an OR inside an OR into one flat node; a NOT of nothing between them keeps the tree.
        groups = [" OR ".join(entries[i : i + GROUP]) for i in range(0, len(entries), GROUP)]
        entries = [f"(({group}) NOT {NOTHING})" for group in groups]
    return " OR ".join(entries)


def _all(parts: Sequence[str]) -> str:
    """Each of ``parts`` holds."""
    return " AND ".join([f"({part})" for part in parts]) if all(parts) else ""


class _Search:
    """One search on one connection."""

    def __init__(self, conn: "Connection", scope: Scope) -> None:
        self._cursor = conn.connection.cursor()
        self._scope = scope
        self._is_capped = False  # whether more vocabulary entries met a condition than were taken

    def find(self, query: Query, limit: int, offset: int) -> Found:
        if not all(piece.is_exact for piece in query.pieces):
            return self._find_by_text(query, limit, offset)
        conditions = [piece.conditions[0] for piece in query.pieces]
        sure = [self._sure(condition) for condition in conditions]
        certain = _all(sure)
        candidates = self._in_long_runs(conditions, sure)
        if candidates:
            return self._merge(query, certain, candidates, limit, offset)
        reach = max(limit + offset, PROBE)
        ids = self._page(certain, reach, 0)
        total = len(ids) if len(ids) < reach else self._count(certain)
        return Found(total, ids[offset : offset + limit], not self._is_capped)

    def _in_long_runs(self, conditions: Sequence[Condition], sure: Sequence[str]) -> list[int]:
        """Messages where a condition may be met by a run that is too long for the vocabulary."""
        long = ["" if condition.is_long_sure else _long(condition) for condition in conditions]
        found: set[int] = set()
        for place, expression in enumerate(long):
            if expression and self._page(expression, 1, 0):
                others = [_any(both) for i, both in enumerate(zip(sure, long, strict=True)) if i != place]
                found.update(self._page(_all([expression, *others]), LOOKED_AT_MAX + 1, 0))
        return sorted(found, reverse=True)

    def _merge(self, query: Query, certain: str, candidates: list[int], limit: int, offset: int) -> Found:
        """Join the hits that the vocabulary proves with those ``candidates`` whose text proves them."""
        sql = "SELECT rowid FROM search.fts WHERE fts MATCH ? AND rowid IN (SELECT value FROM json_each(?))"
        match = self._scoped(certain)
        known = {row[0] for row in self._rows(sql, (match, json.dumps(candidates)))} if certain else set()
        more, is_complete = self._compare(query, [i for i in candidates if i not in known])
        ids = sorted([*self._page(certain, limit + offset, 0), *more], reverse=True)
        is_complete = is_complete and not self._is_capped
        return Found(self._count(certain) + len(more), ids[offset : offset + limit], is_complete)

    def _find_by_text(self, query: Query, limit: int, offset: int) -> Found:
        narrowed = _all(
            [part for piece in query.pieces if (part := self._candidates(piece)) is not None] or [self._scope.term]
        )
        hits, is_complete = self._compare(query, self._page(narrowed, LOOKED_AT_MAX + 1, 0))
        return Found(len(hits), hits[offset : offset + limit], is_complete)

    def _compare(self, query: Query, candidates: Sequence[int]) -> tuple[list[int], bool]:
        """Those of ``candidates`` whose text has all pieces; and whether none had to be left out."""
        unzip = zstandard.ZstdDecompressor()
        sql = "SELECT id, folded FROM search.texts WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id DESC"
        hits: list[int] = []
        size, end = 0, time.monotonic() + LOOKED_AT_SECONDS
        for start in range(0, min(len(candidates), LOOKED_AT_MAX), BATCH):
            batch = candidates[start : min(start + BATCH, LOOKED_AT_MAX)]
            for message_id, folded in self._rows(sql, (json.dumps(batch),)):
                size += len(folded)
                if query.matches(unfold(unzip, folded)):
                    hits.append(message_id)
            if (size > LOOKED_AT_BYTES or time.monotonic() > end) and start + BATCH < len(candidates):
                return hits, False
        return hits, len(candidates) <= LOOKED_AT_MAX

    def _sure(self, condition: Condition) -> str:
        entries = [quote(term) for term in self._expand(condition)]
        if condition.is_long_sure:
            entries.append(_long(condition))
        return _any(entries)

    def _candidates(self, piece: Piece) -> str | None:
        """An expression that every message with the piece satisfies; None when there is no useful one."""
        parts = []
        for condition in piece.conditions:
            entries = self._expand(condition)
            if len(entries) < _most(condition):
                parts.append(_any([*map(quote, entries), _all([_long(condition)])]))
        return _all(parts) if parts else None

    def _expand(self, condition: Condition) -> list[str]:
        """Vocabulary entries for a condition, at most ``_most`` of them, the shortest first, then by code point."""
        text, account_id = condition.text, self._scope.account_id
        if condition.where is Where.EQUAL:
            return [text]
        if len(text) > LONGEST:
            return []
        test, most = _TESTS[condition.where], _most(condition)
        if len(text) < 3:  # the trigrams of many entries begin with it
            rows = self._rows(_IN_ORDER.format(test), (account_id, WALKED, text, most))
            if len(rows) == most:
                self._is_capped = True
                return [row[0] for row in rows]
        rows = self._rows(_BY_GRAMS.format(test) + _FIRST, (_grams_match(account_id, text), text, most))
        self._is_capped = self._is_capped or len(rows) == most
        return [row[0] for row in rows]

    def _rows(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, parameters)
        return list(self._cursor.fetchall())

    def _scoped(self, expression: str) -> str:
        return f"{self._scope.term} AND ({expression})"

    def _count(self, expression: str) -> int:
        if not expression:
            return 0
        return int(self._rows("SELECT count(*) FROM search.fts WHERE fts MATCH ?", (self._scoped(expression),))[0][0])

    def _page(self, expression: str, limit: int, offset: int) -> list[int]:
        if not expression:
            return []
        sql = "SELECT rowid FROM search.fts WHERE fts MATCH ? ORDER BY rowid DESC LIMIT ? OFFSET ?"
        return [row[0] for row in self._rows(sql, (self._scoped(expression), limit, offset))]


def _most(condition: Condition) -> int:
    """How many vocabulary entries may stand for it."""
    return EXPANSION_MAX if len(condition.text) > 2 else min(SHORT_EXPANSION_MAX, EXPANSION_MAX)


def _long(condition: Condition) -> str:
    return " AND ".join([quote(term) for term in condition.long_terms])


def unfold(unzip: zstandard.ZstdDecompressor, data: bytes) -> str:
    """A folded text as it is kept, compressed; empty when that is damaged."""
    try:
        return unzip.decompress(data, max_output_size=FOLDED_BYTES).decode("utf-8", "replace")
    except zstandard.ZstdError:
        return ""
