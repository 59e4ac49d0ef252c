"""The body of a request: its size, its end, and its pace."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import Message

from restante.http import calls
from restante.http.bodies import Bodies
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.http.ratelimit import RateLimiter
from restante.runtime import Runtime


def call_with(rt: Runtime, pieces: Sequence[bytes]) -> Call:
    """A request whose body comes in these pieces."""
    left = list(pieces)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    return Call(rt, RateLimiter(rt.clock), {"type": "http", "method": "POST"}, receive, {}, "/", "", Bodies(Path(), 0))


async def refusal(call: Call) -> int:
    with pytest.raises(Refused) as caught:
        await call.body(1000)
    return int(caught.value.problem.status)


async def test_a_body_in_pieces(rt: Runtime) -> None:
    assert await call_with(rt, [b"a" * 600, b"b" * 400, b""]).body(1000) == b"a" * 600 + b"b" * 400


async def test_a_body_that_is_too_large(rt: Runtime) -> None:
    assert await refusal(call_with(rt, [b"a" * 600, b"b" * 401])) == 413


async def test_a_body_that_stops(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "BODY_SECONDS", 0.01)
    assert await refusal(call_with(rt, [b"a"])) == 408


class FastClock:
    """The loop, with seconds that take no time: each look at its clock is one later."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.mark.parametrize(
    ("size", "count", "status"),
    [
        (calls.MIN_BODY_RATE - 1, 70, 408),
        (calls.MIN_BODY_RATE, 3000, None),
        (calls.MIN_BODY_RATE, 4000, 408),
        (1, 59, None),
    ],
    ids=["a little too slow", "slow", "for hours", "short"],
)
async def test_a_body_must_keep_its_pace(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, size: int, count: int, status: int | None
) -> None:
    """A piece a second: below the least rate on average it is over after a minute, and after an hour at any rate."""
    call = call_with(rt, [*[b"a" * size] * count, b""])
    clock = FastClock()
    monkeypatch.setattr(calls, "now_seconds", clock.time)
    if status is None:
        assert len(await call.body(10**9)) == size * count
        return
    with pytest.raises(Refused) as caught:
        await call.body(10**9)
    assert caught.value.problem.status == status
    assert (b"connection", b"close") in caught.value.problem.headers
