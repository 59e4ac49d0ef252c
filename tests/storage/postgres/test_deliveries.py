"""Deliveries that run as one: what is stored is what SQLite stores of the same calls, one by one."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.core import delivery, mailboxes
from restante.errors import Invalid, NotFound
from restante.storage import engine
from restante.storage.database import Commits, Outcome
from restante.storage.engine import Place
from tests.storage.deliveries import NOW, TABLES, World, answers, deliver, make_calls, make_world, rows, value


def test_a_group_stores_what_single_calls_store(tmp_path: Path, postgres_url: str) -> None:
    sqlite, postgres = engine.open_commits(Place(tmp_path)), engine.open_commits(Place(tmp_path, postgres_url))
    world: World = value(sqlite, make_world)
    assert value(postgres, make_world) == world
    one_by_one = [outcome for call in make_calls(world) for outcome in sqlite.run([call])]
    together = postgres.run(make_calls(world))
    assert answers(together) == answers(one_by_one)
    assert {account for outcome in together for account in outcome.touched} == {account for account, _ in world}
    for table in TABLES:
        assert value(postgres, rows, table.name) == value(sqlite, rows, table.name), table.name
    sqlite.close()
    postgres.close()


@pytest.fixture
def store(tmp_path: Path, postgres_url: str) -> Iterator[tuple[Commits, World]]:
    opened = engine.open_commits(Place(tmp_path, postgres_url))
    yield opened, value(opened, make_world)
    opened.close()


def test_groups_are_really_run_as_one(store: tuple[Commits, World], monkeypatch: pytest.MonkeyPatch) -> None:
    commits, world = store
    monkeypatch.setattr(delivery, "deliver", None)
    answers(commits.run(make_calls(world)))


@pytest.mark.parametrize(
    ("target", "subject", "code"),
    [
        ((0, "No such"), "", "folder_not_found"),
        ((1, "INBOX"), "", "mailbox_not_found"),
        ((0, "INBOX"), "a\0b", "invalid_text"),
    ],
)
def test_what_fails_fails_alone(store: tuple[Commits, World], target: tuple[int, str], subject: str, code: str) -> None:
    commits, world = store
    if code == "mailbox_not_found":
        value(commits, mailboxes.remove, *world[1], NOW)
    calls = [
        deliver(world, 1, (0, "INBOX")),
        deliver(world, 2, target, subject=subject),
        deliver(world, 3, (0, "INBOX")),
    ]
    outcomes = commits.run(calls)
    assert isinstance(outcomes[1].error, NotFound | Invalid)
    assert outcomes[1].error.code == code
    assert [uid for ((*_, uid, _),) in answers([outcomes[0], outcomes[2]])] == [1, 2]
    assert [row["uses"] for row in value(commits, rows, "contents")] == [1, 1]


def test_two_nodes_deliver_into_the_same_folders(
    store: tuple[Commits, World], tmp_path: Path, postgres_url: str
) -> None:
    commits, world = store
    other = engine.open_commits(Place(tmp_path, postgres_url))
    outcomes: list[list[Outcome]] = [[], []]

    def work(number: int, node: Commits) -> None:
        for _ in range(10):
            calls = make_calls(world)
            outcomes[number] += node.run(calls if number else calls[::-1])

    threads = [threading.Thread(target=work, args=(number, node)) for number, node in enumerate((commits, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    answers([*outcomes[0], *outcomes[1]])
    inbox = [row for row in value(commits, rows, "messages") if row["mailbox_id"] == world[0][1] and row["flags"] == 0]
    assert sorted(row["uid"] for row in inbox) == list(range(1, 61))
    events = [row["number"] for row in value(commits, rows, "events") if row["account_id"] == world[0][0]]
    assert events == list(range(1, len(events) + 1))
    other.close()
