"""The indexer of a PostgreSQL store: crashes, several at once, rebuilds, sweeping, what ``verify`` sees."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from restante.storage.postgres import index_check, indexer
from restante.storage.postgres.indexer import Indexer
from tests.storage.index_store import PostgresStore


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def follower(store: PostgresStore) -> Iterator[Indexer]:
    opened = store.indexer()
    yield opened
    opened.close()


def rows(store: PostgresStore, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(store.url, autocommit=True) as conn:
        return conn.execute(query.encode()).fetchall()


def change(store: PostgresStore, statement: str) -> None:
    with psycopg.connect(store.url, autocommit=True) as conn:
        conn.execute(statement.encode())


def vocabulary(store: PostgresStore, account: int = 1) -> list[str]:
    return [row[0] for row in rows(store, f"SELECT term FROM search_terms WHERE account_id = {account} ORDER BY term")]


def test_the_queue_is_empty_when_all_is_indexed(store: PostgresStore) -> None:
    ids = store.add("one", "two words", "three more words")
    assert store.index() == 3
    assert rows(store, "SELECT count(*) FROM index_queue") == [(0,)]
    assert store.ids("words") == [ids[2], ids[1]]
    assert store.index() == 0


def test_rows_that_commit_out_of_order_are_not_missed(store: PostgresStore, follower: Indexer) -> None:
    store.add("makes the folder")
    follower.catch_up()
    with store.transaction() as early:
        first = store._add(early, "early", 1, 1, 1)  # its number is taken, its commit comes later
        (second,) = store.add("late")
        assert follower.catch_up() == 1
    assert second > first
    assert follower.catch_up() == 1
    assert store.ids("early") == [first]


def test_batches_are_bounded_in_rows_and_bytes(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(*["some text"] * 9)
    monkeypatch.setattr(indexer, "BATCH_ROWS", 4)
    follower = store.indexer()
    assert follower.step() == 4
    monkeypatch.setattr(indexer, "BATCH_BYTES", -1)
    assert follower.step() == 1
    assert follower.catch_up() == 4
    follower.close()


def test_accounts_take_turns(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 2)
    store.add(*["busy"] * 6, account=1)
    store.add("quiet", account=2, mailbox=2)
    follower = store.indexer()
    follower.step()
    follower.step()
    assert store.ids("quiet", account=2, mailbox=2)
    assert len(store.ids("busy")) < 6
    follower.close()


def test_one_indexes_at_a_time_for_an_account(store: PostgresStore, follower: Indexer) -> None:
    store.add("mine", account=1)
    store.add("theirs", account=2, mailbox=2)
    store.index()
    store.add("again", account=1)
    store.add("again", account=2, mailbox=2)
    with psycopg.connect(store.url) as other:  # another node's batch for account 1, under way
        other.execute("SELECT FROM search_accounts WHERE account_id = 1 FOR UPDATE")
        assert follower.catch_up() == 1
        assert not store.ids("again", account=1)
        assert store.ids("again", account=2, mailbox=2)
    assert follower.catch_up() == 1
    assert store.ids("again", account=1)


def test_two_nodes_share_the_work(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 3)
    for account in range(1, 6):
        store.add(*["shared word"] * 7, account=account, mailbox=account)
    both = [store.indexer(), store.indexer()]
    while sum(one.step() for one in both):
        pass
    for account in range(1, 6):
        assert len(store.ids("shar", account=account, mailbox=account)) == 7
    for one in both:
        one.close()


def test_moves_and_removals(store: PostgresStore) -> None:
    ids = store.add("one", "one", "one", folder=7)
    store.index()
    before = rows(store, "SELECT message_id, xmin::text, folder_id FROM search_documents ORDER BY message_id")
    store.move(ids[1], 8)
    store.remove(ids[2])
    assert store.index() == 2
    after = rows(store, "SELECT message_id, xmin::text, folder_id FROM search_documents ORDER BY message_id")
    assert [row[0] for row in after] == ids[:2]
    assert after[0] == before[0]
    assert store.ids("one", folder=8) == [ids[1]]
    assert store.ids("one", folder=7) == [ids[0]]


def test_a_batch_that_fails_leaves_all_as_it_was(
    store: PostgresStore, follower: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("apple", "pear")

    def fail(*_: object) -> None:
        raise psycopg.OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "_take_out", fail)  # the last thing that a batch does
        with pytest.raises(psycopg.OperationalError):
            follower.step()
    assert rows(store, "SELECT count(*) FROM search_documents") == [(0,)]
    assert vocabulary(store) == []
    assert follower.step() == 2
    assert store.ids("p") == [2, 1]


SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def test_a_killed_process_is_taken_up_where_it_was(store: PostgresStore) -> None:
    store.add(*[f"word{n} common" for n in range(40)])
    process = subprocess.Popen(
        [sys.executable, "-m", "restante.storage.postgres.indexer"], stdin=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdin is not None
    with psycopg.connect(store.url, autocommit=True) as conn:
        before = set(conn.execute(SESSIONS))
        process.stdin.write(store.url.encode() + b"\n")
        process.stdin.flush()
        while set(conn.execute(SESSIONS)) <= before:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        process.stdin.close()
        while not set(conn.execute(SESSIONS)) <= before:  # the server rolls back what it was at
            time.sleep(0.01)
    store.index()
    assert store.ids("common") == store.expected("common")
    assert rows(store, "SELECT count(*) FROM index_queue") == [(0,)]


def test_the_process_ends_with_its_input(store: PostgresStore) -> None:
    store.add("followed")
    command = [sys.executable, "-m", "restante.storage.postgres.indexer"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(store.url.encode() + b"\n")
    process.stdin.flush()
    with psycopg.connect(store.url, autocommit=True) as conn:
        while conn.execute("SELECT count(*) FROM index_queue").fetchall() != [(0,)]:
            assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) == 0
    assert store.ids("follow")


def test_the_process_without_a_database_ends_with_one_line() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "restante.storage.postgres.indexer"],
        input=b"postgresql://nobody@/nothing?host=/nowhere\n",
        capture_output=True,
        check=False,
    )
    assert found.returncode == indexer.EXIT_RETRY
    assert found.stderr.startswith(b"search index not written: ")
    assert b"Traceback" not in found.stderr


def test_the_process_imports_little() -> None:
    names = "('sqlalchemy', 'fastapi', 'apsw')"
    code = f"import sys, restante.storage.postgres.indexer; print([m for m in {names} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_another_version_is_made_anew_newest_first(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = store.add(*[f"text number{n}" for n in range(7)])
    store.index()
    indexer.prepare(store.url)  # the same version: nothing happens
    assert store.ids("text") == ids[::-1]
    monkeypatch.setattr(indexer, "VERSION", "other")
    indexer.prepare(store.url)
    assert store.ids("text") == []
    (new,) = store.add("text that came later")
    monkeypatch.setattr(indexer, "BATCH_ROWS", 3)
    follower = store.indexer()
    assert follower.step() == 1
    assert store.ids("text") == [new]
    follower.step()
    assert store.ids("text") == [new, *ids[:-4:-1]]
    follower.catch_up()
    assert store.ids("text") == [new, *ids[::-1]]
    follower.close()


def test_what_was_known_before_a_rebuild_is_learned_again(store: PostgresStore, follower: Indexer) -> None:
    store.add("cherry")
    follower.catch_up()
    store.outdate_index()
    follower.catch_up()
    assert store.ids("herr") == [1]


def test_words_that_nobody_has_are_swept(
    store: PostgresStore, follower: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "SWEEP_TERMS", 2)
    other = store.indexer()
    kept, gone = store.add("apple banana", "banana cherry damson elder")
    store.add("cherry", account=2, mailbox=2)
    follower.catch_up()
    other.catch_up()
    store.add("banana")
    other.catch_up()
    store.remove(gone)
    follower.catch_up()
    assert not follower.sweep()  # too few yet
    assert follower.sweep(1)
    while follower.sweep(1):
        pass
    assert vocabulary(store) == ["apple", "banana"]
    assert vocabulary(store, 2) == ["cherry"]
    assert store.ids("banana") == [3 + 1, kept]
    (again,) = store.add("cherry")
    other.catch_up()  # it knew the word before it was swept
    assert store.ids("herr") == [again]
    other.close()


def test_the_planner_learns_of_growth_at_each_doubling(
    store: PostgresStore, follower: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "ANALYZED_FIRST", 4)
    monkeypatch.setattr(follower, "_until_analysis", 4)
    monkeypatch.setattr(indexer, "ANALYZED_LAST", 8)
    known = "SELECT reltuples FROM pg_class WHERE oid IN ('messages'::regclass, 'search_documents'::regclass)"
    seen = []
    for number in (3, 1, 3, 1, 8, 16):
        store.add(*["text"] * number)
        follower.catch_up()
        seen.append([row[0] for row in rows(store, known)])
    assert seen == [[-1, -1], [4, 4], [4, 4], [8, 8], [8, 8], [8, 8]]  # then it is large: autovacuum is soon enough


def test_the_words_of_an_empty_account_go_at_once(store: PostgresStore, follower: Indexer) -> None:
    ids = store.add("secret", "secrets")
    follower.catch_up()
    store.remove(*ids)
    follower.catch_up()
    while follower.tidy():
        pass
    assert vocabulary(store) == []


def test_texts_with_more_terms_than_a_row_holds(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "TERMS_BYTES", 200)
    large = " ".join(f"term{n:03}" for n in range(100))
    first, second = store.add(large, "term042 alone")
    store.add(large, folder=2)
    store.add(large, account=2, mailbox=2)
    store.index()
    for text in ("term042", "erm04", "term042 alone", "term042 term099", "term042 term", "nothing", "042-", "m042 t"):
        assert store.ids(text) == store.expected(text)
        assert store.ids(text, folder=1) == store.expected(text, folder=1)
    found = store.find("term042", folder=1, limit=1)
    assert (found.total, found.ids) == (2, [second])
    assert first in store.ids("term042")


def test_the_largest_texts_are_indexed(store: PostgresStore) -> None:
    chance = random.Random(1)
    wide = "".join([chr(0x4E00 + chance.randrange(20_000)) for _ in range(380_000)])
    (one,) = store.add(wide)
    store.index()
    assert rows(store, "SELECT is_cut FROM search_documents") == [(1,)]
    assert store.ids(wide[1000:1002]) == [one]
    assert store.ids("\u3042\u3044") == []


def test_verify_sees_what_is_missing_and_what_is_too_much(store: PostgresStore, follower: Indexer) -> None:
    ids = store.add("a", "b", "c", "d", "e")
    theirs = store.add("f", account=2, mailbox=2)
    everything = [(1, one) for one in ids] + [(2, theirs[0])]
    assert index_check.examine(store.url, (), 100).missing == ()  # all are queued
    follower.catch_up()
    change(store, f"DELETE FROM search_documents WHERE message_id = {ids[1]}")
    change(
        store,
        "INSERT INTO search_documents SELECT account_id, 77, mailbox_id, folder_id, is_cut, terms, folded"
        f" FROM search_documents WHERE message_id = {ids[0]}",
    )
    for limit in (1, 2, 3, 100):
        missing: list[tuple[int, int]] = []
        extra: list[tuple[int, int]] = []
        after: tuple[int, ...] | None = ()
        while after is not None:
            step = index_check.examine(store.url, after, limit)
            missing += step.missing
            extra += step.extra
            after = step.last
        assert (missing, extra) == ([(1, ids[1])], [(1, 77)])
    store.outdate_index()
    assert index_check.examine(store.url, (), 100).missing == ()  # all will be reached
    follower.catch_up()
    assert index_check.examine(store.url, (), 100) == index_check.examine(store.url, (), 100)
    assert rows(store, "SELECT account_id, message_id FROM search_documents ORDER BY 1, 2") == everything
