"""Large bodies: each has its share of memory or waits, and lies in a file meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import Message

from restante.errors import Unavailable
from restante.http import bodies
from restante.http.bodies import COST, Bodies
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.http.ratelimit import RateLimiter
from restante.runtime import Runtime
from restante.storage.room import Room


class Holder:
    """Somebody who works on a body until told to end."""

    def __init__(self, shared: Bodies, size: int, order: list[int]) -> None:
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._hold(shared, size, order))

    async def _hold(self, shared: Bodies, size: int, order: list[int]) -> None:
        async with shared.share(size):
            order.append(size)
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task
        await turns()


async def turns() -> None:
    """Let everybody have their turns."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_in_the_order_of_asking_and_never_more_than_there_is() -> None:
    shared, order = Bodies(Path(), 100 * COST), list[int]()
    holders = [Holder(shared, size, order) for size in (60, 30, 20, 1, 500)]
    await turns()
    assert order == [60, 30], "nobody overtakes, though the small one would fit"
    await holders[0].end()
    assert order == [60, 30, 20, 1]
    for holder in holders[1:3]:
        await holder.end()
    assert len(order) == 4, "the one that wants more than there is works alone"
    await holders[3].end()
    assert order[-1] == 500
    late = Holder(shared, 1, order)
    await turns()
    assert order[-1] == 500
    await holders[4].end()
    assert order[-1] == 1
    await late.end()
    async with shared.share(100):
        pass


async def test_who_waits_too_long_is_told_so_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WAIT_SECONDS", 0.01)
    shared, order = Bodies(Path(), 100 * COST), list[int]()
    first = Holder(shared, 60, order)
    await turns()
    with pytest.raises(Unavailable) as caught:
        async with shared.share(90):
            pass
    assert caught.value.code == "too_busy"
    async with shared.share(40):
        pass
    await first.end()
    async with shared.share(100):
        pass


async def test_who_gives_up_lets_those_behind_pass() -> None:
    shared, order = Bodies(Path(), 100 * COST), list[int]()
    first, second, third = (Holder(shared, size, order) for size in (60, 90, 40))
    await turns()
    second.task.cancel()
    await turns()
    assert order == [60, 40]
    await first.end()
    await third.end()
    fourth, fifth = Holder(shared, 100, order), Holder(shared, 7, order)
    await turns()
    fourth._end.set()
    fifth.task.cancel()  # in the very moment of its turn
    await turns()
    async with shared.share(100):
        pass


def call_with(rt: Runtime, pieces: list[bytes]) -> Call:
    async def coming() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    left = coming()

    async def receive() -> Message:
        piece = await anext(left)
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    shared = Bodies(rt.config.data_dir / "spool", 1024 * 1024, rt.room)
    return Call(rt, RateLimiter(rt.clock), {"type": "http", "method": "POST"}, receive, {}, "/", "", shared)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500])
async def test_a_body_is_held_as_long_as_the_block_lasts(rt: Runtime, count: int) -> None:
    call = call_with(rt, [bytes([number % 251]) * 1024 for number in range(count)] + [b""])
    async with call.held_body(1024 * 1024) as data:
        assert len(data) == count * 1024
        assert data[-1] == (count - 1) % 251
        assert isinstance(data, bytes) == (count <= 64)
    async with call._bodies.share(1024 * 1024):
        pass


async def test_what_is_refused_leaves_nothing(rt: Runtime) -> None:
    with pytest.raises(Refused) as caught:
        async with call_with(rt, [b"a" * 70_000, b"b" * 70_000, b""]).held_body(100_000):
            pass
    assert caught.value.problem.status == 413
    full = replace(rt, room=Room(rt.config.data_dir, 1 << 62))
    with pytest.raises(Unavailable) as late:
        async with call_with(full, [b"a" * 70_000, b""]).held_body(100_000):
            pass
    assert late.value.code == "storage_full"
    assert list((rt.config.data_dir / "spool").iterdir()) == []
