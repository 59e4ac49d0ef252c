"""HTTP to places that users name: webhooks. One connection pool, no redirects, bounds on time and size.

What may be reached is judged on the address of the socket that is about to be connected, so no name, redirect or change
of DNS leads round it.
"""

import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restante.errors import Invalid, RemoteUnavailable
from restante.net.dns import Resolver
from restante.net.egress import Egress

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_SECONDS = 20.0  # a whole call: look-up, connection, answer
CONNECT_SECONDS = 5.0
AT_ONCE_BYTES = 1 << 20  # of a body that is written in one piece
KEPT_BYTES = 1024  # of an answer's body
MAX_URL = 2000  # characters
PER_HOST = 50  # connections to one place at one time
CONNECTIONS = 500


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back: the status and the first KiB of the body."""

    status: int
    body: bytes


class HttpClient:
    """Posts to URLs of users. Made once per process; connections are kept for the next call."""

    def __init__(self, resolver: Resolver, egress: Egress) -> None:
        self._resolver = resolver
        self._egress = egress
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """Send ``body``. Any status is an answer, redirects too.

        Raises RemoteUnavailable: ``egress_refused`` (the address is not public), ``dns_failed``, ``timeout``,
        ``connection_failed``.
        """
        import aiohttp

        data = body if len(body) <= AT_ONCE_BYTES else io.BytesIO(body)  # which goes in pieces
        try:
            async with self._opened().post(url, data=data, headers=headers, allow_redirects=False) as answer:
                kept = await answer.content.read(KEPT_BYTES)
                while len(kept) < KEPT_BYTES and (more := await answer.content.read(KEPT_BYTES - len(kept))):
                    kept += more
                if not answer.content.at_eof():
                    answer.close()  # the rest is not read, however long it is
                return HttpAnswer(answer.status, kept)
        except _EgressRefusedError as error:
            raise RemoteUnavailable(str(error), host=_host(url), code="egress_refused") from error
        except TimeoutError as error:
            raise RemoteUnavailable("no answer in time", host=_host(url), code="timeout") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _cause(error, _EgressRefusedError)
            if refused is not None:
                raise RemoteUnavailable(str(refused), host=_host(url), code="egress_refused") from error
            text = str(error)[:200] or type(error).__name__
            raise RemoteUnavailable(text, host=_host(url), code="connection_failed") from error

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(
                resolver=_names(self._resolver, self._egress),
                socket_factory=self._socket,
                limit=CONNECTIONS,
                limit_per_host=PER_HOST,
                ttl_dns_cache=10,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # no bomb unfolds here
                trust_env=False,
                headers={"User-Agent": "Restante"},
                max_line_size=8190,
                max_field_size=8190,
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """The socket for one address, if that may be reached: called with what is connected to next."""
        family, kind, protocol, _, address = info
        if not self._egress.permits(str(address[0])):
            raise _EgressRefusedError(f"{address[0]} is not an address that may be called")
        return socket.socket(family, kind, protocol)


class _EgressRefusedError(OSError):
    """The address is not one that this server may connect to."""


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first of an error's causes that is of that kind."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, kind):
            return error
        if isinstance(error, BaseExceptionGroup):
            return next((found for one in error.exceptions if (found := _cause(one, kind))), None)
        original = getattr(error, "os_error", None)
        error = original if isinstance(original, BaseException) else error.__cause__ or error.__context__
        seen += 1
    return None


def _names(resolver: Resolver, egress: Egress) -> Any:
    """Our resolver as aiohttp asks it. It gives only what may be called; the socket is judged all the same."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Names(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            found = await resolver.addresses(host)
            if not found:
                raise OSError(f"{host} has no address")
            if not any(egress.permits(text) for text in found):
                raise _EgressRefusedError(f"{host} has no address that may be called")
            return [
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for text in found
                if egress.permits(text)
            ]

        async def close(self) -> None:
            return None

    return Names()


def require_url(text: str) -> str:
    """A URL that may be called: http or https, a host, no user, no fragment. Raises Invalid(code="invalid_url")."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad_url() from None
    is_plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= MAX_URL
    if not is_plain or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _bad_url()
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad_url()
    return text


def _bad_url() -> Invalid:
    return Invalid(
        "This is no URL that could be called.",
        code="invalid_url",
        details={"url": f"http:// or https://, a host, at most {MAX_URL} characters, no user and no fragment"},
    )


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""
