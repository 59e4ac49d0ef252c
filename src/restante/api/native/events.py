"""The event log, as pages and as a live stream."""

import asyncio
import re

import msgspec
from starlette.types import Send

from restante.api.native import auth, shapes
from restante.core import access, event_types, events
from restante.core.access import Principal
from restante.core.events import Event
from restante.http import schemas
from restante.http.answers import Headers, Reply
from restante.http.calls import Call
from restante.http.live import Filter, Live, Stream
from restante.http.problems import Problem, Refused
from restante.ids import EventNumber

SCOPE = "events:read"
STREAM = b"text/event-stream"
_NUMBER = re.compile(r"[0-9]{1,18}")
_HEADERS: Headers = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))  # nginx passes on at once
_RETRY = b"retry: 2000\n\n"


def encode(item: Event) -> bytes:
    """An event as the standard's text: id, event, data."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        item.number,
        item.type.encode(),
        msgspec.json.encode(shapes.event(item)),
    )


class EventStream:
    """The answer that stays open: the head, what lies behind the cursor, and then events as they happen."""

    def __init__(self, call: Call, live: Live, principal: Principal, wanted: Filter, cursor: EventNumber) -> None:
        self._call, self._live = call, live
        self._principal, self._wanted, self._cursor = principal, wanted, cursor

    async def send(self, send: Send) -> None:
        """Stay until the client is gone, the token ends or the server stops."""
        head = [(b"content-type", STREAM), *_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
        now = asyncio.get_running_loop().time()
        is_chunked = self._call.scope["http_version"] == "1.1"
        stream = Stream(self._call.transport(), self._principal, self._wanted, self._cursor, now, is_chunked=is_chunked)
        await self._live.follow(stream, self._call.receive)


class Events:
    """The handlers; they share the server's live streams."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_events(self, call: Call) -> Reply:
        """What happened, oldest first; with `Accept: text/event-stream` as a stream that resumes at `Last-Event-ID`."""
        principal = await auth.require(call, SCOPE)
        query = schemas.query(call, shapes.EventQuery)
        mailbox_id = principal.mailbox_id
        if query.mailbox:
            mailbox_id = (await call.rt.db.read(access.require_own_mailbox, principal, query.mailbox)).id
        names = [name.strip() for name in query.types.split(",") if name.strip()]
        types = None if names == ["*"] else event_types.expand(names)
        wanted = Filter(types, mailbox_id)
        after = EventNumber(query.after)
        if STREAM.decode() in (call.header(b"accept") or "") and not call.is_head:
            return await self._open(call, principal, wanted, after)
        page = await call.rt.db.read(
            events.list_after, principal.account_id, after, query.limit, types=types, mailbox_id=mailbox_id
        )
        items = [shapes.event(item) for item in page.events]
        return shapes.answer(shapes.EventList(items, int(page.cursor), page.is_last))

    async def _open(self, call: Call, principal: Principal, wanted: Filter, after: EventNumber) -> EventStream:
        """Begin at Last-Event-ID, at ``after``, or (with neither) now."""
        resumed = call.header(b"last-event-id")
        newest, _ = await call.rt.db.read(events.bounds, principal.account_id)
        cursor = after or newest
        if resumed is not None:
            if not _NUMBER.fullmatch(resumed.strip()):
                problem = Problem(422, "invalid_cursor", "Last-Event-ID is the number of an event.")
                raise Refused(problem)
            cursor = EventNumber(int(resumed))
        await call.rt.db.read(events.list_after, principal.account_id, cursor, 1)  # refuses pruned and future ones
        return EventStream(call, self._live, principal, wanted, cursor)
