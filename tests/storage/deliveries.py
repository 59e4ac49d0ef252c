"""Groups of deliveries, and what they leave in a store, for the tests of the engines."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, select

from restante.core import accounts, deliveries, domains, folders, mailboxes
from restante.core.contents import NewContent
from restante.core.delivery import Summary, Target
from restante.core.messages import Flag
from restante.ids import AccountId, MailboxId
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.storage.database import Call, Commits, Outcome

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


def deliver(world: World, number: int, *to: tuple[int, str], subject: str = "") -> Call:
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


def make_calls(world: World) -> list[Call]:
    """A group of deliveries."""
    return [
        deliver(world, 1, (0, "INBOX")),
        deliver(world, 2, (2, "INBOX")),
        deliver(world, 3, (0, "INBOX"), (1, "INBOX"), (2, "INBOX"), (0, "Work")),
        deliver(world, 4, (0, "Work")),
        deliver(world, 5, (0, "INBOX")),
    ]


def value(commits: Commits, fn: Any, *args: Any) -> Any:
    """What a function returns that is run alone."""
    (outcome,) = commits.run([Call(fn, args, {})])
    assert outcome.error is None, outcome.error
    return outcome.value


def answers(outcomes: list[Outcome]) -> list[list[tuple[Any, ...]]]:
    """Where the messages went, without the ids that every store makes for itself."""
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    found = [deliveries.decode_answer(outcome.value) for outcome in outcomes]
    return [[tuple(part for part in one if part != one.public_id) for one in answer] for answer in found]
