"""The writing half under trouble: a server that goes, others in the way, texts and disks that do not fit."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from restante.core import jobs
from restante.errors import Conflict, Invalid, Unavailable
from restante.storage import upgrades
from restante.storage.database import Call, Outcome
from restante.storage.postgres import commits as module
from restante.storage.postgres.commits import GroupCommit
from restante.storage.postgres.readers import Readers
from tests.storage import sample as plain
from tests.storage.postgres import sample
from tools.postgres import Cluster

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def commits(postgres_url: str) -> Iterator[GroupCommit]:
    opened = GroupCommit(postgres_url, "a")
    yield opened
    opened.close()


@pytest.fixture
def other(postgres_url: str) -> Iterator[GroupCommit]:
    """Another node's."""
    opened = GroupCommit(postgres_url, "b")
    yield opened
    opened.close()


def _run(commits: GroupCommit, *calls: tuple[Any, ...]) -> list[Outcome]:
    return commits.run([Call(fn, tuple(args), {}) for fn, *args in calls])


def _keys(url: str) -> dict[str, str]:
    with psycopg.connect(url) as conn:
        return dict(conn.execute("SELECT key, value FROM meta").fetchall())


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        GroupCommit(f"postgresql://someone:secret@/mail?host={tmp_path}", "a")
    assert caught.value.code == "storage_unavailable"
    assert "cannot reach the PostgreSQL database mail on" in caught.value.message
    assert "\n" not in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("kill", [sample.kill_the_server, sample.kill_the_server_together])
def test_a_server_killed_inside_a_group_leaves_nothing_of_it(
    postgres_cluster: Cluster, postgres_url: str, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch, kill: Any
) -> None:
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.0)
    put = sample.put_together if kill is sample.kill_the_server_together else sample.put
    outcomes = _run(commits, (put, "before"), (kill, str(postgres_cluster.data)), (put, "after"))
    assert [type(outcome.error) for outcome in outcomes] == [Unavailable] * 3
    (refused,) = _run(commits, (put, "meanwhile"))
    assert isinstance(refused.error, Unavailable)
    postgres_cluster.stop()
    postgres_cluster.start()
    (done,) = _run(commits, (put, "back"))
    assert done.error is None, "it works again by itself"
    assert _keys(postgres_url).keys() & {"before", "after", "meanwhile", "back"} == {"back"}


def test_a_restart_between_two_groups_is_not_noticed(
    postgres_cluster: Cluster, postgres_url: str, commits: GroupCommit
) -> None:
    assert _run(commits, (sample.put, "first"))[0].error is None
    postgres_cluster.stop()
    postgres_cluster.start()
    assert _run(commits, (sample.put, "second"))[0].error is None
    assert {"first", "second"} <= _keys(postgres_url).keys()


