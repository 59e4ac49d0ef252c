"""What PostgreSQL makes of the search's statements when the tables are full: indexes, and one account at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from restante.mail import words
from restante.schema import fulltext
from restante.schema.fulltext import Scope
from restante.schema.fulltext.postgres import PostgresIndex
from restante.storage.postgres import indexer
from tests.storage.index_store import PostgresStore

# 20 accounts of 1,000 messages in 5 mailboxes and 2 folders; half of all have the word "common", every 50th "rare3".
FILL = """
INSERT INTO search_accounts (account_id) SELECT generate_series(1, 20);
INSERT INTO search_documents SELECT n % 20 + 1, n, (n / 20) % 5, (n / 100) % 2, 0, array_to_tsvector(ARRAY[
    (n % 20 + 1) || '##' || (n / 20) % 5, (n % 20 + 1) || '#' || CASE WHEN n % 2 = 0 THEN 'common' ELSE 'other' END,
    (n % 20 + 1) || '#rare' || n % 50]), repeat('x', 300)::bytea FROM generate_series(1, 20000) AS n;
INSERT INTO search_terms SELECT a, length(t), t, array_to_tsvector(array(
    SELECT DISTINCT a || '#' || substr(t, i, 3) FROM generate_series(1, length(t)) AS i))
    FROM generate_series(1, 20) AS a, (SELECT 'rare' || n AS t FROM generate_series(0, 2000) AS n
    UNION SELECT 'common') AS w;
"""
ASKED = ("common", "rare3", "are", "mmo", "common rare3", "rare-3", "nothing", "x" * 50, "a", "北京")
SCOPES = (Scope(3), Scope(3, 2), Scope(3, 2, 1))


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    with psycopg.connect(opened.url, autocommit=True) as conn:
        conn.execute(FILL)
        conn.execute("VACUUM ANALYZE search_documents, search_terms, search_accounts")
    yield opened
    opened.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_each_statement_names_the_account_and_uses_an_index(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[tuple[str, list[Any]]] = []
    run = PostgresIndex._rows

    def record(self: PostgresIndex, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        statements.append((sql, list(values)))
        return run(self, sql, values)

    monkeypatch.setattr(PostgresIndex, "_rows", record)
    for scope in SCOPES:
        for text in ASKED:
            fulltext.find(store.reader, scope, words.parse(text), limit=50)
    assert fulltext.find(store.reader, Scope(3), words.parse("common"), limit=5).total == 1000
    used = set()
    with psycopg.connect(store.url) as conn:
        for sql, values in statements:
            assert "account_id = %s" in sql
            assert 3 in values
            (found,) = conn.execute(f"EXPLAIN (FORMAT JSON) {sql}".encode(), values).fetchall()
            for node in nodes(found[0][0]["Plan"]):
                assert node["Node Type"] != "Seq Scan", (sql, values)
                used.add(node.get("Index Name"))
    assert {"search_documents_terms", "search_terms_grams", "search_terms_pkey", "search_documents_pkey"} <= used


def test_sweeping_looks_each_word_up(store: PostgresStore) -> None:
    with psycopg.connect(store.url) as conn:
        values = ([0, 1, 2], ["'3#common'", "'3#unused'", "'4#common'"], 3)
        assert conn.execute(indexer.UNUSED, values).fetchall() == [(1,), (2,)]
        ((found,),) = conn.execute(f"EXPLAIN (FORMAT JSON) {indexer.UNUSED}".encode(), values).fetchall()
    kinds = {(node["Node Type"], node.get("Index Name")) for node in nodes(found[0]["Plan"])}
    assert ("Bitmap Index Scan", "search_documents_terms") in kinds
    assert not any("Join" in kind or kind == "Nested Loop" for kind, _ in kinds)


def test_a_word_is_looked_up_in_its_account_alone(store: PostgresStore) -> None:
    """The terms of the index carry their account, so that no walk passes another tenant's messages."""
    with psycopg.connect(store.url) as conn:
        conn.execute("SET enable_seqscan = off")
        query = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT FROM search_documents WHERE terms @@ '''3#common'''::tsquery"
        ((found,),) = conn.execute(query).fetchall()
    (scan,) = [node for node in nodes(found[0]["Plan"]) if node["Node Type"] == "Bitmap Index Scan"]
    assert scan["Actual Rows"] == 1000
