"""Several nodes on one database: numbers in order, a job for one alone, signals for all."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from restante.core import accounts, delivery, domains, jobs, mailboxes
from restante.core.contents import NewContent
from restante.core.delivery import Summary, Target
from restante.ids import AccountId, MailboxId
from restante.schema.connections import WriteConn
from restante.storage.database import Call
from restante.storage.postgres import signals as module
from restante.storage.postgres.commits import GroupCommit
from restante.storage.postgres.signals import Listener
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from tests.storage import sample

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DELIVERIES = 60


def _make_mailbox(conn: WriteConn) -> tuple[AccountId, MailboxId]:
    account = accounts.create(conn, "default", NOW)
    domains.add(conn, account.id, "example.test", NOW, dns_status="forced")
    return account.id, mailboxes.create(conn, account.id, "bob@example.test", NOW).id


def _call(account_id: AccountId, mailbox_id: MailboxId) -> Call:
    summary = Summary("s", "", "a@b.example", "[]", None, None, 0, 1, "p", "a@b.example")
    content = NewContent(3, b"x" * 32, b"", b"raw", None, None)
    target = Target(account_id, mailbox_id, "INBOX", "bob@example.test", b"")
    return Call(delivery.deliver, ([(account_id, content)], summary, [target], NOW), {})


class _Reader(threading.Thread):
    """Looks again and again at what is visible, and notes what a follower of numbers would have missed."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._ended = url, threading.Event()
        self.gaps: list[Any] = []
        self.looks = 0

    def run(self) -> None:
        queries = {
            "events": "SELECT number FROM events ORDER BY number",
            "uids": "SELECT uid FROM messages ORDER BY uid",
            "modseqs": "SELECT modseq - 1 FROM messages ORDER BY modseq",
        }
        with psycopg.connect(self._url, autocommit=True) as conn:
            while not self._ended.is_set():
                for name, query in queries.items():
                    found = [row[0] for row in conn.execute(query)]
                    if found != list(range(1, len(found) + 1)):
                        self.gaps.append((name, found))
                self.looks += 1

    def finish(self) -> None:
        self._ended.set()
        self.join()


