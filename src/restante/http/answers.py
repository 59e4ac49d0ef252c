"""What a handler gives back, finished bytes or a stream, and how it goes out over ASGI."""

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Send

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"

STALL_SECONDS = 60.0


class Reply(Protocol):
    """What a handler gives back: something that can write itself out over ASGI."""

    async def send(self, send: Send) -> None:
        """Write it out, head and body."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and the whole body."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = ()

    async def send(self, send: Send) -> None:
        """Write it out. 204 and 304 carry neither body nor length (RFC 9110 §8.6)."""
        bare = self.status in (204, 304)
        fixed: Headers = (
            () if bare else ((b"content-type", self.content_type), (b"content-length", b"%d" % len(self.body)))
        )
        await send({"type": "http.response.start", "status": self.status, "headers": [*fixed, *self.headers]})
        await send({"type": "http.response.body", "body": b"" if bare else self.body})


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that is made while it is sent; its length is known before."""

    chunks: AsyncIterable[bytes]
    size_bytes: int
    content_type: bytes
    headers: Headers = ()
    status: int = 200

    async def send(self, send: Send) -> None:
        """Write it out piece by piece at the client's pace; TimeoutError when it takes nothing for a minute."""
        length = (b"content-length", b"%d" % self.size_bytes)
        headers = [(b"content-type", self.content_type), length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        async for chunk in self.chunks:
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