def test_while_it_is_away_callers_wait_for_no_second_try(
    postgres_cluster: Cluster, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_SECONDS", 3600.0)
    postgres_cluster.stop()
    assert isinstance(_run(commits, (sample.put, "a"))[0].error, Unavailable)
    postgres_cluster.start()
    assert isinstance(_run(commits, (sample.put, "b"))[0].error, Unavailable)
    monkeypatch.setattr(commits, "_away_until", 0.0)
    assert _run(commits, (sample.put, "c"))[0].error is None


def test_a_lost_connection_before_commit_is_tried_once_more(postgres_url: str, commits: GroupCommit) -> None:
    (outcome,) = _run(commits, (sample.lose_the_connection, "lost"))
    assert isinstance(outcome.error, Unavailable)
    assert "lost" not in _keys(postgres_url)
    assert _run(commits, (sample.put, "after"))[0].error is None


def test_a_commit_of_unknown_outcome_is_a_failure(postgres_url: str, commits: GroupCommit) -> None:
    assert _run(commits, (sample.lose_it_at_commit,))[0].error is None
    outcomes = _run(commits, (sample.put, "a"), (sample.put, "b"))
    assert [type(outcome.error) for outcome in outcomes] == [Unavailable] * 2
    assert not {"a", "b"} & _keys(postgres_url).keys()


def test_a_failing_function_is_rolled_back_alone(postgres_url: str, commits: GroupCommit) -> None:
    outcomes = _run(
        commits,
        (sample.put_together, "a"),
        (plain.put_and_fail, "no"),
        (sample.put_together, "no number", None),
        (sample.put_together, "b"),
        (plain.put, "c"),
    )
    assert [outcome.value for outcome in outcomes] == ["a", None, None, "b", "c"]
    assert isinstance(outcomes[1].error, Conflict)
    assert isinstance(outcomes[2].error, TypeError)
    assert {"a", "b", "c"} <= _keys(postgres_url).keys()
    assert not {"no", "no number"} & _keys(postgres_url).keys()


def test_a_deadlock_is_solved(postgres_url: str, commits: GroupCommit, other: GroupCommit) -> None:
    sample.meeting.reset()
    _run(commits, (sample.put, "a", ""), (sample.put, "b", ""))
    outcomes: list[Outcome] = []
    _both(
        lambda: outcomes.extend(_run(commits, (sample.cross, "a", "b"))),
        lambda: outcomes.extend(_run(other, (sample.cross, "b", "a"))),
    )
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert {key: value for key, value in _keys(postgres_url).items() if key in "ab"} == {"a": "xx", "b": "xx"}
    assert sample.meeting.broken, "they met"


def test_no_change_is_lost_between_two_nodes(postgres_url: str, commits: GroupCommit, other: GroupCommit) -> None:
    _run(commits, (sample.put, "number"))
    failed: list[BaseException] = []

    def work(mine: GroupCommit) -> None:
        for _ in range(40):
            outcomes = _run(mine, (sample.count, "number"), (sample.count, "number"))
            failed.extend(outcome.error for outcome in outcomes if outcome.error is not None)

    _both(lambda: work(commits), lambda: work(other))
    assert all(isinstance(error, Unavailable) and error.code == "storage_busy" for error in failed)
    assert int(_keys(postgres_url)["number"]) == 160 - len(failed)
    assert len(failed) < 40


def test_one_of_two_nodes_enqueues_and_neither_fails(
    postgres_url: str, commits: GroupCommit, other: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIES", 2 * module.TRIES)  # so many times in a row nobody is in the way by chance
    outcomes: list[Outcome] = []

    def work(mine: GroupCommit) -> None:
        for number in range(30):
            call = Call(jobs.enqueue, (None, "test", {}), {"now": NOW, "unique_key": f"k{number}"})
            outcomes.extend(mine.run([call]))

    _both(lambda: work(commits), lambda: work(other))
    assert [outcome.error for outcome in outcomes if outcome.error is not None] == []
    assert sum(outcome.value is not None for outcome in outcomes) == 30


def test_a_nul_is_refused(postgres_url: str, commits: GroupCommit) -> None:
    outcomes = _run(commits, (sample.put, "a\0b"), (sample.put, "fine"))
    assert isinstance(outcomes[0].error, Invalid)
    assert outcomes[1].error is None


def test_a_full_disk_is_told_and_over_when_there_is_room(postgres_url: str, commits: GroupCommit) -> None:
    assert _run(commits, (sample.fill_the_disk,))[0].error is None
    for put in (sample.put, sample.put_together):
        outcomes = _run(commits, (put, "a"), (put, "b"))
        assert [getattr(outcome.error, "code", None) for outcome in outcomes] == ["storage_full"] * 2
    with psycopg.connect(postgres_url) as conn:
        conn.execute("DROP TRIGGER full_disk ON meta")
    assert _run(commits, (sample.put, "a"))[0].error is None


def test_nodes_that_start_together_make_the_schema_once(empty_url: str) -> None:
    found: list[int] = []

    def start() -> None:
        opened = GroupCommit(empty_url, "x")
        found.append(opened.version_before)
        opened.close()

    _both(start, start)
    assert sorted(found) == [0, upgrades.CURRENT]


def test_an_upgrade_runs_once_and_a_failing_one_changes_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def step(conn: Any) -> None:
        ran.append(1)
        conn.exec_driver_sql("CREATE TABLE made_by_upgrade (id bigint)")
        if len(ran) == 1:
            raise Unavailable("half way")

    monkeypatch.setitem(upgrades.UPGRADES, upgrades.CURRENT + 1, step)
    monkeypatch.setattr(upgrades, "CURRENT", upgrades.CURRENT + 1)
    with pytest.raises(Unavailable, match="half way"):
        GroupCommit(postgres_url, "x")
    for before in (upgrades.CURRENT - 1, upgrades.CURRENT):
        opened = GroupCommit(postgres_url, "x")
        assert opened.version_before == before
        opened.close()
    assert len(ran) == 2


def test_a_newer_schema_is_refused(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as conn:
        conn.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(Conflict, match="newer"):
        GroupCommit(postgres_url, "x")


def test_a_database_of_another_encoding_is_refused(postgres_cluster: Cluster) -> None:
    with postgres_cluster.connect() as conn:
        conn.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with pytest.raises(Unavailable, match="UTF8"):
        GroupCommit(postgres_cluster.url("latin"), "x")
    postgres_cluster.drop_database("latin")


async def test_readers_come_back_by_themselves(postgres_cluster: Cluster, postgres_url: str) -> None:
    readers = Readers(postgres_url)
    assert "schema_version" in await readers.run(plain.keys, (), {})
    postgres_cluster.stop()
    with pytest.raises(Unavailable):
        await readers.run(plain.keys, (), {})
    postgres_cluster.start()
    assert "schema_version" in await readers.run(plain.keys, (), {})
    readers.close()


async def test_a_wrong_query_is_its_callers_alone(postgres_url: str) -> None:
    readers = Readers(postgres_url)
    asked = [plain.keys, plain.write_in_read, plain.nothing, plain.keys]
    running = [readers.run(fn, (), {}) for fn in asked]
    answers: list[Any] = await asyncio.gather(*running, return_exceptions=True)
    assert "schema_version" in answers[0]
    assert isinstance(answers[1], Exception)
    assert answers[2] is None
    assert "schema_version" in answers[3]
    readers.close()
