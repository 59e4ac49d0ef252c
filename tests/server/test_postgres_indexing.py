"""The index of a PostgreSQL store: its process beside a server, and what ``verify`` makes of damage to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from restante.core import indexing, search
from restante.core.mailboxes import Mailbox
from restante.runtime import Runtime
from restante.server import indexing as server_indexing
from restante.server.indexing import IndexerProcess
from restante.services import verification
from restante.storage import engine
from restante.storage.engine import Place
from tests.makers import catch_up_index, eml, make_mailbox, make_message


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """This module is about PostgreSQL, whatever the run is about."""
    return postgres_url


@pytest.fixture
async def process(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexerProcess]:
    monkeypatch.setattr(server_indexing, "RESTART_SECONDS", 0.0)
    place = Place(rt.config.data_dir, rt.config.storage.database_url)
    running = IndexerProcess(engine.index_process(place), rt.db, rt.signals)
    await running.start()
    yield running
    await running.close()


async def _indexed(rt: Runtime) -> None:
    async with asyncio.timeout(60):
        while await rt.db.read(indexing.count_queued):
            pass


async def _subjects(rt: Runtime, mailbox: Mailbox, text: str) -> list[str]:
    found = await rt.db.read(search.search, mailbox.account_id, mailbox.id, text, folder_id=None, limit=10)
    return [hit.row.subject for hit in found.items]


async def test_the_process_follows_and_is_started_again(rt: Runtime, process: IndexerProcess) -> None:
    mailbox = await make_mailbox(rt)
    await make_message(rt, mailbox, eml("first"))
    await _indexed(rt)
    assert await _subjects(rt, mailbox, "irst") == ["first"]
    before = process.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await make_message(rt, mailbox, eml("second"))
    await _indexed(rt)
    assert await _subjects(rt, mailbox, "secon") == ["second"]
    assert process.pid != before


async def test_the_address_is_in_no_command_line(rt: Runtime) -> None:
    place = Place(rt.config.data_dir, "postgresql://user:secret@host/name")
    assert "secret" not in " ".join(engine.index_process(place).arguments)


async def _verify(rt: Runtime, repair: bool = False) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async for item in verification.verify(rt, repair):
        last = item
    return last


async def test_verify_finds_and_repairs(rt: Runtime, database_url: str) -> None:
    mailbox = await make_mailbox(rt)
    stored = [await make_message(rt, mailbox, eml(f"number {n}")) for n in range(3)]
    catch_up_index(rt)
    assert (await _verify(rt))["problems"] == []
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM search_documents WHERE message_id = %s", (stored[0].message_id,))
        conn.execute("UPDATE search_documents SET message_id = 777 WHERE message_id = %s", (stored[1].message_id,))
    kinds = ["index_extra", "index_missing", "index_missing"]
    assert sorted(one["kind"] for one in (await _verify(rt))["problems"]) == kinds
    repaired = await _verify(rt, repair=True)
    assert (repaired["ok"], repaired["repaired_count"]) == (True, 3)
    catch_up_index(rt)
    assert (await _verify(rt))["problems"] == []
    assert len(await _subjects(rt, mailbox, "number")) == 3
