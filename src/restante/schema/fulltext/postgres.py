"""The search index on PostgreSQL: tables beside the others, written by ``storage.postgres.indexer``.

``search_documents``: a row per message, its terms (``mail.words``) as a literal ``tsvector`` with a GIN index. Each
term carries its account, so that no tenant's words lengthen another's lists, and each key names the account, so that
the tables can be spread by it. The mailbox is a term too; the folder is a column, so that a move touches no index.
``search_terms``: each account's vocabulary, its trigrams as a literal ``tsvector`` with a GIN index.

GIN cannot walk newest first: it collects all hits and their rows are visited, so these are narrow (terms and text are
kept apart by TOAST) and page and total come out of one walk. Conditions reach the planner as unknown values; it would
take the length of a long OR for a reason to read the whole table.
"""

import struct
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from restante.mail.words import Condition, Where
from restante.schema.fulltext import plan
from restante.schema.fulltext.plan import AllOf, AnyOf, Expression, Scope

if TYPE_CHECKING:  # the indexer imports this module and must stay small
    from sqlalchemy import Connection

_COUNT = struct.Struct("!i")
GROUP = 16  # a deep chain of ORs is walked to its end for each message: a tree of small groups is not


def quote(account_id: int, term: str) -> str:
    """A term of an account as ``tsvector`` and ``tsquery`` read it.

    No term has a quotation mark or a backslash in it.
    """
    return f"'{account_id}#{term}'"


def vector(account_id: int, terms: AbstractSet[bytes]) -> bytes:
    """The ``tsvector`` of terms of an account in UTF-8, as ``tsvectorrecv`` reads it: their number, then each in the
    order of its bytes with a zero behind it and no positions. Reading them as text takes three times as long.
    """
    mark = b"%d#" % account_id
    joined = (b"\0\0\0" + mark).join(sorted(terms))
    return _COUNT.pack(len(terms)) + mark + joined + b"\0\0\0"


def mailbox_term(mailbox_id: int) -> str:
    """The term of all messages in a mailbox; no word begins with the mark."""
    return f"#{mailbox_id}"


def gram_terms(term: str) -> set[str]:
    """What a vocabulary entry can be found by: its trigrams, its last two characters and its last one."""
    return {term[i : i + 3] for i in range(len(term))}


def _grams_query(account_id: int, text: str) -> str:
    """What the trigrams of every vocabulary entry with ``text`` in it match; a short text is the beginning of one."""
    if len(text) < 3:
        return quote(account_id, text) + ":*"
    grams = dict.fromkeys([text[i : i + 3] for i in range(len(text) - 2)])
    return "&".join([quote(account_id, gram) for gram in grams])


_TESTS = {
    Where.CONTAINS: "strpos(term, %s) > 0",
    Where.STARTS: "starts_with(term, %s)",
    Where.ENDS: "strpos(term || ' ', %s || ' ') > 0",
}
_BY_GRAMS = "SELECT size, term FROM search_terms WHERE account_id = %s AND grams @@ (SELECT %s::tsquery) AND {}"
_IN_ORDER = (
    "SELECT term FROM (SELECT term FROM search_terms WHERE account_id = %s ORDER BY size, term LIMIT %s) AS first"
    " WHERE {} LIMIT %s"
)
_FIRST = "ARRAY(SELECT term FROM t{} ORDER BY size, term LIMIT %s)"
_WALKED = "CASE (SELECT count(*) FROM w{0}) WHEN %s THEN ARRAY(SELECT term FROM w{0}) ELSE "
_UNSURE = "SELECT message_id FROM search_documents WHERE {} AND is_cut = 1"


