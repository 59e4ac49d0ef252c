"""A receiver that keeps nothing: what the tools are tried against, and the generator's own cost is measured with."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

Receive = Callable[[bytes], bytes]


class Sink(asyncio.Protocol):
    """Answers 250 to everything and hands each message's bytes, before the final dot, to ``receive`` for the answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._in_data = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(b"220 sink.example.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = []
        while True:
            if self._in_data:
                end = self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    break
                answers.append(self._receive(bytes(self._buffer[: end + 2])))
                del self._buffer[: end + 5]
                self._in_data = False
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                break
            verb = bytes(self._buffer[:4]).upper()
            del self._buffer[: end + 2]
            self._in_data = verb == b"DATA"
            answers.append({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 ok\r\n"))
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
