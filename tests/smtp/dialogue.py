"""SMTP sessions without a network: a fake transport, a loop that runs work at once, a backend that remembers.

``converse`` is the fuzzer's way in: arbitrary bytes in arbitrary chunks go in, the replies come out.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restante import errors
from restante.config import SmtpLimits
from restante.core.access import Principal
from restante.core.routing import Route
from restante.ids import AccountId, DomainId, MailboxId
from restante.services.reception import Envelope, Receipt, Source
from restante.smtp.errors import UNEXPECTED
from restante.smtp.port import Policy, Port, Settings
from restante.smtp.reception import Reception
from restante.smtp.session import Session
from restante.storage.spool import Buffer

HOSTNAME = "mx.example.test"
ALICE = Principal(AccountId(1), MailboxId(1), None, "user", "alice@example.test", None)

_ROUTE_ERRORS: dict[str, errors.RestanteError] = {
    "full": errors.QuotaExceeded("full", code="over_quota"),
    "disabled": errors.Forbidden("disabled", code="mailbox_disabled"),
    "broken": errors.Unavailable("no database"),
    "odd": errors.Invalid("odd address"),
}


@dataclass
class MemoryBackend:
    """Domain example.test with alice (and her alias sales) and bob; keeps the messages it was given."""

    messages: list[tuple[Envelope, Source, bytes]] = field(default_factory=list)
    submitted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    failure: Exception | None = None  # what ``receive`` raises
    expected: int = 0  # messages under way
    bugs: int = 0  # how often ``bug@example.test`` was asked for, which fails as a bug would

    def expect(self, messages: int) -> None:
        self.expected += messages

    async def route(self, address: str, size_bytes: int) -> tuple[Route, ...]:
        local, _, domain = address.lower().rpartition("@")
        if domain == "inactive.test":
            raise errors.Forbidden("inactive", code="domain_inactive")
        if domain not in ("example.test", HOSTNAME):
            raise errors.Forbidden("elsewhere", code="relay_denied")
        if local == "bug":
            self.bugs += 1
            raise RuntimeError("secret detail")
        if local in _ROUTE_ERRORS:
            raise _ROUTE_ERRORS[local]
        number = {"alice": 1, "sales": 1, "bob": 2, "postmaster": 3, "josé": 4}.get(local.partition("+")[0])
        if number is None:
            raise errors.NotFound("nobody", code="mailbox_not_found")
        return (Route(AccountId(1), MailboxId(number), DomainId(1), address.lower(), address.lower()),)

    async def receive(self, envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
        if self.failure is not None:
            raise self.failure
        self.messages.append((envelope, source, bytes(raw)))
        return Receipt(f"receipt{len(self.messages)}", ())

    async def login(self, username: str, password: str, peer: str) -> Principal:
        if username == "limited":
            raise errors.RateLimited("slow down", retry_after_seconds=60)
        if (username, password) != ("alice@example.test", "secret"):
            raise errors.Unauthenticated("no")
        return ALICE

    async def submit(
        self, principal: Principal, sender: str, recipients: tuple[str, ...], source: Source, raw: Buffer
    ) -> Receipt:
        self.submitted.append((sender, recipients))
        return await self.receive(Envelope(sender, ()), source, raw)

    async def require_sender(self, principal: Principal, sender: str) -> None:
        if sender not in ("alice@example.test", "sales@example.test"):
            raise errors.Forbidden("not yours", code="sender_not_authorized")


class ManualLoop:
    """Runs each piece of work to its end at once; its clock moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def create_task(self, coro: Coroutine[Any, Any, None]) -> None:
        try:
            coro.send(None)
        except StopIteration:
            return
        raise AssertionError("the work waits for something")


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 12345)})
        self.written: list[bytes] = []
        self.is_closed = self.is_aborted = self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


def settings(directory: Path | None = None, **limits: int) -> Settings:
    """Settings with some of the operator's limits changed."""
    return Settings(HOSTNAME, directory or Path(tempfile.gettempdir()), SmtpLimits(**limits))


class Dialogue:
    """One session; ``say`` bytes to it, ``replies`` come back."""

    def __init__(
        self,
        backend: MemoryBackend | None = None,
        policy: Policy | None = None,
        options: Settings | None = None,
        peer: str = "192.0.2.1",
    ) -> None:
        self.backend = backend or MemoryBackend()
        self.loop = ManualLoop()
        self.port = Port(options or _SETTINGS, policy or _RECEPTION, self.backend, self.loop)
        self.transport = MemoryTransport(peer)
        self.session = Session(self.port)
        self.session.connection_made(self.transport)

    def say(self, data: bytes) -> bytes:
        """Send one segment; what was answered to it."""
        before = len(self.transport.written)
        if not self.transport.is_closed:
            self.session.data_received(data)
        return b"".join(self.transport.written[before:])

    def pass_time(self, seconds: float) -> bytes:
        """Let time pass and the listener look at the session."""
        self.loop.now += seconds
        before = len(self.transport.written)
        self.session.check(self.loop.now)
        return b"".join(self.transport.written[before:])

    def end(self) -> bytes:
        """The peer goes away; everything that was written."""
        self.session.connection_lost(None)
        return b"".join(self.transport.written)


_SETTINGS = settings()
_UNEXPECTED = UNEXPECTED.encode()
_RECEPTION = Reception()


def converse(chunks: Iterable[bytes], backend: MemoryBackend | None = None, policy: Policy | None = None) -> bytes:
    """Feed chunks of any bytes to a new session; every reply, the greeting first.

    Raises AssertionError when the session ran into an error of its own (it tells the peer 451 and logs it). Messages
    that were accepted are in ``backend.messages``.
    """
    backend = backend or MemoryBackend()
    dialogue = Dialogue(backend, policy)
    for chunk in chunks:
        if chunk:
            dialogue.say(chunk)
    replies = dialogue.end()
    assert replies.count(_UNEXPECTED) == backend.bugs, "the session failed"
    assert dialogue.port.receiving == backend.expected == 0, "a message was left behind"
    assert not dialogue.port.sessions, "the session was left behind"
    return replies
