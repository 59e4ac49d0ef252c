"""All forms of the writer, near and behind links: groups, failures, signals, death."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from restante.errors import Conflict, Unavailable
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.storage import links, sqlite, writer
from restante.storage.database import Call
from restante.storage.engine import Place
from restante.storage.links import GuestLink, LinkedDatabase
from restante.storage.postgres import connection
from restante.storage.relay import Relay
from restante.storage.signals import Signals
from restante.storage.sqlite import GroupCommit
from restante.storage.writer import DirectoryLock, InProcessDatabase
from tests.storage import sample

AnyDatabase = LinkedDatabase | InProcessDatabase


@pytest.fixture
def signals() -> Signals:
    return Signals()


@contextlib.asynccontextmanager
async def relayed(place: Place, signals: Signals) -> AsyncIterator[tuple[LinkedDatabase, GuestLink, Relay]]:
    """A database behind a link to another one, whose signals it gets."""
    near = Signals()
    db = InProcessDatabase(place.data_dir, near, place.url)
    ours, theirs = links.pair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_unix_connection(lambda: Relay(db, place), sock=ours)
    _, link = await loop.create_unix_connection(lambda: GuestLink(signals), sock=theirs)
    near.on_any(relay.tell)
    opened = LinkedDatabase(await link.ready, link)
    yield opened, link, relay
    await opened.close()
    await asyncio.wait_for(relay.closed, 60)
    await asyncio.wait_for(link.closed, 60)
    await db.close()


@pytest.fixture(params=["process", "in process", "relayed"])
async def db(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, signals: Signals
) -> AsyncIterator[AnyDatabase]:
    opened: AnyDatabase
    if request.param == "relayed":
        async with relayed(Place(tmp_path, database_url), signals) as (linked, _, _):
            yield linked
        return
    if request.param == "process":
        opened = await writer.connect(signals, writer.spawn(tmp_path, database_url))
    else:
        opened = InProcessDatabase(tmp_path, signals, database_url)
    yield opened
    await opened.close()


async def test_what_was_written_can_be_read(db: AnyDatabase) -> None:
    assert await db.write(sample.put, "a") == "a"
    assert "a" in await db.read(sample.keys)
    assert await db.read(sample.nothing) is None


async def test_a_failing_function_is_rolled_back_alone(db: AnyDatabase) -> None:
    results = await asyncio.gather(
        *[db.write(sample.put_and_fail if n % 3 == 0 else sample.put, f"k{n}") for n in range(60)],
        return_exceptions=True,
    )
    for number, result in enumerate(results):
        if number % 3:
            assert result == f"k{number}"
        else:
            assert isinstance(result, Conflict)
            assert result.details == {"key": f"k{number}"}
    assert {key for key in await db.read(sample.keys) if key.startswith("k")} == {f"k{n}" for n in range(60) if n % 3}


def test_a_group_with_a_failure_in_it_is_run_one_by_one(tmp_path: Path) -> None:
    commits = GroupCommit(sqlite.main_path(tmp_path))
    calls = [
        Call(sample.put_and_touch, ("before", 7), {}),
        Call(sample.touch_and_fail, (5,), {}),
        Call(sample.put_and_touch, ("before", 6), {}),  # the key is there
        Call(sample.put_and_touch, ("behind", 8), {}),
    ]
    outcomes = commits.run(calls)
    assert [outcome.touched for outcome in outcomes] == [(7,), (), (), (8,)]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), Conflict, IntegrityError, type(None)]
    (again,) = commits.run([Call(sample.keys, (), {})])
    assert {"before", "behind"} <= again.value
    commits.close()


async def test_a_bug_is_an_error_of_its_caller_only(db: AnyDatabase) -> None:
    with pytest.raises((ZeroDivisionError, RuntimeError), match="a bug"):
        await db.write(sample.bug)
    await db.write(sample.put, "after")
    assert "after" in await db.read(sample.keys)


async def test_signals_come_after_the_commit_and_only_for_what_was_committed(db: AnyDatabase, signals: Signals) -> None:
    seen: list[frozenset[int]] = []
    signals.on_any(seen.append)
    with pytest.raises(Conflict):
        await db.write(sample.touch_and_fail, 5)
    with signals.subscribe(7) as changes:
        await db.write(sample.put_and_touch, "t", 7)
        await asyncio.wait_for(changes.wait(), 60)
    assert seen == [frozenset({7})]


async def test_readers_cannot_write(db: AnyDatabase) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"):
        await db.read(sample.write_in_read)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No read may take long: to stand before ``db``, whose readers know it."""
    monkeypatch.setattr(sqlite, "READ_SECONDS", 0.5)
    monkeypatch.setattr(connection, "READ_MILLISECONDS", 500)


