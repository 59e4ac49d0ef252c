"""The root HTTP application: the front with its dialects, and the paths that belong to no dialect."""

import asyncio
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import literal, select

from restante import errors, log
from restante.api.mail_api import app as mail_api
from restante.api.mailcare import app as mailcare
from restante.api.native import app as native
from restante.api.native.events import encode
from restante.core import access
from restante.http import clients, problems
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.dialects import Dialect
from restante.http.front import Front
from restante.http.live import Live
from restante.http.ownership import INSTANCE, MAIL_API
from restante.http.problems import Problem, Refused
from restante.http.routing import IndexedRouter
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.server import documentation
from restante.server.http_listener import HttpListener, serve_http
from restante.server.metrics import CONTENT_TYPE, Metrics

Check = Callable[[], Awaitable[None]]
CHECK_SECONDS = 2.0

_log = log.logger(__name__)


def build(rt: Runtime, metrics: Metrics, checks: Mapping[str, Check] | None = None, live: Live | None = None) -> Front:
    """The whole HTTP application. ``checks`` are further health checks by name; one that raises has failed."""
    live = live or Live(rt, encode)
    dialects = [mail_api.build(rt.config.http.max_body_bytes), mailcare.build(), native.build(live)]
    standard: dict[str, Check] = {"database": lambda: _check_database(rt), "storage": lambda: _check_room(rt)}
    instance = Instance(rt, metrics, dialects, {**standard, **(checks or {})}).build()
    proxies = rt.config.http.trusted_proxies
    return Front(rt, instance, dialects, trusted_proxies=proxies, observe=metrics.observe_http)


async def serve(
    rt: Runtime, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None, metrics: Metrics
) -> HttpListener:
    """Answer HTTP (HTTPS with ``tls``) on listening sockets until the listener is closed."""
    live = Live(rt, encode)
    return await serve_http(build(rt, metrics, live=live), sockets, rt.config.http, tls, before_close=live.close)


class Instance:
    """What belongs to no dialect: the front page, health, metrics, documentation."""

    def __init__(self, rt: Runtime, metrics: Metrics, dialects: list[Dialect], checks: Mapping[str, Check]) -> None:
        self._rt = rt
        self._metrics = metrics
        self._checks = checks
        self._describe = {dialect.name: dialect.describe for dialect in dialects}
        self._documents: dict[str, bytes] = {}

    def build(self) -> Dialect:
        """The instance in the form of a dialect."""
        router = IndexedRouter()
        for path, handler in (
            ("/", documentation.home),
            ("/health", self.health),
            ("/metrics", self.metrics),
            ("/docs", documentation.swagger),
            ("/docs/{name}", documentation.asset),
            ("/redoc", documentation.redoc),
            ("/openapi.json", self.mail_api_document),
            ("/openapi/{name}", self.document),
        ):
            router.add("GET", path, handler, tag="Instance", answer="*/*")
        return Dialect(INSTANCE, router, render, problems.from_error, lambda _: {}, 64 * 1024)

    async def health(self, _: Call) -> Answer:
        """Whether everything that mail needs works."""
        outcomes = {name: await _outcome(name, check) for name, check in self._checks.items()}
        if all(outcome == "ok" for outcome in outcomes.values()):
            return Answer(b'{"status":"healthy"}', headers=_UNCACHED)
        body = msgspec.json.encode({"status": "degraded", "checks": outcomes})
        return Answer(body, status=503, headers=_UNCACHED)

    async def metrics(self, call: Call) -> Answer:
        """Figures for Prometheus: to this machine itself, to the configured token, to an operator's token."""
        if not self._rt.config.metrics.enabled:
            raise Refused(problems.not_found(call.path))
        if not clients.is_direct_loopback(call.scope, call.headers):
            await self._require_scraper(call)
        return Answer(await self._metrics.render(), content_type=CONTENT_TYPE, headers=_UNCACHED)

    async def mail_api_document(self, _: Call) -> Answer:
        """The OpenAPI document of the Mail API."""
        return Answer(self._document(MAIL_API))

    async def document(self, call: Call) -> Answer:
        """The OpenAPI document of a dialect."""
        name, dot, ending = call.params["name"].rpartition(".")
        if not dot or ending != "json" or name not in self._describe:
            raise Refused(problems.not_found(call.path))
        return Answer(self._document(name))

    def _document(self, name: str) -> bytes:
        found = self._documents.get(name)
        if found is None:
            servers = [{"url": self._rt.config.http.public_url or "/"}]
            found = self._documents[name] = msgspec.json.encode(self._describe[name](servers))
        return found

    async def _require_scraper(self, call: Call) -> None:
        scheme, _, bearer = (call.header(b"authorization") or "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else call.header(b"x-mailapi-token") or ""
        wanted = self._rt.config.metrics.token
        if wanted and hmac.compare_digest(given.encode(), wanted.encode()):
            return
        challenge = ((b"www-authenticate", b'Bearer realm="metrics"'),)
        if not given:
            raise Refused(Problem(401, "unauthenticated", "A token is needed from afar.", headers=challenge))
        principal, _ = await self._rt.db.read(access.authenticate_token, MAIL_API, given, self._rt.clock.now())
        access.require_operator(principal)


_UNCACHED = ((b"cache-control", b"no-store"),)


def render(problem: Problem) -> Answer:
    """A refusal outside every dialect."""
    body: dict[str, Any] = {"error": problem.code, "message": problem.message}
    if problem.fields:
        body["fields"] = dict(problem.fields)
    return Answer(msgspec.json.encode(body), status=problem.status, headers=problem.headers)


async def _outcome(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return "timeout"
    except errors.RestanteError as error:
        return error.code
    except Exception:  # noqa: BLE001 - a broken check is a failed check
        _log.exception("health_check_crashed", check=name)
        return "failed"
    return "ok"


async def _check_database(rt: Runtime) -> None:
    await rt.db.read(_ping)


async def _check_room(rt: Runtime) -> None:
    rt.room.require(0)


def _ping(conn: ReadConn) -> None:
    conn.execute(select(literal(1))).scalar_one()
