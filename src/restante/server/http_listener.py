"""uvicorn inside our own event loop: HTTP/1.1 on sockets that are open already, with the bounds it lacks.

Its httptools protocol reads a request's head and the framing of its body without limit, and takes any number of
connections of one peer; ``BoundedProtocol`` adds bounds. Signals, logging and lifespan stay ours.
"""

import asyncio
import contextlib
import functools
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
from restante.http.clients import Clients, limit_key

MAX_HEAD_BYTES = 64 * 1024
MAX_URL_BYTES = 60 * 1024
HEAD_SECONDS = 30.0  # from the first byte of a request (or the connection) to the end of its head
FRAMING_PER_BYTE = 16  # bytes of chunk framing for a byte of a body: one in a chunk of its own needs 6
SHUTDOWN_SECONDS = 10
BACKLOG = 1024
_RAW_PATH = re.compile(rb"[A-Z]+ /[!-~]*[\x80-\xff]")


_REFUSALS = {
    400: (b"BAD_REQUEST", b"Bad Request"),
    414: (b"BAD_REQUEST", b"URI Too Long"),
    429: (b"RATE_LIMITED", b"Too Many Requests"),
    431: (b"BAD_REQUEST", b"Request Header Fields Too Large"),
}


class Peers:
    """How many connections each peer has: an IPv4 address, or the /64 of an IPv6 one."""

    def __init__(self, settings: Http) -> None:
        self._most = settings.max_connections_per_peer
        self._clients = Clients(settings.trusted_proxies)
        self._open: dict[str, int] = {}

    def admit(self, address: str) -> bool:
        """Count a connection in; False: the peer has too many. This machine and trusted proxies may have any number."""
        key = limit_key(address)
        count = self._open.get(key, 0)
        if count >= self._most and not self._clients.is_exempt(address):
            return False
        self._open[key] = count + 1
        return True

    def leave(self, address: str) -> None:
        """Count one out that was let in."""
        key = limit_key(address)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]


class _Joined:
    """The transport of one answer: the head waits for what follows it, so that both are one packet and one call."""

    __slots__ = ("_cycle", "_done", "_head", "_transport")

    def __init__(self, cycle: Any, transport: asyncio.Transport) -> None:
        self._cycle, self._transport = cycle, transport
        self._head: bytes | None = None  # None: there is none yet; empty: it is out
        self._done: Callable[[], None] = cycle.on_response
        cycle.transport, cycle.on_response = self, self.complete

    def write(self, data: bytes) -> None:
        """Send a piece; uvicorn writes the head in one piece, and before it perhaps 100 (Continue)."""
        if self._head is None and self._cycle.response_started:
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def complete(self) -> None:
        """The answer is whole; one without a body still has its head here."""
        self._flush()
        self._done()

    def close(self) -> None:
        """Close the connection when all is sent."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or will be."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Answers a URL that is too long with 414, a head that is too large with 431, one that is not HTTP
    with 400, and closes.
    """

    url = b""  # of the request whose head comes in
    _is_admitted = False
    _framing_bytes = 0  # of the request under way: what came behind its head and was not its body
    _body_bytes = 0
    _head_bytes = 0
    _is_in_head = False
    _head_timer: TimerHandle | None = None
    _received = b""  # what came last

    def __init__(self, *args: Any, peers: Peers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peers = peers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {TRANSPORT: transport}
        self._is_admitted = self._peers.admit(self._address())
        if self._is_admitted:
            self._await_head()
        else:
            self._refuse(429, "There are too many connections from your address.")

    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_admitted:
            self._peers.leave(self._address())
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._received = data
        was_in_body = not self._is_in_head and not self._is_idle()
        self._framing_bytes += len(data) if was_in_body else 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._framing_bytes > MAX_HEAD_BYTES + FRAMING_PER_BYTE * self._body_bytes:
            self._refuse(431, "The body's framing is too large.")
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if len(self.url) > MAX_URL_BYTES:
                self._refuse(414, "The URL is too long.")
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "The request's header fields are too large.")
            else:
                self._await_head()
        elif self._is_idle():
            self._await_head()  # empty lines between two requests have taken uvicorn's own timer away

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._framing_bytes = self._body_bytes = 0
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()
        _Joined(self.cycle, self.transport)

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # an answer that nobody reads would hold the connection for ever
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        if len(self.url) > MAX_URL_BYTES:  # the parser takes none above 64 KiB
            self._refuse(414, "The URL is too long.")
            return
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
        code, reason = _REFUSALS[status]
        body = b'{"success":false,"error":"%b","message":"%b","detail":"%b"}' % (code, text, text)
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
        http=functools.partial(BoundedProtocol, peers=Peers(settings)),  # type: ignore[arg-type]  # it is only called
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
