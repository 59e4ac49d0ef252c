"""The search index on SQLite: ``index.db``, attached as ``search``; ``storage.indexer`` writes that file.

``fts``: FTS5, a document per message, the set of its terms (``mail.words``) and its account's. Documents are numbered
folder by folder (``document_id``), so that those of a folder are one stretch of each term's list: a search reads that
stretch alone, whatever other folders and tenants have. (So a move puts the message in the queue again.) ``texts``: each
message's folded text and the number of its document. ``terms``: each account's vocabulary. ``grams``: FTS5, a document
per vocabulary entry, its trigrams, each marked with the account.

FTS5 finds the lower end of a stretch at once, the upper end only by walking towards it from the list's end, and the
exact total takes one walk anyway. So a stretch is walked once, upwards: the first ``PROBE`` hits are read (mostly these
are all), then the newest, as many as the density of the first lets expect; what lies between is counted.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from restante.mail.words import Condition, Where
from restante.schema.fulltext import plan
from restante.schema.fulltext.plan import AllOf, AnyOf, Expression, Scope, unfold, unidata_version

if TYPE_CHECKING:  # the indexer imports this module and must stay small
    from sqlalchemy import Connection

PROBE = 500  # hits of a folder that are read before any are counted
GROUP = 8  # FTS5 walks all children of an OR at each step: a tree of small groups is as much faster
NOTHING = '"#"'  # a term that no document has
MESSAGE_BITS = 38  # of a document's number are the message's id; the folder's are above them
MESSAGE_MASK = (1 << MESSAGE_BITS) - 1

WORD_CHARACTERS = "_#%@.+-"


def document_id(folder_id: int, message_id: int) -> int:
    """The number of a message's document while the message is in that folder."""
    return folder_id << MESSAGE_BITS | message_id


def account_term(account_id: int) -> str:
    """The index term that all documents of an account have."""
    return f"#a{account_id}"


def gram_terms(account_id: int, term: str) -> str:
    """The document of a vocabulary entry in ``grams``: its trigrams, its last two characters and its last one."""
    mark = f"{account_id}#"
    return mark + f" {mark}".join([term[i : i + 3] for i in range(len(term))])


def _grams_match(account_id: int, text: str) -> str:
    """What the trigrams of every vocabulary entry with ``text`` in it match; a short text is the beginning of one."""
    if len(text) < 3:
        return quote(f"{account_id}#{text}") + " *"
    grams = dict.fromkeys([f"{account_id}#{text[i : i + 3]}" for i in range(len(text) - 2)])
    return " AND ".join(map(quote, grams))


def quote(term: str) -> str:
    """A term as FTS5 reads it; no term has a quotation mark in it."""
    return f'"{term}"'


def _match(expression: Expression) -> str:
    """An expression in FTS5's language."""
    match expression:
        case AnyOf(parts):
            entries = [f"({_match(part)})" if isinstance(part, AllOf) else _match(part) for part in parts]
            while len(entries) > GROUP:
                # FTS5 would merge an OR inside an OR into one flat node; a NOT of nothing between them keeps the tree.
                groups = [" OR ".join(entries[i : i + GROUP]) for i in range(0, len(entries), GROUP)]
                entries = [f"(({group}) NOT {NOTHING})" for group in groups]
            return " OR ".join(entries)
        case AllOf(parts):
            return " AND ".join([_match(part) if isinstance(part, str) else f"({_match(part)})" for part in parts])
        case term:
            return quote(term)


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


_FOLDERS = "SELECT id FROM folders WHERE account_id = ? AND messages > 0"
_HITS = "FROM search.fts WHERE fts MATCH ? AND rowid BETWEEN ? AND ?"


