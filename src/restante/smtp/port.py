"""What all sessions of one listening port share: settings, policy, backend, counters, who is connected."""

import asyncio
import ipaddress
import ssl
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from restante.config import SmtpLimits
from restante.core.access import Principal
from restante.core.routing import Route
from restante.smtp.backend import Backend, Buffer, Receipt, Source
from restante.storage import spool
from restante.storage.room import Room
from restante.wire import sasl, smtp

if TYPE_CHECKING:
    from restante.smtp.connection import Connection
    from restante.smtp.transaction import Transaction

HANDSHAKE_TIMEOUT_SECONDS = 30.0
MIN_SPOOL_MEMORY = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set (``limits``) and what needs no setting; times in seconds, rate in bytes a second.

    A message must come at ``min_data_rate`` on average once ``data_grace_seconds`` have passed. All unfinished messages
    together hold at most about ``spool_memory_bytes``; what is over goes to files in ``spool_directory`` sooner. These
    leave the disk the room that ``room`` wants.
    """

    hostname: str
    spool_directory: Path
    limits: SmtpLimits = field(default_factory=SmtpLimits)
    room: Room | None = None
    min_data_rate: int = 256
    data_grace_seconds: float = 60.0
    linger_seconds: float = 5.0
    spool_memory_bytes: int = 64 * 1024 * 1024
    max_idle_commands: int = 100
    backlog: int = 1024


@dataclass(slots=True)
class Counters:
    """Figures for the metrics; they only grow, except ``connections_open``. Refusals are counted by ``550 5.1.1``."""

    connections_accepted: int = 0
    connections_refused: int = 0
    connections_open: int = 0
    messages_accepted: int = 0
    messages_refused: dict[str, int] = field(default_factory=dict)
    recipients_accepted: int = 0
    recipients_refused: dict[str, int] = field(default_factory=dict)
    logins_accepted: int = 0
    logins_refused: int = 0
    tls_handshakes: int = 0
    bytes_received: int = 0


def count(counter: dict[str, int], reply: smtp.Reply) -> None:
    """Add one refusal under the reply's codes."""
    key = f"{reply.code} {reply.enhanced}"
    counter[key] = counter.get(key, 0) + 1


class Policy(Protocol):
    """What differs between reception and submission."""

    @property
    def requires_login(self) -> bool:
        """Whether MAIL needs AUTH before it, and so whether AUTH is offered."""
        ...

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Let the sender pass, or raise Forbidden."""
        ...

    async def route(self, backend: Backend, address: str, size_bytes: int) -> tuple[Route, ...]:
        """Let a recipient pass and say which mailboxes it is, where that is known now; or raise."""
        ...

    async def keep(
        self, backend: Backend, principal: Principal | None, transaction: "Transaction", source: Source, raw: Buffer
    ) -> Receipt:
        """Keep a message for its recipients; returns only when it is durably stored."""
        ...


class Loop(Protocol):
    """The part of an event loop that a session uses (the fuzzer brings its own)."""

    def time(self) -> float: ...
    def create_task(self, coro: Coroutine[Any, Any, None]) -> object: ...


class Port:
    """One per listener. ``draining`` is set when it closes: no new transaction starts then."""

    def __init__(
        self, settings: Settings, policy: Policy, backend: Backend, loop: Loop, tls: ssl.SSLContext | None = None
    ) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.policy = policy
        self.backend = backend
        self.loop = loop
        self.tls = tls
        self.counters = Counters()
        self.sessions: set[Connection] = set()
        self.draining = False
        self.receiving = 0  # messages that are arriving now
        self.emptied = asyncio.Event()
        self.greeting = smtp.reply(220, "", f"{settings.hostname} ESMTP Restante")
        self._refused: dict[str, int] = {}
        self._by_peer: dict[str, int] = {}
        self._ehlo: dict[tuple[bool, bool], bytes] = {}

    def admit(self, session: "Connection", peer: str) -> smtp.Reply | None:
        """Count a new connection in; the reply to send instead of a greeting when there are too many."""
        refusal = None
        if self.draining:
            refusal = smtp.Reply(421, "4.3.2", "Shutting down, try again later")
        elif len(self.sessions) >= self.limits.max_connections:
            refusal = smtp.Reply(421, "4.7.0", "Too many connections, try again later")
        elif self._by_peer.get(peer, 0) >= self.limits.max_connections_per_peer and not is_loopback(peer):
            refusal = smtp.Reply(421, "4.7.0", "Too many connections from your address, try again later")
        if refusal is not None:
            self.counters.connections_refused += 1
            return refusal
        self.counters.connections_accepted += 1
        self.counters.connections_open += 1
        self.sessions.add(session)
        self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        return None

    def leave(self, session: "Connection", peer: str) -> None:
        """Count a connection out; one that was not let in changes nothing."""
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        self.counters.connections_open -= 1
        left = self._by_peer.get(peer, 1) - 1
        if left:
            self._by_peer[peer] = left
        else:
            self._by_peer.pop(peer, None)
        if not self.sessions:
            self.emptied.set()

    def count_refused(self, reply: smtp.Reply, addresses: Iterable[str]) -> None:
        """Count recipients of domains of ours that were refused mail from outside for good."""
        if reply.code < 500 or self.policy.requires_login:
            return
        for address in addresses:
            domain = address.rpartition("@")[2].lower()
            self._refused[domain] = self._refused.get(domain, 0) + 1

    def take_refused(self) -> dict[str, int]:
        """Recipients refused since the last call, by domain: there are no more keys than local domains."""
        taken, self._refused = self._refused, {}
        return taken

    def begin_message(self) -> None:
        """A message begins to arrive."""
        self.receiving += 1
        self.backend.expect(1)

    def end_message(self) -> None:
        """A message that began is answered, or will never be."""
        self.receiving -= 1
        self.backend.expect(-1)

    def new_spool(self) -> spool.Spool:
        """Where the next message waits; the more arrive at once, the less memory each may take."""
        share = self.settings.spool_memory_bytes // max(self.receiving, 1)
        limit = max(MIN_SPOOL_MEMORY, min(spool.MEMORY_LIMIT, share))
        return spool.Spool(self.settings.spool_directory, limit, self.settings.room)

    def offers_auth(self, *, is_private: bool) -> bool:
        """Whether AUTH is offered: where logins are needed, and only where nobody can listen (RFC 4954 §4)."""
        return self.policy.requires_login and is_private

    def extensions(self, *, is_private: bool) -> frozenset[str]:
        """The parameters of MAIL that go with what EHLO offered (RFC 4954 §5 for AUTH)."""
        return _EXTENSIONS_AUTH if self.offers_auth(is_private=is_private) else _EXTENSIONS

    def ehlo(self, *, has_tls: bool, is_private: bool) -> bytes:
        """The reply to EHLO."""
        key = (has_tls, is_private)
        found = self._ehlo.get(key)
        if found is None:
            lines = [self.settings.hostname, "PIPELINING", f"SIZE {self.limits.max_message_bytes}", "8BITMIME"]
            lines += ["SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"]
            if self.tls is not None and not has_tls:
                lines.append("STARTTLS")
            if self.offers_auth(is_private=is_private):
                lines.append("AUTH " + " ".join(sasl.MECHANISMS))
            found = self._ehlo[key] = smtp.reply(250, "", *lines, "HELP")
        return found


_EXTENSIONS = frozenset({"SIZE", "BODY", "SMTPUTF8"})
_EXTENSIONS_AUTH = _EXTENSIONS | {"AUTH"}


def is_loopback(peer: str) -> bool:
    """Whether an IP address is this machine's own."""
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
