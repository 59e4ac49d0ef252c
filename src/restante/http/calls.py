"""One request on its way: what the front found out about it, and its body under a bound."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic as now_seconds
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from restante.http import problems
from restante.http.bodies import Bodies
from restante.http.problems import Problem, Refused
from restante.http.ratelimit import RateLimiter
from restante.runtime import Runtime
from restante.storage.spool import Buffer

MAX_QUERY_FIELDS = 100
BODY_SECONDS = 60.0  # the longest wait for a further piece of a body
BODY_GRACE_SECONDS = 60.0  # then a body must have come at MIN_BODY_RATE on average
MIN_BODY_RATE = 256  # bytes a second
MAX_BODY_SECONDS = 3600.0
SMALL_BODY_BYTES = 64 * 1024
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
TRANSPORT = "restante.transport"  # the extension of ASGI's scope in which our listener passes the connection on


class Call:
    """A request as handlers see it. ``extra`` collects headers that every answer to it carries."""

    __slots__ = (
        "_bodies", "client", "extra", "headers", "is_head", "limiter", "params", "path", "receive", "request_id", "rt",
        "scope",
    )  # fmt: skip

    def __init__(
        self, rt: Runtime, limiter: RateLimiter, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes],
        path: str, client: str, bodies: Bodies,
    ) -> None:  # fmt: skip
        self.rt = rt
        self.limiter = limiter
        self.scope = scope
        self.headers = headers  # lower-case names; of a repeated one the last
        self.path = path  # decoded, without a trailing slash
        self.client = client  # the peer's IP address, or the one a trusted proxy names
        self.params: dict[str, str] = {}
        self.extra: list[tuple[bytes, bytes]] = []
        self.request_id = ""
        self.receive = receive
        self.is_head = False  # the client wants no body
        self._bodies = bodies

    @property
    def method(self) -> str:
        """GET for HEAD too."""
        method: str = self.scope["method"]
        return method

    def header(self, name: bytes) -> str | None:
        """A request header's value as text (ISO 8859-1, so that nothing fails), None when absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self) -> dict[str, str]:
        """The fields of the query; of a repeated one the last. Refuses with 422 more than 100."""
        return query_fields(self.scope["query_string"])

    def origin(self) -> str:
        """Scheme and host for links to this server: those of ``http.public_url``, else those that the client used."""
        if self.rt.config.http.public_url:
            return self.rt.config.http.public_url.rstrip("/")
        host = self.headers.get(b"host", b"")
        if not _HOST.fullmatch(host):
            name, port = self.scope.get("server") or ("localhost", None)
            host = (f"[{name}]" if ":" in name else name).encode() + (b"" if port is None else b":%d" % port)
        return f"{self.scope['scheme']}://{host.decode('ascii')}"

    def transport(self) -> asyncio.Transport:
        """The connection itself, for answers that stay open. Refuses with 501 where the server gives none."""
        found = self.scope.get("extensions", {}).get(TRANSPORT)
        if found is None:
            raise Refused(Problem(501, "not_implemented", "Streams need the server's own listener."))
        transport: asyncio.Transport = found
        return transport

    async def body(self, limit_bytes: int = SMALL_BODY_BYTES) -> bytes:
        """The whole body. Refuses with 413 over ``limit_bytes`` and 408 when the client stalls or is too slow."""
        return b"".join([piece async for piece in self._pieces(limit_bytes)])

    def has_small_body(self) -> bool:
        """Whether the request says that its body is small."""
        length = self.headers.get(b"content-length", b"")
        return length.isdigit() and int(length) <= SMALL_BODY_BYTES

    @asynccontextmanager
    async def held_body(self, limit_bytes: int) -> AsyncIterator[Buffer]:
        """The whole body, for as long as the block lasts; a large one lies in a file and has its share of memory.

        Refuses as ``body``. Raises Unavailable: "storage_full", "too_busy".
        """
        spool = self._bodies.new_spool()
        try:
            async for piece in self._pieces(limit_bytes):
                spool.write(piece)
            async with self._bodies.share(spool.size_bytes):
                yield spool.finish()
        finally:
            spool.close()

    async def _pieces(self, limit_bytes: int) -> AsyncIterator[bytes]:
        size = 0
        started = now_seconds()
        while True:
            message = await self._piece()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > limit_bytes:
                raise Refused(problems.too_large(limit_bytes))
            yield piece
            if not message.get("more_body", False):
                return
            spent = now_seconds() - started
            if spent > MAX_BODY_SECONDS or (spent > BODY_GRACE_SECONDS and size < spent * MIN_BODY_RATE):
                raise Refused(_too_slow())

    async def _piece(self) -> Message:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self.receive()
        except TimeoutError:
            raise Refused(_too_slow()) from None


def _too_slow() -> Problem:
    close = ((b"connection", b"close"),)
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.", headers=close)


def query_fields(raw: bytes) -> dict[str, str]:
    """The fields of a query string; of a repeated one the last. Refuses with 422 more than 100."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise Refused(Problem(422, "invalid", f"More than {MAX_QUERY_FIELDS} query fields.")) from None
    return dict(pairs)
