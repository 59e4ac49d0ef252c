"""Live streams: server-sent events of an account's log to any number of open connections.

One reader per account: a wake-up costs one read of the store, each event is encoded once, and its bytes go straight to
the transports of those that want them. A stream owns nothing but its cursor: one whose client is slow gets no more
bytes until it has read those it has, and then catches up from the store.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.types import Receive

from restante import log
from restante.core import events, tokens
from restante.core.access import Principal
from restante.core.events import Event
from restante.errors import NotFound, RestanteError
from restante.ids import AccountId, EventNumber, MailboxId
from restante.runtime import Runtime

PAGE = 500  # events of one read
HEARTBEAT_SECONDS = 15.0
STALL_SECONDS = 60.0  # a client that takes nothing for so long is cut off
LIFETIME_SECONDS = 3600.0  # then a stream ends, and its client comes back with Last-Event-ID
BUFFERED_MAX = 64 * 1024  # bytes that wait for one client
CATCH_UP_SECONDS = 0.05  # between two looks at streams that are behind
_COMMENT = b": still here\n\n"
_TOUCHING_ACCESS = ("token.", "mailbox.", "account.")

_log = log.logger(__name__)

Encode = Callable[[Event], bytes]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a stream wants; streams with equal filters share their bytes."""

    types: frozenset[str] | None
    mailbox_id: MailboxId | None

    def wants(self, event: Event) -> bool:
        """Whether this event is among them."""
        return (self.types is None or event.type in self.types) and self.mailbox_id in (None, event.mailbox_id)


class Stream:
    """One open connection. ``cursor``: the last event that it got or did not want."""

    __slots__ = ("cursor", "filter", "is_chunked", "opened_at", "principal", "taken_at", "transport")

    def __init__(
        self, transport: asyncio.Transport, principal: Principal, wanted: Filter, cursor: EventNumber, now: float, *,
        is_chunked: bool,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.principal = principal
        self.filter = wanted
        self.cursor = cursor
        self.is_chunked = is_chunked
        self.opened_at = now
        self.taken_at = now  # when the client had last read all it was sent

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport as one chunk (RFC 9112 §7.1)."""
        if data and not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    @property
    def is_full(self) -> bool:
        """Whether its client is behind in reading."""
        return self.transport.get_write_buffer_size() > BUFFERED_MAX

    def end(self) -> None:
        """Finish the body properly and close."""
        if not self.transport.is_closing():
            if self.is_chunked:
                self.transport.write(b"0\r\n\r\n")
            self.transport.close()


class Live:
    """The open streams of one server."""

    def __init__(self, rt: Runtime, encode: Encode) -> None:
        self._rt = rt
        self._encode = encode
        self._hubs: dict[int, _Hub] = {}

    async def follow(self, stream: Stream, receive: Receive) -> None:
        """Feed a stream, whose head is sent, until its client is gone or it is ended."""
        account_id = stream.principal.account_id
        hub = self._hubs.get(account_id)
        if hub is None:
            hub = self._hubs[account_id] = _Hub(self._rt, account_id, self._encode)
        hub.add(stream)
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            if hub.remove(stream):
                self._hubs.pop(account_id, None)

    def close(self) -> None:
        """End every stream."""
        for hub in list(self._hubs.values()):
            hub.end_all()

    @property
    def open(self) -> int:
        """How many streams there are."""
        return sum(len(hub.streams) for hub in self._hubs.values())


class _Hub:
    """The streams of one account, and the task that feeds them."""

    def __init__(self, rt: Runtime, account_id: AccountId, encode: Encode) -> None:
        self.streams: set[Stream] = set()
        self._rt = rt
        self._account_id = account_id
        self._encode = encode
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"live-{account_id}")

    def add(self, stream: Stream) -> None:
        """Feed a stream from now on."""
        self.streams.add(stream)
        self._arrived.set()

    def remove(self, stream: Stream) -> bool:
        """Forget a stream; whether it was the last."""
        self.streams.discard(stream)
        if self.streams:
            return False
        self._task.cancel()
        return True

    def end_all(self) -> None:
        """End every stream of the account."""
        for stream in list(self.streams):
            stream.end()

    async def _run(self) -> None:
        beat_at = self._loop.time() + HEARTBEAT_SECONDS
        with self._rt.signals.subscribe(self._account_id) as changes:
            waiting = asyncio.create_task(changes.wait())
            try:
                while True:
                    is_behind = await self._feed()
                    now = self._loop.time()
                    if now >= beat_at:
                        self._beat(now)
                        beat_at = now + HEARTBEAT_SECONDS
                    pause = CATCH_UP_SECONDS if is_behind else beat_at - now
                    arrived = asyncio.create_task(self._arrived.wait())
                    await asyncio.wait((waiting, arrived), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    arrived.cancel()
                    self._arrived.clear()
                    if waiting.done():
                        waiting = asyncio.create_task(changes.wait())
            finally:
                waiting.cancel()

    async def _feed(self) -> bool:
        """Bring every stream up to the log's end, a page at a time; whether one with a slow client is left behind."""
        try:
            newest, _ = await self._rt.db.read(events.bounds, self._account_id)
            while behind := [one for one in self.streams if one.cursor < newest and not one.is_full]:
                start = min(one.cursor for one in behind)
                await self._feed_from(start, [one for one in behind if one.cursor == start])
                newest, _ = await self._rt.db.read(events.bounds, self._account_id)
                await asyncio.sleep(0)  # reads may take no turn of the loop
        except NotFound:
            self.end_all()
            return False
        except RestanteError as error:
            _log.warning("live streams wait", account_id=self._account_id, reason=error.code)
            return True
        return any(one.cursor < newest for one in self.streams)

    async def _feed_from(self, start: EventNumber, streams: Iterable[Stream]) -> None:
        """Give the streams that stand at ``start`` the next page."""
        try:
            page = await self._rt.db.read(events.list_after, self._account_id, start, PAGE)
        except RestanteError as error:
            if error.code != "events_pruned":
                raise
            for stream in streams:
                stream.end()  # its client comes back and is told
                stream.cursor = EventNumber(2**62)
            return
        encoded = [(event, self._encode(event)) for event in page.events]
        shared: dict[Filter, bytes] = {}
        for stream in streams:
            data = shared.get(stream.filter)
            if data is None:
                data = shared[stream.filter] = b"".join(text for event, text in encoded if stream.filter.wants(event))
            stream.write(data)
            stream.cursor = page.cursor
        if any(event.type.startswith(_TOUCHING_ACCESS) for event in page.events):
            await self._drop_unauthorised()

    async def _drop_unauthorised(self) -> None:
        """End the streams of tokens that work no more."""
        held = {one.principal.token_id for one in self.streams if one.principal.token_id is not None}
        sound = await self._rt.db.read(tokens.find_usable, self._account_id, held, self._rt.clock.now())
        for stream in list(self.streams):
            if stream.principal.token_id not in sound:
                stream.end()

    def _beat(self, now: float) -> None:
        for stream in list(self.streams):
            if now - stream.opened_at > LIFETIME_SECONDS:
                stream.end()
            elif not stream.transport.get_write_buffer_size():
                stream.taken_at = now
                stream.write(_COMMENT)
            elif now - stream.taken_at > STALL_SECONDS:
                with contextlib.suppress(RuntimeError):
                    stream.transport.abort()
