"""The search index on SQLite: ``index.db``, attached as ``search``; ``storage.indexer`` writes that file.

``fts``: FTS5, a document per message (rowid = its id), the set of its terms (``mail.words``) and its scope terms:
account, mailbox, folder. (A join for the folder would cost more than the search, so a move puts the message in the
queue again.) ``terms``: each account's vocabulary. ``grams``: FTS5, a document per vocabulary entry, its trigrams, each
marked with the account.

Opening the entries of an OR costs as much as walking them, so the page is read first, ``PROBE`` hits at least: mostly
that is all there are, and nothing is left to count.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from restante.mail.words import Condition, Where
from restante.schema.fulltext import plan
from restante.schema.fulltext.plan import AllOf, AnyOf, Expression, Scope, unfold, unidata_version

if TYPE_CHECKING:  # the indexer imports this module and must stay small
    from sqlalchemy import Connection

PROBE = 500  # hits that are read rather than counted
GROUP = 8  # FTS5 walks all children of an OR at each step: a tree of small groups is as much faster
NOTHING = '"#"'  # a term that no document has

WORD_CHARACTERS = "_#%@.+-"


def scope_terms(account_id: int, mailbox_id: int, folder_id: int) -> tuple[str, str, str]:
    """The index terms of the account, mailbox and folder that a message is in; each names the wider ones too."""
    return f"#a{account_id}", f"#m{account_id}.{mailbox_id}", f"#f{account_id}.{mailbox_id}.{folder_id}"


def scope_term(scope: Scope) -> str:
    """The term of the narrowest of them, quoted."""
    account, mailbox, folder = scope_terms(scope.account_id, scope.mailbox_id or 0, scope.folder_id or 0)
    if scope.mailbox_id is None:
        return quote(account)
    return quote(mailbox if scope.folder_id is None else folder)


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


class SQLiteIndex:
    """``plan.Index`` on one reading connection."""

    def __init__(self, conn: "Connection", scope: Scope) -> None:
        self._cursor = conn.connection.cursor()
        self._account_id = scope.account_id
        self._scope = scope_term(scope)

    def page(self, expression: Expression, limit: int, offset: int = 0) -> list[int]:
        """The first ``limit`` messages that satisfy it."""
        sql = "SELECT rowid FROM search.fts WHERE fts MATCH ? ORDER BY rowid DESC LIMIT ? OFFSET ?"
        return [row[0] for row in self._rows(sql, (self._scoped(expression), limit, offset))]

    def page_and_total(self, expression: Expression, limit: int, offset: int) -> tuple[list[int], int]:
        """``limit`` messages after ``offset`` of them, and how many there are in all."""
        reach = max(limit + offset, PROBE)
        ids = self.page(expression, reach)
        if len(ids) < reach:
            return ids[offset : offset + limit], len(ids)
        count = "SELECT count(*) FROM search.fts WHERE fts MATCH ?"
        return ids[offset : offset + limit], int(self._rows(count, (self._scoped(expression),))[0][0])

    def among(self, expression: Expression, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that satisfy it."""
        sql = "SELECT rowid FROM search.fts WHERE fts MATCH ? AND rowid IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._rows(sql, (self._scoped(expression), json.dumps(ids)))}

    def unsure(self) -> list[int]:
        """None: FTS5 holds any number of terms."""
        return []

    def texts(self, ids: Sequence[int]) -> list[tuple[Any, ...]]:
        """The folded texts of messages, as they are kept."""
        sql = "SELECT id, folded FROM search.texts WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id DESC"
        return self._rows(sql, (json.dumps(ids),))

    def expand(self, condition: Condition, most: int) -> list[str]:
        """The first ``most`` vocabulary entries that satisfy it, the shortest first, then by code point."""
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

    def _scoped(self, expression: Expression) -> str:
        match = _match(expression)
        return f"{self._scope} AND ({match})" if match else self._scope


__all__ = [
    "WORD_CHARACTERS",
    "SQLiteIndex",
    "gram_terms",
    "quote",
    "scope_term",
    "scope_terms",
    "unfold",
    "unidata_version",
]
