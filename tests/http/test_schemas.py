"""Queries as structs: what they mean, also when they are remembered."""

from pathlib import Path

import pytest
from msgspec import Struct

from restante.clock import SystemClock
from restante.http import schemas
from restante.http.bodies import Bodies
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.http.ratelimit import RateLimiter
from restante.runtime import Runtime


class Wanted(Struct, frozen=True):
    """A query."""

    text: str = ""
    limit: int = 50


class Other(Struct, frozen=True):
    """Another one with a field of the same name."""

    limit: str = "none"


def call(rt: Runtime, query: bytes) -> Call:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    return Call(rt, RateLimiter(SystemClock()), {"query_string": query}, receive, {}, "/", "", Bodies(Path(), 0))


def test_a_query_means_the_same_each_time(rt: Runtime) -> None:
    long = b"a" * schemas.KEPT_CHARS
    for _ in range(2):
        assert schemas.query(call(rt, b""), Wanted) == Wanted()
        assert schemas.query(call(rt, b"limit=3&text=a%20b&limit=4&more="), Wanted) == Wanted("a b", 4)
        assert schemas.query(call(rt, b"limit=3"), Wanted) == Wanted(limit=3)
        assert schemas.query(call(rt, b"limit=3"), Other) == Other("3")
        assert schemas.query(call(rt, b"text=" + long), Wanted) == Wanted(long.decode())


def test_a_wrong_query_is_refused_each_time(rt: Runtime) -> None:
    for raw in (b"limit=x", b"limit=x&text=" + b"a" * schemas.KEPT_CHARS, b"&".join([b"a=1"] * 101)):
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                schemas.query(call(rt, raw), Wanted)
            assert refused.value.problem.status == 422