def test_nobody_sees_a_number_before_the_one_in_front_of_it(postgres_url: str) -> None:
    nodes = [GroupCommit(postgres_url, name) for name in "abc"]
    account_id, mailbox_id = nodes[0].run([Call(_make_mailbox, (), {})])[0].value
    first = nodes[0].run([_call(account_id, mailbox_id)])[0]
    assert first.error is None
    reader = _Reader(postgres_url)
    reader.start()
    errors: list[Any] = []

    def work(node: GroupCommit) -> None:
        for number in range(DELIVERIES // 3):
            while reader.looks < number // 4 and reader.is_alive():  # it looks while they work, however slow it is
                time.sleep(0.001)
            errors.extend(outcome.error for outcome in node.run([_call(account_id, mailbox_id)] * 3) if outcome.error)

    threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.finish()
    for node in nodes:
        node.close()
    assert errors == []
    assert reader.gaps == []
    assert reader.looks > 3
    with psycopg.connect(postgres_url) as conn:
        uids = [row[0] for row in conn.execute("SELECT uid FROM messages ORDER BY id")]
        assert sorted(uids) == list(range(1, 3 * DELIVERIES + 2))


def test_two_workers_never_get_the_same_job(postgres_url: str) -> None:
    nodes = [GroupCommit(postgres_url, name) for name in "ab"]
    for _ in range(90):
        assert nodes[0].run([Call(jobs.enqueue, (None, "test", {}), {"now": NOW})])[0].error is None
    claimed: dict[str, list[int]] = {"a": [], "b": []}
    start = threading.Barrier(2)

    def work(name: str, node: GroupCommit) -> None:
        start.wait()
        while True:
            (outcome,) = node.run([Call(jobs.claim, (name, 4, timedelta(minutes=1), NOW), {})])
            assert outcome.error is None
            if not outcome.value:
                return
            claimed[name] += [job.id for job in outcome.value]

    threads = [threading.Thread(target=work, args=pair) for pair in zip("ab", nodes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for node in nodes:
        node.close()
    assert not set(claimed["a"]) & set(claimed["b"])
    assert len(claimed["a"]) + len(claimed["b"]) == 90


def test_a_job_that_another_is_claiming_is_passed_over(postgres_url: str) -> None:
    node = GroupCommit(postgres_url, "a")
    for _ in range(2):
        node.run([Call(jobs.enqueue, (None, "test", {}), {"now": NOW})])
    with psycopg.connect(postgres_url) as conn:
        held = conn.execute("SELECT id FROM jobs ORDER BY id LIMIT 1 FOR UPDATE").fetchone()
        (outcome,) = node.run([Call(jobs.claim, ("a", 10, timedelta(minutes=1), NOW), {})])
        assert [(job.id,) != held for job in outcome.value] == [True]
    node.close()


@pytest.fixture
async def heard(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Signals, Listener]]:
    """The signals of a server whose marks are ``mine``, and its listener."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    signals = Signals()
    listener = Listener(postgres_url, "mine", signals)
    with signals.subscribe(0) as instance:
        listener.start()
        await asyncio.wait_for(instance.wait(), 60)  # it listens
    yield signals, listener
    await listener.close()


async def test_a_change_on_one_node_wakes_another(
    tmp_path: Path, postgres_url: str, heard: tuple[Signals, Listener]
) -> None:
    db = InProcessDatabase(tmp_path, Signals(), postgres_url)
    with heard[0].subscribe(7) as changes, heard[0].subscribe(8) as others:
        await db.write(sample.put_and_touch, "t", 7)
        await asyncio.wait_for(changes.wait(), 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(others.wait(), 0.01)
    await db.close()


async def test_own_signals_and_foreign_words_are_not_heard(postgres_url: str, heard: tuple[Signals, Listener]) -> None:
    seen: list[frozenset[int]] = []
    heard[0].on_any(seen.append)
    with heard[0].subscribe(7) as changes, psycopg.connect(postgres_url, autocommit=True) as conn:
        for payload in ("mine:7", "nonsense", "", "other:7;DROP", "other:9", "other:7"):
            conn.execute("SELECT pg_notify('restante', %s)", (payload,))
        await asyncio.wait_for(changes.wait(), 60)
    assert seen == [frozenset({9}), frozenset({7})]


async def test_after_a_broken_connection_everyone_is_woken(postgres_url: str, heard: tuple[Signals, Listener]) -> None:
    with heard[0].subscribe(7) as changes:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            ended = conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'restante signals'"
                " AND datname = current_database()"
            ).fetchall()
            assert ended == [(True,)]
        await asyncio.wait_for(changes.wait(), 60)


async def test_too_many_accounts_wake_everyone(postgres_url: str, heard: tuple[Signals, Listener]) -> None:
    with heard[0].subscribe(123_456_789) as changes, psycopg.connect(postgres_url) as conn:
        module.notify(conn, "other", range(10_000))
        conn.commit()
        await asyncio.wait_for(changes.wait(), 60)


def test_events_of_one_group_are_in_order(postgres_url: str) -> None:
    node = GroupCommit(postgres_url, "a")
    account_id, mailbox_id = node.run([Call(_make_mailbox, (), {})])[0].value
    before = node.run([Call(_last_event, (account_id,), {})])[0].value
    outcomes = node.run([_call(account_id, mailbox_id)] * 5)
    assert [outcome.value[0].uid for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert node.run([Call(_last_event, (account_id,), {})])[0].value == before + 5
    node.close()


def _last_event(conn: WriteConn, account_id: AccountId) -> int:
    return int(conn.exec_driver_sql("SELECT max(number) FROM events").scalar_one())
