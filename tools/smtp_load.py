"""A load generator for SMTP: an ``asyncio.Protocol`` with bytes made ready beforehand, so that it costs little CPU.

A message is three steps, as Postfix's own client does them: MAIL, RCPT and DATA in one segment (RFC 2920), the bytes
and the final dot after 354, and a count only after 250 (RFC 5321 §4.2.5). A refused message is counted by its answer.
"""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from tools.mailgen import Mail

Acknowledged = Callable[[Mail, bytes], None]


@dataclass(slots=True)
class Load:
    """What came of it. ``seconds`` runs from the first command to the last answer."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lost_connections: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Accepted messages a second."""
        return self.accepted / self.seconds if self.seconds else 0.0


class Client(asyncio.Protocol):
    """One connection that sends message after message until the source is empty or the time is up."""

    def __init__(
        self,
        source: Iterator[Mail],
        deadline: float,
        load: Load,
        on_accept: Acknowledged | None,
        login: tuple[str, str] | None,
    ) -> None:
        self._source = source
        self._deadline = deadline
        self._load = load
        self._on_accept = on_accept
        self._login = login
        self._buffer = b""
        self._mail: Mail | None = None
        self._expected = 0  # answers still to come to the pipelined commands
        self._started = 0.0
        self._step: Callable[[bytes], None] = self._greeted
        self._transport: asyncio.Transport | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        lines = (self._buffer + data).split(b"\r\n") if self._buffer else data.split(b"\r\n")
        self._buffer = lines.pop()
        for line in lines:
            if line[3:4] != b"-":
                self._step(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._load.lost_connections += 1
            self.finished.set_result(None)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _greeted(self, line: bytes) -> None:
        if line[:3] != b"220":
            self._refuse(line)
            return
        self._step = self._answered_ehlo
        self._write(b"EHLO load.example.net\r\n")

    def _answered_ehlo(self, _line: bytes) -> None:
        if self._login is None:
            self._next()
            return
        secret = base64.b64encode("\0{}\0{}".format(*self._login).encode())
        self._step = self._answered_auth
        self._write(b"AUTH PLAIN " + secret + b"\r\n")

    def _answered_auth(self, line: bytes) -> None:
        if line[:3] != b"235":
            self._refuse(line)
            return
        self._next()

    def _next(self) -> None:
        is_in_time = self._mail is None or time.perf_counter() < self._deadline
        mail = next(self._source, None) if is_in_time else None
        self._mail = mail
        if mail is None:
            self._step = self._answered_quit
            self._write(b"QUIT\r\n")
            return
        self._started = time.perf_counter()
        self._expected = 3
        self._step = self._answered_envelope
        self._write(mail.envelope)

    def _answered_envelope(self, line: bytes) -> None:
        self._expected -= 1
        if line[:1] not in b"23":
            self._load.refused[line[:9].decode("ascii", "replace")] += 1
            self._step = self._skip if self._expected else self._step
            if not self._expected:
                self._reset()
        elif not self._expected:
            assert self._mail is not None
            self._step = self._answered_data
            self._write(b"".join((*self._mail.pieces, b".\r\n")))

    def _skip(self, line: bytes) -> None:
        """Take the answers that follow a refused command; a 354 among them must still be given an end."""
        self._expected -= 1
        if not self._expected:
            if line[:3] == b"354":
                self._step = self._answered_empty
                self._write(b".\r\n")
            else:
                self._reset()

    def _answered_empty(self, _line: bytes) -> None:
        self._reset()

    def _reset(self) -> None:
        self._step = self._answered_reset
        self._write(b"RSET\r\n")

    def _answered_reset(self, _line: bytes) -> None:
        self._next()

    def _answered_data(self, line: bytes) -> None:
        if line[:3] == b"250":
            self._load.accepted += 1
            self._load.latencies.append(time.perf_counter() - self._started)
            if self._on_accept is not None:
                assert self._mail is not None
                self._on_accept(self._mail, line)
        else:
            self._load.refused[line[:9].decode("ascii", "replace")] += 1
        self._next()

    def _refuse(self, line: bytes) -> None:
        self._load.refused[line[:9].decode("ascii", "replace")] += 1
        self._close()

    def _answered_quit(self, _line: bytes) -> None:
        self._close()

    def _close(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def send(
    address: tuple[str, int],
    mails: Sequence[Mail] | Iterator[Mail],
    *,
    connections: int,
    seconds: float = float("inf"),
    on_accept: Acknowledged | None = None,
    login: tuple[str, str] | None = None,
) -> Load:
    """Send ``mails`` over ``connections`` connections until all are sent or ``seconds`` are over; one pass, no repeats.

    However slow the first answers are, each connection sends one message at least. With a ``login`` each says AUTH
    first. A connection that breaks is counted and not opened again.
    ``on_accept`` gets each message that was answered 250, and the answer.
    """
    loop = asyncio.get_running_loop()
    load = Load()
    source = iter(mails)
    started = time.perf_counter()
    clients = []
    for _ in range(connections):
        try:
            _transport, client = await loop.create_connection(
                lambda: Client(source, started + seconds, load, on_accept, login), *address
            )
        except OSError:
            load.lost_connections += 1
            continue
        clients.append(client)
    await asyncio.gather(*(client.finished for client in clients))
    load.seconds = time.perf_counter() - started
    return load
