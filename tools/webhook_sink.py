"""A place that webhooks and automations call, cheap enough to measure the caller.

``python -m tools.webhook_sink`` prints its port. POST is answered 200 and counted, with the time since the event (of an
automation: since the message got its id); GET gives the count and the times since the last GET.
"""

import asyncio
import json
import time
from datetime import datetime
from typing import cast

import uvloop

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_STAMP = b'"timestamp":"'
_CALL = b"webhook-id: msg_"
_OF_AUTOMATION = 65  # characters of two ids; of a webhook's call the second part is a number


class Sink:
    """What all connections counted."""

    def __init__(self) -> None:
        self.count = 0
        self.stamps: list[tuple[float, bytes]] = []

    def report(self) -> bytes:
        """The figures as JSON; lags in seconds."""
        lags = [at - _moment(stamp.decode()) for at, stamp in self.stamps]
        self.stamps.clear()
        return json.dumps({"count": self.count, "lags": lags}).encode()


class Connection(asyncio.Protocol):
    """Reads requests with a length, one after another."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._buffer = sink, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has transports of its own

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            if head.startswith(b"get"):
                body = self._sink.report()
                self._buffer = self._buffer[end + 4 :]
                self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                continue
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + size:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
            self._sink.count += 1
            self._sink.stamps.append((time.time(), _stamp(head, body)))
            self._transport.write(_OK)


def _stamp(head: bytes, body: bytes) -> bytes:
    """What tells when it happened: the event's time, or the first half of a message's id (RFC 9562 §5.7)."""
    call = head.partition(_CALL)[2].partition(b"\r\n")[0]
    if len(call) == _OF_AUTOMATION:
        return call[33:45]
    start = body.index(_STAMP) + len(_STAMP)
    return body[start : start + 27]


def _moment(stamp: str) -> float:
    return int(stamp, 16) / 1000 if len(stamp) == 12 else datetime.fromisoformat(stamp).timestamp()


async def serve() -> None:
    """Until it is ended."""
    sink = Sink()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(sink), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
