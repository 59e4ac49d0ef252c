"""The ASGI application in front of everything: it finds the owner of a path, runs its handler and sends what it gives.

Whatever goes wrong on the way, at any depth, leaves in the owner's own envelope. One layer, no middleware: every
request passes here, so each line costs.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from restante import errors, log
from restante.http import problems
from restante.http.answers import Answer, Reply
from restante.http.bodies import Bodies
from restante.http.calls import Call
from restante.http.clients import Clients
from restante.http.dialects import Dialect
from restante.http.ownership import INSTANCE
from restante.http.problems import Problem, Refused
from restante.http.ratelimit import RateLimiter
from restante.http.resolver import Owner, Resolver, normalise
from restante.runtime import Runtime

Observe = Callable[[str, str, int, float], None]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
VARY = (b"vary", b"Authorization, X-MAILAPI-TOKEN, Accept")
MAX_PATH_LOGGED = 200  # characters
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

_log = log.logger(__name__)


class Front:
    """The root application. ``observe(dialect, method, status, seconds)`` is called once for each answer."""

    def __init__(
        self, rt: Runtime, instance: Dialect, dialects: Iterable[Dialect], *, trusted_proxies: Iterable[str] = (),
        observe: Observe | None = None,
    ) -> None:  # fmt: skip
        self.dialects = {dialect.name: dialect for dialect in dialects}
        self.resolver = Resolver(self.dialects.values())
        self._rt = rt
        self._limiter = RateLimiter(rt.clock)
        self._bodies = Bodies(rt.config.data_dir / "spool", rt.config.http.body_memory_bytes, rt.room)
        self._instance = instance
        self._clients = Clients(trusted_proxies)
        self._observe = observe
        self._level = rt.config.log.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_protocol(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path = normalise(scope["path"])
        owner = self.resolver.owner(path, headers)
        dialect = self._instance if owner.name == INSTANCE else self.dialects.get(owner.name)
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        client = self._clients.of(scope, headers)
        call = Call(self._rt, self._limiter, inner, receive, headers, path, client, self._bodies)
        call.request_id = _request_id(headers)
        call.is_head = inner is not scope
        out = _Out(send, call, owner, is_head=inner is not scope)
        if dialect is None:
            await _not_built(owner.name).send(out)
        else:
            await _run(dialect, call, out, scope["method"])
        seconds = time.perf_counter() - started
        if _log.is_enabled(self._level):
            self._note(call, scope["method"], owner.name, out.status, seconds)
        if self._observe is not None:
            self._observe(owner.name, scope["method"], out.status, seconds)

    def _note(self, call: Call, method: str, owner: str, status: int, seconds: float) -> None:
        """The access log's line: the path without its query, no header, nothing of the body."""
        write = _log.info if self._level == "info" else _log.debug
        path, ms = call.path[:MAX_PATH_LOGGED], round(seconds * 1000, 1)
        write(
            "http_request", request_id=call.request_id, client=call.client, method=method[:20], path=path,
            api=owner, status=status, ms=ms,
        )  # fmt: skip


class _Out:
    """``send`` with the headers that every answer has, and without a body for HEAD."""

    __slots__ = ("_call", "_is_head", "_owner", "_send", "status")

    def __init__(self, send: Send, call: Call, owner: Owner, *, is_head: bool) -> None:
        self._send = send
        self._call = call
        self._owner = owner
        self._is_head = is_head
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            call = self._call
            more = [*SECURITY_HEADERS, (b"x-request-id", call.request_id.encode()), *call.extra]
            if self._owner.is_shared:
                more.append(VARY)
            message = {**message, "headers": [*message["headers"], *more]}
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)


async def _run(dialect: Dialect, call: Call, out: _Out, method: str) -> None:
    answer: Reply
    try:
        if method == "OPTIONS":
            answer = _options(dialect, call)
        elif method not in METHODS:
            raise Refused(Problem(501, "not_implemented", "This method is not known here."))
        else:
            _check_length(call.headers, dialect.max_body_bytes)
            answer = await dialect.router(call)
        await answer.send(out)
    except ClientDisconnect:
        out.status = out.status or 499
    except Exception as error:  # noqa: BLE001 - the last line of defence
        problem = _problem(dialect, call, error)
        if not out.status:  # else part of an answer is out: uvicorn cuts a connection whose answer is not complete
            await dialect.render(problem).send(out)


def _problem(dialect: Dialect, call: Call, error: Exception) -> Problem:
    if isinstance(error, Refused):
        return error.problem
    if isinstance(error, errors.RestanteError):
        problem = dialect.explain(error)
        if problem.status >= 500:
            _log.error(
                "request_failed", request_id=call.request_id, path=call.path, code=error.code, reason=error.message
            )
        return problem
    _log.exception("request_crashed", request_id=call.request_id, path=call.path, method=call.method)
    return problems.internal()


def _check_length(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    length = headers.get(b"content-length")
    if length is not None and (len(length) > 15 or int(length) > limit_bytes):
        raise Refused(problems.too_large(limit_bytes))


def _options(dialect: Dialect, call: Call) -> Answer:
    """OPTIONS, answered for every path without a credential (RFC 9110 §9.3.7); nothing is opened to other origins."""
    methods = dialect.router.methods(call.path)
    if not methods:
        raise Refused(problems.not_found(call.path))
    return Answer(status=204, headers=((b"allow", ", ".join(problems.allow(methods)).encode()),))


def _not_built(name: str) -> Answer:
    text = f"This path belongs to the {name} API, which this version of Restante does not have."
    return Answer(b'{"error":"not_available","message":"' + text.encode() + b'"}', status=404)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return os.urandom(12).hex()


async def _refuse_protocol(scope: Scope, receive: Receive, send: Send) -> None:
    """Lifespan is acknowledged (services start elsewhere); WebSockets are refused."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
