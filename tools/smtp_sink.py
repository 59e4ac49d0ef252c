"""A receiver that keeps nothing: what the tools are tried against, and the generator's own cost is measured with."""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import cast

import uvloop

Receive = Callable[[bytes], bytes]

EHLO = b"250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n"
_ANSWERS = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n", b"EHLO": EHLO}


class Sink(asyncio.Protocol):
    """Answers 250 to everything and hands each message's bytes, before the final dot, to ``receive`` for the answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._in_data = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(b"220 sink.example.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = []
        while self._buffer:
            if self._in_data:
                end = self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    # what cannot be the beginning of the end is put aside, so that no byte is searched twice
                    self._pieces.append(self._buffer[:-4])
                    self._buffer = self._buffer[-4:]
                    break
                answers.append(self._receive(b"".join((*self._pieces, self._buffer[: end + 2]))))
                self._pieces = []
                self._buffer = self._buffer[end + 5 :]
                self._in_data = False
                continue
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                break
            self._buffer = rest
            verb = line[:4].upper()
            self._in_data = verb == b"DATA"
            answers.append(_ANSWERS.get(verb, b"250 ok\r\n"))
        if answers and self._transport is not None:
            self._transport.write(b"".join(answers))


@asynccontextmanager
async def serve(receive: Receive = lambda _raw: b"250 ok\r\n") -> AsyncIterator[tuple[str, int]]:
    """Listen on a free loopback port for the time of the context; yields the address."""
    server = await asyncio.get_running_loop().create_server(lambda: Sink(receive), "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield host, port
    finally:
        server.close()


class Counting:
    """A sink in a process of its own; ``address`` is where it listens."""

    def __init__(self, address: tuple[str, int], count: "Synchronized[int]") -> None:
        self.address = address
        self._count = count

    @property
    def count(self) -> int:
        """How many messages came in all."""
        return self._count.value

    def await_count(self, count: int, seconds: float) -> None:
        """Return once so many messages came in all; TimeoutError."""
        end = time.monotonic() + seconds
        while self.count < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.count} of {count} messages came")
            time.sleep(0.002)


@contextlib.contextmanager
def counting() -> Iterator[Counting]:
    """Run a sink that counts, for the time of the context."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    ours, theirs = context.Pipe()
    process = context.Process(target=_count, args=(theirs, count), daemon=True)
    process.start()
    try:
        yield Counting(ours.recv(), count)
    finally:
        process.terminate()
        process.join()


def _count(link: "Connection[tuple[str, int], None]", count: "Synchronized[int]") -> None:
    def receive(_raw: bytes) -> bytes:
        count.value += 1
        return b"250 ok\r\n"

    async def run() -> None:
        async with serve(receive) as address:
            link.send(address)
            await asyncio.Event().wait()

    uvloop.run(run())
