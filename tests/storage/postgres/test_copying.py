"""Backups between engines: what was on one is whole on the other."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert, select, text

from restante.core import mailboxes, messages
from restante.errors import Conflict, Unavailable
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.services import provisioning, storing
from restante.storage import engine
from restante.storage.engine import Place
from restante.storage.postgres import copying
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from tests.storage.postgres.conftest import make_runtime


def _everything(conn: ReadConn) -> dict[str, list[Any]]:
    found = {}
    for table in copying.COPIED:
        keys = list(table.primary_key.columns)
        found[table.name] = [tuple(row) for row in conn.execute(select(table).order_by(*keys))]
    return found


async def _fill(data_dir: Path, url: str) -> dict[str, list[Any]]:
    async with make_runtime(data_dir, url) as rt:
        await provisioning.first_run(rt)
        mailbox = await provisioning.add_mailbox(rt, "ålice@exämple.test", name="Ålice — 日本")
        for number in range(7):
            raw = f"Subject: Grüße {number}\r\n\r\nбольше\r\n".encode()
            await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", raw)
        first = await rt.db.read(_first_message)
        await rt.db.write(messages.remove, mailbox.account_id, mailbox.id, [first], now=rt.clock.now())
        return await rt.db.read(_everything)


def _first_message(conn: ReadConn) -> Any:
    return conn.execute(select(tables.messages.c.id).order_by(tables.messages.c.id).limit(1)).scalar_one()


def _copy(place: Place, target: Path) -> None:
    commits = engine.open_commits(place)
    done, total = 0, 1
    while done != total:
        outcome = commits.snapshot(target, 3)
        assert outcome.error is None
        done, total = outcome.value
    commits.close()


@pytest.mark.parametrize("source", ["sqlite", "postgres"])
async def test_rows_and_numbers_come_over(tmp_path: Path, postgres_url: str, empty_url: str, source: str) -> None:
    url = postgres_url if source == "postgres" else ""
    (tmp_path / "old").mkdir()
    before = await _fill(tmp_path / "old", url)
    _copy(Place(tmp_path / "old", url), tmp_path / "copy.db")
    copying.load(tmp_path / "copy.db", empty_url)
    (tmp_path / "new").mkdir()
    async with make_runtime(tmp_path / "new", empty_url) as rt:
        assert await rt.db.read(_everything) == before
        assert await rt.db.read(_queued) == 6, "all messages are indexed anew"
        mailbox = (await rt.db.read(mailboxes.targets, "ålice@exämple.test"))[0]
        stored = await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", b"Subject: next\r\n\r\nx\r\n")
        assert stored.message_id == 8, "no number is given out twice"
        assert stored.uid == 8


def _queued(conn: ReadConn) -> int:
    return len(conn.execute(select(tables.index_queue)).all())


async def test_a_copy_of_postgresql_opens_as_sqlite(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    before = await _fill(tmp_path / "old", postgres_url)
    _copy(Place(tmp_path / "old", postgres_url), tmp_path / "new" / "restante.db")
    async with make_runtime(tmp_path / "new", "") as rt:
        assert await rt.db.read(_everything) == before
        assert await rt.db.read(_queued) == 6, "all messages are indexed anew"


async def test_a_database_with_data_is_left_alone(tmp_path: Path, postgres_url: str, empty_url: str) -> None:
    (tmp_path / "old").mkdir()
    await _fill(tmp_path / "old", postgres_url)
    _copy(Place(tmp_path / "old", postgres_url), tmp_path / "copy.db")
    copying.load(tmp_path / "copy.db", empty_url)
    with psycopg.connect(empty_url) as conn:
        before = conn.execute("SELECT count(*), max(event_number) FROM accounts").fetchone()
    with pytest.raises(Conflict, match="not empty"):
        copying.load(tmp_path / "copy.db", empty_url)
    with psycopg.connect(empty_url) as conn:
        assert conn.execute("SELECT count(*), max(event_number) FROM accounts").fetchone() == before


async def test_a_nul_of_old_rows_is_left_behind(tmp_path: Path, empty_url: str) -> None:
    (tmp_path / "old").mkdir()
    db = InProcessDatabase(tmp_path / "old", Signals())
    await db.write(_put_nul)
    await db.close()
    _copy(Place(tmp_path / "old"), tmp_path / "copy.db")
    copying.load(tmp_path / "copy.db", empty_url)
    with psycopg.connect(empty_url) as conn:
        assert conn.execute("SELECT value FROM meta WHERE key = 'odd'").fetchone() == ("ab",)


def _put_nul(conn: WriteConn) -> None:
    conn.execute(insert(tables.meta).values(key="odd", value="a\0b"))


async def test_half_a_load_is_nothing(tmp_path: Path, empty_url: str) -> None:
    (tmp_path / "old").mkdir()
    await _fill(tmp_path / "old", "")
    _copy(Place(tmp_path / "old"), tmp_path / "copy.db")
    db = InProcessDatabase(tmp_path, Signals(), empty_url)
    await db.write(_forbid_messages)
    await db.close()
    with pytest.raises(Unavailable, match="no messages here"):
        copying.load(tmp_path / "copy.db", empty_url)
    with psycopg.connect(empty_url) as conn:
        assert conn.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def _forbid_messages(conn: WriteConn) -> None:
    conn.execute(
        text("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no messages here'; END$$")
    )
    conn.execute(text("CREATE TRIGGER no BEFORE INSERT ON messages EXECUTE FUNCTION no()"))
