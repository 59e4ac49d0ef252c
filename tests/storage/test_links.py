"""Frames over a link between two processes."""

import asyncio
import pickle
from typing import Any

import pytest

from restante.errors import Unavailable
from restante.storage import links
from restante.storage.links import Link
from restante.storage.signals import Signals


class Wire(asyncio.Transport):
    """Keeps what is written; ``failure`` is what writing raises."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes | str] = []
        self.failure: Exception | None = None

    def write(self, data: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.said.append(bytes(data))

    def close(self) -> None:
        self.said.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.said


def _called(frame: bytes | str) -> list[tuple[int, tuple[Any, ...]]]:
    """Number and arguments of each call in a frame."""
    assert isinstance(frame, bytes)
    (content,) = links.frames(bytearray(frame))
    return [(number, args) for number, _, args, _ in map(pickle.loads, pickle.loads(content))]


def _linked() -> tuple[Link, Wire]:
    link, wire = Link(Signals()), Wire()
    link.connection_made(wire)
    return link, wire


async def test_the_calls_of_one_turn_leave_in_one_frame() -> None:
    link, wire = _linked()
    for name in "abc":
        link.call(len, (name,), {})
    assert wire.said == []
    await asyncio.sleep(0)
    link.call(len, ("d",), {})
    await asyncio.sleep(0)
    assert [_called(frame) for frame in wire.said] == [[(1, ("a",)), (2, ("b",)), (3, ("c",))], [(4, ("d",))]]


async def test_closing_sends_what_was_called_before() -> None:
    link, wire = _linked()
    link.call(len, ("a",), {})
    link.close()
    await asyncio.sleep(0)
    assert _called(wire.said[0]) == [(1, ("a",))]
    assert wire.said[1:] == ["closed"]


async def test_callers_are_told_when_their_calls_cannot_leave() -> None:
    link, wire = _linked()
    wire.failure = MemoryError("no room")
    found = [link.call(len, (name,), {}) for name in "ab"]
    found[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="no room"):
        await found[1]
    wire.failure = None
    link.call(len, ("c",), {})
    await asyncio.sleep(0)
    assert [_called(frame) for frame in wire.said] == [[(3, ("c",))]]


@pytest.mark.parametrize("step", [1, 3, 4, 7, 100])
def test_frames_are_found_wherever_the_bytes_are_cut(step: int) -> None:
    sent = [b"", b"a", b"bc" * 10, b"\0" * 5]
    data = b"".join(map(links.frame, sent))
    buffer, found = bytearray(), []
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        found += links.frames(buffer)
    assert found == sent
    assert not buffer
