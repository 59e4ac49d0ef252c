"""Deliveries that SQLite runs as one: what is stored is what it stores of the same calls, one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from restante.core import delivery, mailboxes
from restante.errors import NotFound
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.storage import engine
from restante.storage.database import Call, Commits
from restante.storage.engine import Place
from tests.storage.deliveries import NOW, TABLES, World, answers, deliver, make_calls, make_world, rows, value


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Commits, World]]:
    opened = engine.open_commits(Place(tmp_path))
    yield opened, value(opened, make_world)
    opened.close()


def test_a_group_stores_what_single_calls_store(store: tuple[Commits, World], tmp_path: Path) -> None:
    together, world = store
    (tmp_path / "other").mkdir()
    alone = engine.open_commits(Place(tmp_path / "other"))
    assert value(alone, make_world) == world
    one_by_one = [outcome for call in make_calls(world) for outcome in alone.run([call])]
    group = together.run(make_calls(world))
    assert answers(group) == answers(one_by_one)
    assert {account for outcome in group for account in outcome.touched} == {account for account, _ in world}
    for table in TABLES:
        assert value(together, rows, table.name) == value(alone, rows, table.name), table.name
    alone.close()


def test_groups_are_really_run_as_one(store: tuple[Commits, World], monkeypatch: pytest.MonkeyPatch) -> None:
    commits, world = store
    monkeypatch.setattr(delivery, "deliver", None)
    answers(commits.run(make_calls(world)))


def test_no_id_comes_twice(store: tuple[Commits, World]) -> None:
    commits, world = store
    before = commits.run(make_calls(world))

    def lose_the_newest(conn: WriteConn) -> None:
        for table in (tables.messages, tables.contents):
            conn.execute(delete(table).where(table.c.id > 3))

    value(commits, lose_the_newest)
    seen = {message_id for answer in answers(before) for message_id, *_ in answer}
    told = {one[0]: one[2:] for answer in answers(commits.run(make_calls(world))) for one in answer}
    assert not seen & told.keys()
    stored = [row for row in value(commits, rows, "messages") if row["id"] not in seen]
    assert {row["id"]: (row["folder_id"], row["uid"], row["modseq"]) for row in stored} == told
    made = {row["id"]: row["size_bytes"] for row in value(commits, rows, "contents")}
    assert all(row["size_bytes"] == made[row["content_id"]] + len(row["trace"]) for row in stored)


@pytest.mark.parametrize(
    ("target", "code"), [((0, "No such"), "folder_not_found"), ((1, "INBOX"), "mailbox_not_found")]
)
def test_what_fails_fails_alone(store: tuple[Commits, World], target: tuple[int, str], code: str) -> None:
    commits, world = store
    value(commits, mailboxes.remove, *world[1], NOW)
    before = value(commits, rows, "events")
    outcomes = commits.run(
        [deliver(world, 1, (0, "INBOX")), deliver(world, 2, target), deliver(world, 3, (0, "INBOX"))]
    )
    assert isinstance(outcomes[1].error, NotFound)
    assert outcomes[1].error.code == code
    assert outcomes[1].touched == ()
    assert [uid for ((*_, uid, _),) in answers([outcomes[0], outcomes[2]])] == [1, 2]
    assert [row["uses"] for row in value(commits, rows, "contents")] == [1, 1]
    assert len(value(commits, rows, "events")) == len(before) + 2


def test_what_stands_between_deliveries_keeps_its_place(store: tuple[Commits, World]) -> None:
    commits, world = store
    calls = [
        deliver(world, 1, (0, "INBOX")),
        deliver(world, 2, (0, "INBOX")),
        Call(rows, ("messages",), {}),
        deliver(world, 3, (0, "INBOX")),
    ]
    outcomes = commits.run(calls)
    assert [row["uid"] for row in outcomes[2].value] == [1, 2]
    assert [uid for ((*_, uid, _),) in answers([outcomes[0], outcomes[1], outcomes[3]])] == [1, 2, 3]
