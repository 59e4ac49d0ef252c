"""Recipients that are asked for together get the answers that each gets alone."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restante.core import accounts, domains, mailboxes, routing
from restante.errors import RestanteError
from restante.schema.connections import ReadConn, WriteConn, find_together
from restante.storage import engine
from restante.storage.database import Call
from restante.storage.engine import Place
from restante.storage.postgres.readers import Readers

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ASKED = (
    "ann@red.example", "Ann@RED.example", "ann+tag@red.example", "both@red.example", "nobody@red.example",
    "full@red.example", "anyone@all.example", "ann@blue.example", "a@waits.example", "a@elsewhere.example",
    "postmaster@red.example", "a@grey.example", "no address", "ann@red.example", "a\0b@red.example",
)  # fmt: skip


def make_world(conn: WriteConn) -> None:
    red, blue = (accounts.create(conn, name, NOW).id for name in ("red", "blue"))
    for name in ("red.example", "all.example"):
        domain_id = domains.add(conn, red, name, NOW, dns_status="forced").id
    domains.add(conn, blue, "blue.example", NOW, dns_status="forced")
    domains.add(conn, blue, "waits.example", NOW)
    suspended = accounts.create(conn, "grey", NOW).id
    domains.add(conn, suspended, "grey.example", NOW, dns_status="forced")
    accounts.suspend(conn, suspended, NOW)
    made = [mailboxes.create(conn, red, f"{name}@red.example", NOW, role="admin").id for name in ("ann", "bob", "full")]
    mailboxes.set_quota(conn, red, made[2], 1, NOW)
    for mailbox_id in made[:2]:
        mailboxes.add_alias(conn, red, "both@red.example", mailbox_id, NOW)
    domains.set_catch_all(conn, red, domain_id, made[0], NOW)


def resolve_together(conn: ReadConn, asked: list[tuple[str, int]]) -> list[Any]:
    many = find_together(routing.resolve)
    assert many is not None
    return many(conn, asked)


def _told(answer: Any) -> Any:
    return (type(answer), answer.code, answer.message) if isinstance(answer, RestanteError) else answer


@pytest.fixture
def readers(tmp_path: Path, postgres_url: str) -> Iterator[Readers]:
    commits = engine.open_commits(Place(tmp_path, postgres_url))
    (outcome,) = commits.run([Call(make_world, (), {})])
    assert outcome.error is None
    opened = Readers(postgres_url)
    yield opened
    opened.close()
    commits.close()


async def test_together_as_alone(readers: Readers) -> None:
    async def answer(address: str) -> Any:
        try:
            return await readers.run(routing.resolve, (address, 10), {})
        except RestanteError as error:
            return _told(error)

    alone = [await answer(address) for address in ASKED]
    assert await asyncio.gather(*map(answer, ASKED)) == alone
    many = await readers.run(resolve_together, ([(address, 10) for address in ASKED],), {})
    assert [_told(one) for one in many] == alone
    assert {type(one).__name__ for one in many} > {"tuple", "NotFound", "Forbidden", "QuotaExceeded", "Invalid"}
