"""The listener: accepts connections for one port, keeps their time limits, closes without losing mail."""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Literal

from restante import log
from restante.smtp.backend import Backend
from restante.smtp.port import Counters, Policy, Port, Settings
from restante.smtp.reception import House, Reception
from restante.smtp.session import Session
from restante.smtp.submission import Submission

if TYPE_CHECKING:
    from restante.runtime import Runtime

Mode = Literal["reception", "submission"]

CHECK_SECONDS = 1.0

_log = log.logger(__name__)


class Listener:
    """One open port."""

    def __init__(self, shared: Port, server: asyncio.Server) -> None:
        self._shared = shared
        self._server = server
        self._clock = asyncio.get_running_loop().create_task(self._keep_time())

    @property
    def port(self) -> int:
        """The port number that is listened on."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def counters(self) -> Counters:
        """Figures for the metrics."""
        return self._shared.counters

    def take_refused(self) -> dict[str, int]:
        """Recipients refused since the last call, by domain."""
        return self._shared.take_refused()

    async def close(self, grace_seconds: float = 10.0) -> None:
        """Stop listening, let messages that are arriving or being stored finish for a while, then cut what is left."""
        self._server.close()
        self._shared.draining = True
        self._check_all()
        if self._shared.sessions:
            self._shared.emptied.clear()
            try:
                async with asyncio.timeout(grace_seconds):
                    await self._shared.emptied.wait()
            except TimeoutError:
                _log.warning("smtp_sessions_cut", sessions=len(self._shared.sessions))
        for session in list(self._shared.sessions):
            session.abort()
        self._clock.cancel()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self._check_all()

    def _check_all(self) -> None:
        now = self._shared.loop.time()
        for session in list(self._shared.sessions):
            try:
                session.check(now)
            except Exception:  # noqa: BLE001 - the time of the other sessions goes on
                _log.exception("smtp_session_failed")
                session.abort()


async def listen(
    settings: Settings,
    policy: Policy,
    backend: Backend,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
) -> Listener:
    """Open a port over any backend, or take a socket that listens. Raises OSError when the address cannot be had."""
    loop = asyncio.get_running_loop()
    shared = Port(settings, policy, backend, loop, tls)

    def factory() -> Session:
        return Session(shared)

    if sock is not None:
        server = await loop.create_server(factory, sock=sock, backlog=settings.backlog)
    else:
        server = await loop.create_server(factory, host, port, backlog=settings.backlog)
    return Listener(shared, server)


async def serve(
    rt: "Runtime",
    settings: Settings,
    *,
    mode: Mode,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
) -> Listener:
    """Open a port of this house (or take ``sock``, which listens already); ``tls`` offers STARTTLS.

    Raises OSError when the address cannot be had.
    """
    policy: Policy = Reception() if mode == "reception" else Submission()
    return await listen(settings, policy, House(rt), host, port, tls=tls, sock=sock)


__all__ = ["Listener", "Mode", "Settings", "listen", "serve"]
