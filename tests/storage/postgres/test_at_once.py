"""Reads on the event loop itself: at once where the server is quick, in a thread where it is not."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from restante.errors import Conflict
from restante.schema.connections import ReadConn, single, together
from restante.storage import engine
from restante.storage.engine import Place
from restante.storage.postgres import at_once
from restante.storage.postgres.at_once import AtOnce
from restante.storage.postgres.readers import GROUP_CALLS, Readers
from tests.storage import sample as plain


def pid(conn: ReadConn) -> int:
    return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def slow_pid(conn: ReadConn, seconds: float) -> int:
    conn.execute(text(f"SELECT pg_sleep({seconds})"))
    return pid(conn)


def waiting_pid(conn: ReadConn) -> int:
    """Slow for as long as somebody else holds the lock."""
    conn.execute(text("SELECT pg_advisory_xact_lock(1)"))
    return pid(conn)


def fail(conn: ReadConn) -> None:
    pid(conn)
    raise Conflict("no")


_together: list[int] = []  # how many calls each statement was for


def _numbers(conn: ReadConn, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    _together.append(len(arguments))
    if ("bug",) in arguments:
        raise ValueError("one of them")
    if ("slow",) in arguments:
        slow_pid(conn, 0.2)
    return [Conflict("no") if name == "wrong" else (name, pid(conn)) for (name,) in arguments]


@single
@together(_numbers)
def number(conn: ReadConn, name: str) -> tuple[str, int]:
    """May be asked for several names at once."""
    (found,) = _numbers(conn, [(name,)])
    if isinstance(found, Conflict):
        raise found
    return name, int(found[1])


def thread(conn: ReadConn) -> int:
    return threading.get_ident()


@pytest.fixture
async def readers(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Readers]:
    """With the loop's own connection open, and all the time of the world for it."""
    monkeypatch.setattr(at_once, "ATTEMPT_SECONDS", 30.0)
    engine.open_commits(Place(tmp_path, postgres_url)).close()
    opened = Readers(postgres_url)
    await opened.run(pid, (), {})
    _await_helper(opened)
    yield opened
    opened.close()


def _await_helper(readers: Readers) -> AtOnce:
    """Until the connection is in order again."""
    found = readers._at_once
    assert found._helper is not None
    found._helper.join(30)
    return found


async def _run(readers: Readers, fn: Any, *args: Any) -> Any:
    return await readers.run(fn, args, {})


async def test_what_is_quick_runs_on_the_loop(readers: Readers) -> None:
    own = await _run(readers, pid)
    assert await asyncio.gather(*(_run(readers, pid) for _ in range(5))) == [own] * 5
    assert await _run(readers, thread) == threading.get_ident()


async def test_calls_of_one_turn_run_as_one(readers: Readers) -> None:
    own = await _run(readers, pid)
    _together.clear()
    names = ["a", "wrong", "b", *map(str, range(GROUP_CALLS))]
    found = await asyncio.gather(*(_run(readers, number, name) for name in names), return_exceptions=True)
    assert _together == [GROUP_CALLS, 3]
    assert isinstance(found.pop(1), Conflict)
    assert found == [(name, own) for name in names if name != "wrong"]


async def test_where_calls_cannot_run_as_one_each_runs_alone(readers: Readers) -> None:
    own = await _run(readers, pid)
    _together.clear()
    found = await asyncio.gather(*(_run(readers, number, name) for name in ("a", "bug", "b")), return_exceptions=True)
    assert _together == [3, 1, 1, 1]
    assert isinstance(found.pop(1), ValueError)
    assert found == [("a", own), ("b", own)]


async def test_calls_of_one_turn_go_to_threads_where_the_server_is_slow(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = await _run(readers, pid)
    monkeypatch.setattr(at_once, "ATTEMPT_SECONDS", 0.001)
    found = await asyncio.gather(*(_run(readers, number, name) for name in ("a", "slow", "c")))
    assert [name for name, _ in found] == ["a", "slow", "c"]
    assert own not in [other for _, other in found]


async def test_callers_are_told_when_their_calls_cannot_even_be_tried(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(AtOnce, "run", refuse)
        tried = asyncio.gather(*(_run(readers, number, name) for name in ("a", "b")), return_exceptions=True)
        found = await asyncio.wait_for(tried, 60)
    assert [str(one) for one in found] == ["can't start new thread"] * 2
    assert await _run(readers, number, "c") == ("c", await _run(readers, pid))


async def test_closing_answers_what_was_gathered(readers: Readers) -> None:
    asked = [asyncio.create_task(_run(readers, number, name)) for name in ("a", "b")]
    readers._gathered.clear()
    await asyncio.sleep(0)
    assert readers._gathered
    readers.close()
    assert [name for name, _ in await asyncio.wait_for(asyncio.gather(*asked), 60)] == ["a", "b"]


async def test_errors_are_the_callers(readers: Readers) -> None:
    own = await _run(readers, pid)
    with pytest.raises(Conflict):
        await _run(readers, fail)
    with pytest.raises(Exception, match="read-only"):
        await _run(readers, plain.write_in_read)
    assert await _run(readers, pid) == own, "and the connection is as before"


async def test_what_is_slow_goes_to_a_thread_and_the_loop_goes_on(
    readers: Readers, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = await _run(readers, pid)
    monkeypatch.setattr(at_once, "ATTEMPT_SECONDS", 0.001)
    monkeypatch.setattr(at_once, "PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(at_once, "PAUSE_MAX_SECONDS", 3600.0)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(1)")
        slow = asyncio.create_task(_run(readers, waiting_pid))
        await asyncio.sleep(0)  # the attempt was made; from here on the loop is free
        assert not slow.done()
    assert await slow != own
    _await_helper(readers)
    monkeypatch.setattr(at_once, "ATTEMPT_SECONDS", 30.0)
    assert await _run(readers, pid) == own, "the connection is in order again"
    assert await _run(readers, waiting_pid) != own, "who was slow is not tried again soon"
    readers._at_once._pauses.clear()
    assert await _run(readers, waiting_pid) == own


async def test_a_pause_doubles_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "PAUSE_MAX_SECONDS", 4 * at_once.PAUSE_SECONDS)
    pause, seen = None, []
    for _ in range(4):
        pause = at_once._Pause.after(pause)
        seen.append(pause.seconds / at_once.PAUSE_SECONDS)
    assert seen == [1, 2, 4, 4]


async def test_a_connection_that_was_ended_is_replaced(readers: Readers, postgres_url: str) -> None:
    own = await _run(readers, pid)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (own,))
    assert await _run(readers, pid) != own, "answered by a thread"
    found = _await_helper(readers)
    found._pauses.clear()
    after = await _run(readers, pid)
    assert after != own
    assert await _run(readers, thread) == threading.get_ident()


async def test_closing_waits_for_what_is_being_mended(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "ATTEMPT_SECONDS", 0.0)
    assert await _run(readers, slow_pid, 0.1) > 0
    readers.close()
    assert readers._at_once._conn is None