class SQLiteIndex:
    """``plan.Index`` on one reading connection: the folders of the scope, one after the other."""

    def __init__(self, conn: "Connection", scope: Scope) -> None:
        self._cursor = conn.connection.cursor()
        self._account_id = scope.account_id
        narrow = {"mailbox_id": scope.mailbox_id, "id": scope.folder_id}
        given = {name: value for name, value in narrow.items() if value is not None}
        sql = _FOLDERS + "".join(f" AND {name} = ?" for name in given)
        found = self._rows(sql, (scope.account_id, *given.values()))
        self._ranges = [(document_id(row[0], 0), document_id(row[0], MESSAGE_MASK)) for row in found]

    def look_up(
        self, conditions: Sequence[tuple[Condition, int]], expressions: Sequence[Expression]
    ) -> tuple[list[list[str]], list[bool]]:
        """Vocabulary entries for each condition, so many of them; whether any message satisfies each expression."""
        sql = f"SELECT rowid {_HITS} LIMIT 1"
        matches = [self._match(expression) for expression in expressions]
        met = [any(self._rows(sql, (match, *places)) for places in self._ranges) for match in matches]
        return [self._expand(condition, most) for condition, most in conditions], met

    def page(self, expression: Expression, limit: int) -> list[int]:
        """The first ``limit`` messages that satisfy it."""
        return self._page(expression, limit, 0, is_counted=False)[0]

    def page_and_total(self, expression: Expression, limit: int, offset: int) -> tuple[list[int], int]:
        """``limit`` messages after ``offset`` of them, and how many there are in all."""
        return self._page(expression, limit, offset, is_counted=True)

    def _page(self, expression: Expression, limit: int, offset: int, *, is_counted: bool) -> tuple[list[int], int]:
        reach, match = limit + offset, self._match(expression)
        found = [self._newest(match, first, last, reach, is_counted=is_counted) for first, last in self._ranges]
        ids = sorted([document & MESSAGE_MASK for documents, _ in found for document in documents], reverse=True)
        return ids[offset:reach], sum(total for _, total in found)

    def _newest(self, match: str, first: int, last: int, wanted: int, *, is_counted: bool) -> tuple[list[int], int]:
        """The newest documents of a folder that match, ``wanted`` of them or more, and how many do in all."""
        oldest = self._documents(f"{_HITS} ORDER BY rowid LIMIT {PROBE}", match, first, last)
        if len(oldest) < PROBE:
            return oldest, len(oldest)
        start = oldest[-1] + 1
        newest = self._rows("SELECT max(id) FROM search.fts_docsize WHERE id BETWEEN ? AND ?", (first, last))[0][0]
        reach = 2 * wanted * ((start - first) // PROBE + 1)
        known_from = max(newest - reach, start)
        found = self._documents(f"{_HITS} ORDER BY rowid", match, known_from, last)
        total = PROBE + len(found)
        if is_counted:
            total += self._rows(f"SELECT count(*) {_HITS}", (match, start, known_from - 1))[0][0]
        while len(found) < wanted and known_from > start:  # rarer of late: look further back
            reach *= 4
            before = max(known_from - reach, start)
            found = self._documents(f"{_HITS} ORDER BY rowid", match, before, known_from - 1) + found
            known_from = before
        return (oldest + found if len(found) < wanted else found), total

    def _documents(self, hits: str, match: str, first: int, last: int) -> list[int]:
        return [row[0] for row in self._rows(f"SELECT rowid {hits}", (match, first, last))]

    def among(self, expression: Expression, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that satisfy it."""
        documents = "SELECT document FROM search.texts WHERE id IN (SELECT value FROM json_each(?))"
        # The sign keeps SQLite from a query of its own for each of them.
        sql = f"SELECT rowid & {MESSAGE_MASK} {_HITS} AND +rowid IN ({documents})"
        match, wanted = self._match(expression), json.dumps(ids)
        return {row[0] for places in self._ranges for row in self._rows(sql, (match, *places, wanted))}

    def unsure(self) -> list[int]:
        """None: FTS5 holds any number of terms."""
        return []

    def texts(self, ids: Sequence[int]) -> list[tuple[Any, ...]]:
        """The folded texts of messages, as they are kept."""
        sql = "SELECT id, folded FROM search.texts WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id DESC"
        return self._rows(sql, (json.dumps(ids),))

    def _expand(self, condition: Condition, most: int) -> list[str]:
        text, test = condition.text, _TESTS[condition.where]
        if len(text) < 3:  # the trigrams of many entries begin with it
            rows = self._rows(_IN_ORDER.format(test), (self._account_id, plan.WALKED, text, most))
            if len(rows) == most:
                return [row[0] for row in rows]
        rows = self._rows(_BY_GRAMS.format(test) + _FIRST, (_grams_match(self._account_id, text), text, most))
        return [row[0] for row in rows]

    def _rows(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, parameters)
        return list(self._cursor.fetchall())

    def _match(self, expression: Expression) -> str:
        return _match(expression) or quote(account_term(self._account_id))


__all__ = [
    "MESSAGE_BITS",
    "MESSAGE_MASK",
    "WORD_CHARACTERS",
    "SQLiteIndex",
    "account_term",
    "document_id",
    "gram_terms",
    "quote",
    "unfold",
    "unidata_version",
]
