"""A small HTTP/1.1 client for measuring: keep-alive, requests made beforehand, answers read by Content-Length."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import cast


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, requests: Iterator[bytes], deadline: float, latencies: list[float]) -> None:
        self._requests = requests
        self._deadline = deadline
        self._latencies = latencies
        self._buffer = b""
        self._missing = -1  # bytes of the body still to come; -1: in the head
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._missing < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(self._buffer)
                return
            at = head.index(b"content-length:") + 15
            line = head.find(b"\r\n", at)
            self._missing = end + 4 + int(head[at : line if line > 0 else end])
        if len(self._buffer) >= self._missing:
            self._latencies.append(time.perf_counter() - self._sent_at)
            self.last_body = self._buffer
            self._buffer, self._missing = b"", -1
            self._next()

    def _next(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._deadline else None
        assert self._transport is not None
        if request is None:
            self.finished.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _fail(self, answer: bytes) -> None:
        self.finished.set_exception(AssertionError(f"not a 200: {answer!r}"))
        assert self._transport is not None
        self._transport.abort()


def request(target: str, token: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {target} HTTP/1.1\r\nhost: localhost\r\nx-mailapi-token: {token}\r\n\r\n".encode("ascii")


async def get(
    address: tuple[str, int], requests: Sequence[bytes], *, connections: int, seconds: float = float("inf")
) -> tuple[list[float], float]:
    """Send requests over so many connections: all of them once, or in turn for ``seconds``.

    Returns the latencies in seconds, and how long it took. Any answer but 200 fails.
    """
    source = _repeat(requests) if seconds != float("inf") else iter(requests)
    latencies: list[float] = []
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Client(source, started + seconds, latencies), *address)
        clients.append(client)
    await asyncio.gather(*(client.finished for client in clients))
    return latencies, time.perf_counter() - started


def _repeat(requests: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from requests