class _Asked:
    """A statement of several questions: parts that run when a column first needs them, and columns."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._columns: list[str] = []
        self._values: tuple[list[Any], list[Any]] = [], []

    def part(self, name: str, sql: str, values: Sequence[Any]) -> None:
        self._parts.append(f"{name} AS MATERIALIZED ({sql})")
        self._values[0].extend(values)

    def column(self, sql: str, values: Sequence[Any] = ()) -> None:
        self._columns.append(sql)
        self._values[1].extend(values)

    def statement(self) -> tuple[str, list[Any]]:
        before, behind = self._values
        return f"WITH {', '.join(self._parts)} SELECT {', '.join(self._columns)}", [*before, *behind]


class PostgresIndex:
    """``plan.Index`` on one reading connection."""

    def __init__(self, conn: "Connection", scope: Scope) -> None:
        self._cursor = conn.connection.cursor()
        self._scope = scope
        self._unsure: list[int] | None = None

    def look_up(
        self, conditions: Sequence[tuple[Condition, int]], expressions: Sequence[Expression]
    ) -> tuple[list[list[str]], list[bool]]:
        """Vocabulary entries for each condition, so many of them; whether any message satisfies each expression.

        All in one statement, and ``unsure`` with it: ways are long.
        """
        if not conditions and not expressions:
            return [], []
        asked = _Asked()
        for at, (condition, most) in enumerate(conditions):
            self._ask_terms(asked, at, condition, most)
        for at, expression in enumerate(expressions):
            where, values = self._where(expression)
            asked.part(f"h{at}", f"SELECT FROM search_documents WHERE {where}", values)
            asked.column(f"EXISTS (SELECT FROM h{at})")
        where, values = self._in_scope()
        asked.column(f"ARRAY({_UNSURE.format(where)})", values)
        *found, self._unsure = self._rows(*asked.statement())[0]
        return found[: len(conditions)], found[len(conditions) :]

    def _ask_terms(self, asked: "_Asked", at: int, condition: Condition, most: int) -> None:
        """Ask for the first ``most`` vocabulary entries of a condition as a column of their own."""
        account_id, text, test = self._scope.account_id, condition.text, _TESTS[condition.where]
        asked.part(f"t{at}", _BY_GRAMS.format(test), [account_id, _grams_query(account_id, text), text])
        column, values = _FIRST.format(at), [most]
        if len(text) < 3:  # the trigrams of many entries begin with it
            asked.part(f"w{at}", _IN_ORDER.format(test), [account_id, plan.WALKED, text, most])
            column = _WALKED.format(at) + column + " END"
            values = [most, most]
        asked.column(column, values)

    def page(self, expression: Expression, limit: int) -> list[int]:
        """The first ``limit`` messages that satisfy it."""
        rows = self._hits(expression, "SELECT message_id FROM hits ORDER BY message_id DESC LIMIT %s", limit)
        return [row[0] for row in rows]

    def page_and_total(self, expression: Expression, limit: int, offset: int) -> tuple[list[int], int]:
        """``limit`` messages after ``offset`` of them, and how many there are in all."""
        both = (
            "SELECT ARRAY(SELECT message_id FROM hits ORDER BY message_id DESC LIMIT %s OFFSET %s),"
            " (SELECT count(*) FROM hits)"
        )
        ids, total = self._hits(expression, both, limit, offset)[0]
        return ids, total

    def among(self, expression: Expression, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that satisfy it."""
        rows = self._hits(expression, "SELECT message_id FROM hits WHERE message_id = ANY(%s)", list(ids))
        return {row[0] for row in rows}

    def _hits(self, expression: Expression, select: str, *values: Any) -> list[tuple[Any, ...]]:
        where, found = self._where(expression)
        hits = f"WITH hits AS MATERIALIZED (SELECT message_id FROM search_documents WHERE {where}) "  # noqa: S608
        return self._rows(hits + select, [*found, *values])

    def unsure(self) -> list[int]:
        """Messages with more terms than a row can hold."""
        if self._unsure is None:
            where, values = self._in_scope()
            self._unsure = [row[0] for row in self._rows(_UNSURE.format(where), values)]
        return self._unsure

    def texts(self, ids: Sequence[int]) -> list[tuple[Any, ...]]:
        """The folded texts of messages, as they are kept."""
        sql = (
            "SELECT message_id, folded FROM search_documents WHERE account_id = %s AND message_id = ANY(%s)"
            " ORDER BY message_id DESC"
        )
        return self._rows(sql, [self._scope.account_id, list(ids)])

    def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, values)
        return list(self._cursor.fetchall())

    def _in_scope(self) -> tuple[str, list[Any]]:
        columns = {
            "account_id": self._scope.account_id,
            "mailbox_id": self._scope.mailbox_id,
            "folder_id": self._scope.folder_id,
        }
        named = {name: value for name, value in columns.items() if value is not None}
        return " AND ".join([f"{name} = %s" for name in named]), list(named.values())

    def _where(self, expression: Expression) -> tuple[str, list[Any]]:
        """The condition of one search: a ``tsquery`` of all terms that it needs, and one for each OR, since one of them
        holds a million bytes. So its text depends on the number of ORs alone, and a plan serves all such searches."""
        where, values = self._in_scope()
        parts = expression.parts if isinstance(expression, AllOf) else (expression,)
        terms = [part for part in parts if isinstance(part, str)]
        if self._scope.mailbox_id is not None:
            terms.append(mailbox_term(self._scope.mailbox_id))
        needed: list[Expression] = [AllOf(tuple(terms))] if terms else []
        queries = [
            _query(self._scope.account_id, part)
            for part in (*needed, *[part for part in parts if not isinstance(part, str)])
        ]
        return where + " AND terms @@ (SELECT %s::tsquery)" * len(queries), [*values, *queries]


def _query(account_id: int, expression: Expression) -> str:
    """An expression in the language of ``tsquery``."""
    match expression:
        case AnyOf(parts):
            return _joined("|", [_query(account_id, part) for part in parts])
        case AllOf(parts):
            return _joined("&", [_query(account_id, part) for part in parts])
        case term:
            return quote(account_id, term)


def _joined(operator: str, parts: Iterable[str]) -> str:
    entries = list(parts)
    while len(entries) > GROUP:
        entries = [f"({operator.join(entries[i : i + GROUP])})" for i in range(0, len(entries), GROUP)]
    return f"({operator.join(entries)})"


__all__ = ["PostgresIndex", "gram_terms", "mailbox_term", "quote", "vector"]
