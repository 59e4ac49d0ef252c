"""Links between two processes of one server: frames over a socket pair.

A frame is a 4-byte length and a pickle of a list: calls one way, each a pickle itself, ``(number, fn, args, kwargs)``;
what became of some of them, ``(number, value, error, touched)``, the other way. Both ends are ours, so pickles are
trusted.
"""

import asyncio
import logging
import pickle
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from restante.errors import RestanteError, Unavailable
from restante.schema.connections import ReadConn, WriteConn
from restante.storage import engine
from restante.storage.database import Outcome
from restante.storage.engine import Place
from restante.storage.signals import Signals

T = TypeVar("T")
P = ParamSpec("P")

LENGTH = struct.Struct("!I")
SOCKET_BYTES = 4 << 20
RECLAIM = "reclaim"  # in the place of fn: give free pages back, outside any transaction
SNAPSHOT = "snapshot"  # likewise: copy some pages for a backup
READY = 0  # the number of the first answer, which nobody asked for
SIGNAL = -1  # the number of answers that only say which accounts were touched
END = -2  # the number of the answer that asks the calling process to end

_log = logging.getLogger(__name__)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new link: ours, which does not block, and the other process's."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    ours.setblocking(False)
    return ours, theirs


def frame(data: bytes) -> bytes:
    """One frame around a pickle."""
    return LENGTH.pack(len(data)) + data


def frames(buffer: bytearray) -> list[bytes]:
    """Take the complete frames off the front of ``buffer``."""
    found, at = [], 0
    with memoryview(buffer) as view:
        while len(view) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(view, at)
            if len(view) - at - LENGTH.size < size:
                break
            found.append(bytes(view[at + LENGTH.size : at + LENGTH.size + size]))
            at += LENGTH.size + size
    del buffer[:at]
    return found


def calls(pickles: Sequence[bytes]) -> bytes:
    """One frame for some calls."""
    return frame(pickle.dumps(pickles, protocol=5))


def answers(numbers: Sequence[int], outcomes: Sequence[Outcome]) -> bytes:
    """One frame for a group; an outcome that cannot be pickled becomes an error."""
    items = []
    for number, outcome in zip(numbers, outcomes, strict=True):
        error = outcome.error
        if error is not None and not isinstance(error, RestanteError):
            text = "".join(traceback.format_exception(error))
            _log.error("write failed: %s", text)
            error = RuntimeError(f"{type(error).__name__}: {error}")
        items.append((number, outcome.value, error, outcome.touched))
    try:
        data = pickle.dumps(items, protocol=5)
    except Exception as problem:  # noqa: BLE001 - any of the values may refuse
        data = pickle.dumps(
            [(n, None, RuntimeError(f"unpicklable result: {problem}"), ()) for n in numbers], protocol=5
        )
    return frame(data)


class Link(asyncio.Protocol):
    """The end that calls. The calls of one turn of the event loop leave together: the other end finds a group."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._buffer = bytearray()
        self._next = READY
        self._leaving: list[tuple[int, bytes]] = []
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop = loop = asyncio.get_running_loop()  # to ask for it is a system call
        self.ready: asyncio.Future[Any] = loop.create_future()
        self.waiting[READY] = self.ready
        self.closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def call(self, fn: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        if self._transport is None or self._transport.is_closing():
            raise Unavailable("the writer has ended", code="storage_ended")
        self._next += 1
        data = pickle.dumps((self._next, fn, args, kwargs), protocol=5)
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waiting[self._next] = future
        if not self._leaving:
            self._loop.call_soon(self._send)
        self._leaving.append((self._next, data))
        return future

    def _send(self) -> None:
        leaving, self._leaving = self._leaving, []
        if not leaving or self._transport is None or self._transport.is_closing():
            return  # who waits is told when the connection is lost
        try:
            self._transport.write(calls([data for _, data in leaving]))
        except Exception as error:  # noqa: BLE001 - no memory for the frame, say: each caller is told
            for number, _ in leaving:
                future = self.waiting.pop(number)
                if not future.done():
                    future.set_exception(
                        Unavailable(f"the writer cannot be called: {error}", code="storage_unavailable")
                    )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for each in frames(self._buffer):
            touched: set[int] = set()
            for number, value, error, accounts in pickle.loads(each):  # noqa: S301 - from our own other end
                future = self.waiting.pop(number, None)
                touched.update(accounts)
                if future is None or future.done():
                    continue  # a signal; or the caller was cancelled: its write has happened all the same
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            self._signals.publish(touched)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the writer has ended", code="storage_ended"))
        self.waiting.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        self._send()
        if self._transport is not None:
            self._transport.close()


class GuestLink(Link):
    """The calling end in a process that the front started beside itself. ``ended``: it is to end, or the front is gone
    (then with an error).
    """

    def __init__(self, signals: Signals) -> None:
        super().__init__(signals)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[END] = self.ended


class LinkedDatabase:
    """The writer is behind a link; reads happen here."""

    def __init__(self, place: Place, link: Link) -> None:
        self._link = link
        self._readers = engine.open_readers(place)

    async def read(self, fn: Callable[Concatenate[ReadConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._readers.run(fn, args, kwargs)
        return result

    async def write(self, fn: Callable[Concatenate[WriteConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._link.call(fn, args, kwargs)
        return result

    async def reclaim(self, pages: int) -> None:
        await self._link.call(RECLAIM, (pages,), {})

    async def snapshot(self, target: Path, pages: int) -> tuple[int, int]:
        done, total = await self._link.call(SNAPSHOT, (target, pages), {})
        return done, total

    async def close(self) -> None:
        self._link.close()
        self._readers.close()
