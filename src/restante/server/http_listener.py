"""uvicorn inside our own event loop: HTTP/1.1 on sockets that are open already, with the bounds it lacks.

Its httptools protocol reads a request's head without limit of size or time; ``BoundedProtocol`` adds both. Signals,
logging and lifespan stay ours.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from restante.config import Http
from restante.errors import Unavailable
from restante.http.calls import TRANSPORT

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0  # from the first byte of a request (or the connection) to the end of its head
SHUTDOWN_SECONDS = 10
BACKLOG = 1024
_RAW_PATH = re.compile(rb"[A-Z]+ /[!-~]*[\x80-\xff]")


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Answers a head that is too large with 431, one that is not HTTP with 400, and closes."""

    _head_bytes = 0
    _is_in_head = False
    _head_timer: TimerHandle | None = None
    _received = b""  # what came last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {TRANSPORT: transport}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received = data
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "The request's header fields are too large.")
            else:
                self._await_head()
        elif self._is_idle():
            self._await_head()  # empty lines between two requests have taken uvicorn's own timer away

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # an answer that nobody reads would hold the connection for ever
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        if _RAW_PATH.match(self._received):  # RFC 3986 §2.1; most clients encode it by themselves
            msg = "Percent-encode what is not ASCII in the URL, as UTF-8."
        self._refuse(400, msg)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_timed_out)

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's annotation says
        return cycle is not None and cycle.response_complete is True

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        text = message.encode("ascii")  # the members of every dialect: which one is meant is not known yet
        body = b'{"success":false,"error":"BAD_REQUEST","message":"%b","detail":"%b"}' % (text, text)
        reason = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}[status]
        head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head % (status, reason, len(body)) + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpListener:
    """A running HTTP server; ``close`` lets requests under way finish."""

    def __init__(
        self,
        server: uvicorn.Server,
        task: "asyncio.Task[None]",
        sockets: Sequence[socket.socket],
        before_close: Callable[[], None],
    ) -> None:
        self._server = server
        self._task = task
        self._before_close = before_close
        self.ports: tuple[int, ...] = tuple(each.getsockname()[1] for each in sockets)

    async def close(self) -> None:
        """Stop accepting, wait up to ten seconds for answers under way, then cut them off."""
        self._before_close()
        self._server.should_exit = True
        await self._task


async def serve_http(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    settings: Http,
    tls: ssl.SSLContext | None = None,
    *,
    before_close: Callable[[], None] = lambda: None,
) -> HttpListener:
    """Answer HTTP on listening sockets, HTTPS with ``tls``; returns once it accepts. They are closed with the listener;
    ``before_close`` then ends what would stay open by itself.

    Raises Unavailable when it cannot start.
    """
    options: dict[str, Any] = {} if tls is None else {"ssl_context_factory": lambda *_: tls}
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        interface="asgi3",
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
        **options,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=list(sockets)), name="http")
    while not server.started:
        if task.done():
            task.result()
            raise Unavailable("the HTTP listener ended at once", code="cannot_listen")
        await asyncio.sleep(0.005)
    return HttpListener(server, task, sockets, before_close)