async def test_a_read_that_takes_too_long_is_stopped(hasty: None, db: AnyDatabase) -> None:
    with pytest.raises(Unavailable) as caught:
        await db.read(sample.endless)
    found: set[str] = set()
    while caught.value.code == "too_slow" and not found:
        with contextlib.suppress(Unavailable):  # the machine may be slow as well
            found = await db.read(sample.keys)
    assert "schema_version" in found


async def test_space_can_be_reclaimed(db: AnyDatabase) -> None:
    await db.reclaim(10)
    await db.write(sample.put, "after")


async def test_a_guest_that_is_asked_to_end_may_still_write(tmp_path: Path, signals: Signals) -> None:
    async with relayed(Place(tmp_path), signals) as (db, link, relay):
        await db.write(sample.put, "before")
        assert not link.ended.done()
        relay.end()
        await asyncio.wait_for(link.ended, 60)
        await db.write(sample.put, "after")
        assert {"before", "after"} <= await db.read(sample.keys)


async def test_a_result_that_cannot_travel_is_an_error(tmp_path: Path, signals: Signals) -> None:
    db = await writer.connect(signals, writer.spawn(tmp_path))
    with pytest.raises(RuntimeError, match="unpicklable"):
        await db.write(sample.unpicklable)
    await db.write(sample.put, "after")
    await db.close()


async def test_a_dead_writer_fails_what_waits_and_is_noticed(tmp_path: Path, signals: Signals) -> None:
    db = await writer.connect(signals, writer.spawn(tmp_path))
    await db.write(sample.put, "kept")
    with pytest.raises(Unavailable):
        await db.write(sample.die, "lost")
    await asyncio.wait_for(db.died(), 60)
    with pytest.raises(Unavailable):
        await db.write(sample.put, "refused")
    await db.close()
    again = await writer.connect(signals, writer.spawn(tmp_path))
    assert {"kept"} == {"kept", "lost", "refused"} & await again.read(sample.keys)
    await again.close()


async def test_the_writer_finishes_and_ends_when_its_front_is_gone(tmp_path: Path, signals: Signals) -> None:
    spawned = writer.spawn(tmp_path)
    db = await writer.connect(signals, spawned)
    await db.write(sample.put, "kept")
    await db.close()
    assert spawned.process.wait(60) == 0


async def test_a_second_writer_is_kept_out(tmp_path: Path, signals: Signals) -> None:
    first = await writer.connect(signals, writer.spawn(tmp_path))
    with pytest.raises(Conflict) as caught:
        InProcessDatabase(tmp_path, signals, lock_seconds=0)
    assert caught.value.code == "data_dir_in_use"
    await first.close()
    await InProcessDatabase(tmp_path, signals).close()


async def test_a_newer_schema_is_refused(tmp_path: Path, signals: Signals) -> None:
    db = InProcessDatabase(tmp_path, signals)
    await db.close()
    import apsw

    connection = apsw.Connection(str(sqlite.main_path(tmp_path)))
    connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(Conflict, match="newer"):
        await writer.connect(signals, writer.spawn(tmp_path))


async def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, signals: Signals) -> None:
    (tmp_path / "restante.db").mkdir()
    with pytest.raises(Unavailable, match="cannot open"):
        await writer.connect(signals, writer.spawn(tmp_path))


async def test_the_wal_stays_bounded(tmp_path: Path, signals: Signals) -> None:
    db = InProcessDatabase(tmp_path, signals)
    pages = 0
    for number in range(40):
        await db.write(sample.put, f"big{number}", "x" * 4_000_000)
        pages += 4_000_000 // sqlite.PAGE_BYTES
    wal = tmp_path / "restante.db-wal"
    assert pages > 2 * sqlite.WAL_PAGES
    assert wal.stat().st_size <= 1.2 * sqlite.WAL_PAGES * sqlite.PAGE_BYTES
    await db.close()


def test_signal_handling_of_the_writer_is_the_fronts_business(tmp_path: Path) -> None:
    process, ours, _ = writer.spawn(tmp_path)
    assert ours.gettimeout() == 0.0
    ours.setblocking(True)
    ours.recv(100)  # READY
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    assert process.poll() is None
    ours.close()
    assert process.wait(60) == 0


def _damage(path: Path, first: int) -> None:
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"\xa5" * (path.stat().st_size - first))


async def test_damage_is_told_in_words(tmp_path: Path, signals: Signals) -> None:
    db = InProcessDatabase(tmp_path, signals)
    await db.close()  # the log goes into the file
    db = InProcessDatabase(tmp_path, signals)
    _damage(sqlite.main_path(tmp_path), 30 * 4096)
    with pytest.raises(Unavailable) as caught:
        await db.read(_everything)
    await db.close()
    assert caught.value.code == "storage_damaged"


def _everything(conn: ReadConn) -> int:
    return len([conn.execute(select(table)).all() for table in tables.metadata.sorted_tables])


async def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path, signals: Signals) -> None:
    sqlite.main_path(tmp_path).write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        InProcessDatabase(tmp_path, signals)
    DirectoryLock(tmp_path).release()
