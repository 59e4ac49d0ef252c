"""Clients of the native API: calls without a socket, and a reader of live streams."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.api.mail_api.sample import Client, Reply

BASE = "/restante/v1"


@dataclass(frozen=True, slots=True)
class Native:
    """Calls the application as the holder of one token."""

    app: Callable[..., Any]
    token: str | None

    async def call(self, method: str, target: str, **more: Any) -> Reply:
        """One request; the path is behind ``/restante/v1``."""
        headers = more.pop("headers", {})
        if self.token is not None:
            headers = {"authorization": f"Bearer {self.token}"} | headers
        return await Client(self.app).call(method, BASE + target, headers=headers, **more)

    async def get(self, target: str, **more: Any) -> Reply:
        """GET."""
        return await self.call("GET", target, **more)

    async def post(self, target: str, **more: Any) -> Reply:
        """POST."""
        return await self.call("POST", target, **more)


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Told(NamedTuple):
    """One event of a stream."""

    id: int
    type: str
    data: dict[str, Any]


class StreamReader(AbstractAsyncContextManager["StreamReader"]):
    """An open stream of events."""

    def __init__(
        self, place: Place, token: str, target: str = "/events", headers: dict[str, str] | None = None
    ) -> None:
        self._place, self._token, self._target, self._headers = place, token, target, headers or {}

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._place.host, self._place.port)
        given = {"host": "x", "authorization": f"Bearer {self._token}", "accept": "text/event-stream"} | self._headers
        lines = [f"GET {BASE}{self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(head.split(" ", 2)[1])
        self.head = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
        self._text = b""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def chunk(self) -> bytes:
        """The next piece of the body; b"" at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def next(self) -> Told:
        """The next event; comments are passed over. Raises EOFError at the end."""
        while True:
            while b"\n\n" in self._text:
                block, _, self._text = self._text.partition(b"\n\n")
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                if "data" in fields:
                    return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            try:
                piece = await self.chunk()
            except (asyncio.IncompleteReadError, ConnectionError):
                raise EOFError from None
            if not piece:
                raise EOFError
            self._text += piece
