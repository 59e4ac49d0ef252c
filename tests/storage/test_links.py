"""The calling end of a link between two processes."""

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator

import pytest

from restante.core import indexing
from restante.storage import links
from restante.storage.links import Link
from restante.storage.signals import Signals


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Link, socket.socket]]:
    ours, theirs = links.pair()
    theirs.setblocking(False)
    _, link = await asyncio.get_running_loop().create_unix_connection(lambda: Link(Signals()), sock=ours)
    yield link, theirs
    link.close()
    theirs.close()


async def received(theirs: socket.socket) -> list[int]:
    """The numbers of the calls that one read brings."""
    data = await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
    return [pickle.loads(frame)[0] for frame in links.frames(bytearray(data))]


async def test_what_is_called_in_one_turn_is_sent_at_once(ends: tuple[Link, socket.socket]) -> None:
    link, theirs = ends
    for _ in range(3):
        link.call(indexing.forget_done, (), {})
    assert await received(theirs) == [1, 2, 3]
    link.call(indexing.forget_done, (), {})
    assert await received(theirs) == [4]


async def test_what_was_called_is_sent_before_the_end(ends: tuple[Link, socket.socket]) -> None:
    link, theirs = ends
    link.call(indexing.forget_done, (), {})
    link.close()
    assert await received(theirs) == [1]
