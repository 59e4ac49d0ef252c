"""Deliveries that run as one: what is stored is what SQLite stores of the same calls, one by one."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from restante.core import accounts, deliveries, delivery, domains, folders, mailboxes
from restante.core.contents import NewContent
from restante.core.delivery import Summary, Target
from restante.core.messages import Flag
from restante.errors import Invalid, NotFound
from restante.ids import AccountId, MailboxId
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.storage import engine
from restante.storage.database import Call, Commits, Outcome
from restante.storage.engine import Place

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TABLES = (
    tables.accounts,
    tables.mailboxes,
    tables.folders,
    tables.contents,
    tables.messages,
    tables.events,
    tables.index_queue,
)
OWN = {"public_id", "uid_validity"}  # every store makes its own
World = list[tuple[AccountId, MailboxId]]


def make_world(conn: WriteConn) -> World:
    """Two accounts; the first has two mailboxes, and a folder more."""
    made: World = []
    for name, addresses in (("red", ("ann@red.example", "bob@red.example")), ("blue", ("cid@blue.example",))):
        account_id = accounts.create(conn, name, NOW).id
        domains.add(conn, account_id, f"{name}.example", NOW, dns_status="forced")
        made += [(account_id, mailboxes.create(conn, account_id, address, NOW).id) for address in addresses]
    folders.create(conn, *made[0], "Work", NOW)
    return made


def rows(conn: WriteConn, name: str) -> list[dict[str, Any]]:
    """All rows of a table, without what every store has for itself."""
    table: Table = tables.metadata.tables[name]
    found = conn.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    return [{key: _seen(key, value) for key, value in row.items() if key not in OWN} for row in found]


def _seen(key: str, value: Any) -> Any:
    if key != "body":
        return value
    body = json.loads(value)
    return {name: part for name, part in body.items() if name != "id"}


def _deliver(world: World, number: int, *to: tuple[int, str], subject: str = "") -> Call:
    """A message for some folders of some mailboxes."""
    summary = Summary(
        subject or f"Grüße {number}", "", "a@b.example", "[]", None if number % 2 else "<id@b.example>",
        None if number % 3 else 7, 0, -number, "p", "a@b.example",
    )  # fmt: skip
    targets = [
        Target(*world[box], folder, "to@red.example", b"trace", int(Flag.SEEN) if folder == "Work" else 0, "")
        for box, folder in to
    ]
    content = NewContent(100 + number, bytes([number]) * 32, b"\0s", b"r\0w" * number, None, None)
    parts = [(account, content) for account in dict.fromkeys(target.account_id for target in targets)]
    at = NOW + timedelta(seconds=number)
    return Call(deliveries.deliver_encoded, (deliveries.encode_call(parts, summary, targets, at),), {})


def _calls(world: World) -> list[Call]:
    return [
        _deliver(world, 1, (0, "INBOX")),
        _deliver(world, 2, (2, "INBOX")),
        _deliver(world, 3, (0, "INBOX"), (1, "INBOX"), (2, "INBOX"), (0, "Work")),
        _deliver(world, 4, (0, "Work")),
        _deliver(world, 5, (0, "INBOX")),
    ]


def _value(commits: Commits, fn: Any, *args: Any) -> Any:
    (outcome,) = commits.run([Call(fn, args, {})])
    assert outcome.error is None, outcome.error
    return outcome.value


def _answers(outcomes: list[Outcome]) -> list[list[tuple[Any, ...]]]:
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    found = [deliveries.decode_answer(outcome.value) for outcome in outcomes]
    return [[tuple(part for part in one if part != one.public_id) for one in answer] for answer in found]


def test_a_group_stores_what_single_calls_store(tmp_path: Path, postgres_url: str) -> None:
    sqlite, postgres = engine.open_commits(Place(tmp_path)), engine.open_commits(Place(tmp_path, postgres_url))
    world: World = _value(sqlite, make_world)
    assert _value(postgres, make_world) == world
    one_by_one = [outcome for call in _calls(world) for outcome in sqlite.run([call])]
    together = postgres.run(_calls(world))
    assert _answers(together) == _answers(one_by_one)
    assert {account for outcome in together for account in outcome.touched} == {account for account, _ in world}
    for table in TABLES:
        assert _value(postgres, rows, table.name) == _value(sqlite, rows, table.name), table.name
    sqlite.close()
    postgres.close()


@pytest.fixture
def store(tmp_path: Path, postgres_url: str) -> Iterator[tuple[Commits, World]]:
    opened = engine.open_commits(Place(tmp_path, postgres_url))
    yield opened, _value(opened, make_world)
    opened.close()


def test_groups_are_really_run_as_one(store: tuple[Commits, World], monkeypatch: pytest.MonkeyPatch) -> None:
    commits, world = store
    monkeypatch.setattr(delivery, "deliver", None)
    _answers(commits.run(_calls(world)))


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
        _value(commits, mailboxes.remove, *world[1], NOW)
    calls = [
        _deliver(world, 1, (0, "INBOX")),
        _deliver(world, 2, target, subject=subject),
        _deliver(world, 3, (0, "INBOX")),
    ]
    outcomes = commits.run(calls)
    assert isinstance(outcomes[1].error, NotFound | Invalid)
    assert outcomes[1].error.code == code
    assert [uid for ((*_, uid, _),) in _answers([outcomes[0], outcomes[2]])] == [1, 2]
    assert [row["uses"] for row in _value(commits, rows, "contents")] == [1, 1]


def test_two_nodes_deliver_into_the_same_folders(
    store: tuple[Commits, World], tmp_path: Path, postgres_url: str
) -> None:
    commits, world = store
    other = engine.open_commits(Place(tmp_path, postgres_url))
    outcomes: list[list[Outcome]] = [[], []]

    def work(number: int, node: Commits) -> None:
        for _ in range(10):
            calls = _calls(world)
            outcomes[number] += node.run(calls if number else calls[::-1])

    threads = [threading.Thread(target=work, args=(number, node)) for number, node in enumerate((commits, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    _answers([*outcomes[0], *outcomes[1]])
    inbox = [row for row in _value(commits, rows, "messages") if row["mailbox_id"] == world[0][1] and row["flags"] == 0]
    assert sorted(row["uid"] for row in inbox) == list(range(1, 61))
    events = [row["number"] for row in _value(commits, rows, "events") if row["account_id"] == world[0][0]]
    assert events == list(range(1, len(events) + 1))
    other.close()
