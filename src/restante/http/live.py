"""Live streams: server-sent events of an account's log to any number of open connections.

One reader per account: a wake-up costs one read of the store, each event is encoded once, and its bytes go straight to
the transports of those that want them. A stream owns nothing but its cursor: one whose client is slow gets no more
bytes until it has read those it has, and then catches up from the store.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Receive

from restante import log
from restante.core import events, tokens
from restante.core.access import Principal
from restante.core.events import Event, EventPage
from restante.errors import Conflict, NotFound, RestanteError
from restante.ids import AccountId, EventNumber, MailboxId
from restante.runtime import Runtime

PAGE = 500  # events of one read
HEARTBEAT_SECONDS = 15.0
STALL_SECONDS = 60.0  # a client that takes nothing for so long is cut off
LIFETIME_SECONDS = 3600.0  # then a stream ends, and its client comes back with Last-Event-ID
BUFFERED_MAX = 64 * 1024  # bytes that wait for one client
CATCH_UP_SECONDS = 0.05  # between two looks at streams that are behind
TURN_STREAMS = 100  # streams that are written to in one turn of the loop
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

    def chunk(self, data: bytes) -> bytes:
        """Bytes as they go to this connection: one chunk (RFC 9112 §7.1), or as they are; nothing stays nothing."""
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self.is_chunked else data

    def write(self, chunk: bytes) -> None:
        """Hand a chunk to the transport."""
        if chunk and not self.transport.is_closing():
            self.transport.write(chunk)

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
        self._is_stale = True  # the log may have grown
        self._reach = EventNumber(0)  # of the log, as far as it was read
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
                    began = self._loop.time()
                    is_behind = await self._feed()
                    now = self._loop.time()
                    if now >= beat_at:
                        await self._beat(now)
                        beat_at = now + HEARTBEAT_SECONDS
                    await asyncio.sleep(self._loop.time() - began)  # many streams take half of the loop at most
                    pause = CATCH_UP_SECONDS if is_behind else beat_at - self._loop.time()
                    arrived = asyncio.create_task(self._arrived.wait())
                    try:
                        await asyncio.wait((waiting, arrived), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        arrived.cancel()
                    self._arrived.clear()
                    if waiting.done():
                        self._is_stale = True
                        waiting = asyncio.create_task(changes.wait())
            finally:
                waiting.cancel()

    async def _feed(self) -> bool:
        """Bring every stream up to the log's end, a read and a page at a time; whether a slow client's is left behind.

        Where nobody is slow that is one read for a wake-up.
        """
        try:
            while behind := [one for one in self._behind() if not one.is_full]:
                start = min(one.cursor for one in behind)
                try:
                    page = await self._rt.db.read(events.list_after, self._account_id, start, PAGE)
                except Conflict:  # pruned: their clients come back and are told
                    for stream in behind:
                        if stream.cursor == start:
                            stream.end()
                    continue
                if page.is_last:
                    self._is_stale = False
                self._reach = max(self._reach, page.cursor)
                await self._hand_out(page, behind)
                if any(event.type.startswith(_TOUCHING_ACCESS) for event in page.events):
                    await self._drop_unauthorised()
                await asyncio.sleep(0)  # reads may take no turn of the loop
        except NotFound:
            self.end_all()
            return False
        except RestanteError as error:
            _log.warning("live streams wait", account_id=self._account_id, reason=error.code)
            return True
        return bool(self._behind())

    def _behind(self) -> list[Stream]:
        """The streams for which there is, or may be, more in the log."""
        is_stale, reach = self._is_stale, self._reach
        return [one for one in self.streams if (is_stale or one.cursor < reach) and not one.transport.is_closing()]

    async def _hand_out(self, page: EventPage, streams: Sequence[Stream]) -> None:
        """Give each stream what it wants of a page; those that want the same from the same place share the bytes."""
        encoded: dict[EventNumber, bytes] = {}
        shared: dict[tuple[Filter, EventNumber, bool], bytes] = {}
        for count, stream in enumerate(streams, 1):
            if stream.cursor >= page.cursor:
                continue
            key = stream.filter, stream.cursor, stream.is_chunked
            chunk = shared.get(key)
            if chunk is None:
                wanted = [one for one in page.events if one.number > stream.cursor and stream.filter.wants(one)]
                for event in wanted:
                    if event.number not in encoded:
                        encoded[event.number] = self._encode(event)
                chunk = shared[key] = stream.chunk(b"".join(encoded[event.number] for event in wanted))
            stream.write(chunk)
            stream.cursor = page.cursor
            if count % TURN_STREAMS == 0:
                await asyncio.sleep(0)

    async def _drop_unauthorised(self) -> None:
        """End the streams of tokens that work no more."""
        held = {one.principal.token_id for one in self.streams if one.principal.token_id is not None}
        sound = await self._rt.db.read(tokens.find_usable, self._account_id, held, self._rt.clock.now())
        for stream in list(self.streams):
            if stream.principal.token_id not in sound:
                stream.end()

    async def _beat(self, now: float) -> None:
        for count, stream in enumerate(list(self.streams), 1):
            if now - stream.opened_at > LIFETIME_SECONDS:
                stream.end()
            elif not stream.transport.get_write_buffer_size():
                stream.taken_at = now
                stream.write(stream.chunk(_COMMENT))
            elif now - stream.taken_at > STALL_SECONDS:
                with contextlib.suppress(RuntimeError):
                    stream.transport.abort()
            if count % TURN_STREAMS == 0:
                await asyncio.sleep(0)
