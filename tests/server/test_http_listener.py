"""The listener itself: what is not HTTP, heads without end, TLS, closing."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from restante.config import Http, ListenAddress
from restante.http.calls import TRANSPORT
from restante.http.clients import Clients
from restante.net import certificates
from restante.server import http_listener, listeners
from restante.server.http_listener import HttpListener, Peers, serve_http


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Say how long the body was."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{scope['method']} {scope['path']} {size} {scope['scheme']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def start(tls: ssl.SSLContext | None = None, app: ASGIApp = hello, settings: Http | None = None) -> HttpListener:
    sock = listeners.open_listener(ListenAddress("127.0.0.1", 0), "--http")
    return await serve_http(app, [sock], settings or Http(), tls)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = await start()
    yield listener.ports[0]
    await listener.close()


async def exchange(port: int, *pieces: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Send pieces, then read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 60)
    except (ConnectionResetError, BrokenPipeError):
        return b""
    finally:
        writer.transport.abort()  # what it did not take would keep the socket open until the reset is here
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (b"GET /a HTTP/1.1\r\nconnection: close\r\n\r\n", [b"GET /a 0 http"]),
        (b"HEAD /a HTTP/1.1\r\nconnection: close\r\n\r\n", [b"\r\n\r\n"]),
        (
            b"POST /a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
            [b" 100 Continue\r\n\r\n", b"POST /a 2 http"],
        ),
        (
            b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nconnection: close\r\n\r\n",
            [b"GET /a 0 http", b"GET /b 0 http"],
        ),
    ],
)
async def test_head_and_body_are_one_write(request_: bytes, wanted: list[bytes]) -> None:
    written: list[bytes] = []

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope["extensions"][TRANSPORT]
        write = transport.write

        def note(data: bytes) -> None:
            written.append(bytes(data))
            write(data)

        if not written:
            transport.write = note
        await hello(scope, receive, send)

    listener = await start(app=noted)
    answer = await exchange(listener.ports[0], request_)
    await listener.close()
    assert answer == b"".join(written)
    assert len(written) == len(wanted)
    for piece, end in zip(written, wanted, strict=True):
        assert piece.startswith(b"HTTP/1.1 ")
        assert piece.endswith(end)


async def test_a_request(port: int) -> None:
    answer = await exchange(
        port, b"POST /a%20b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", b"abc"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"POST /a b 3 http")
    assert b"server:" not in answer.lower()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    ],
)
async def test_what_is_not_http(port: int, sent: bytes) -> None:
    answer = await exchange(port, sent)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert json.loads(body)["error"] == "BAD_REQUEST"
    assert b"connection: close" in head


@pytest.mark.parametrize("path", ["/api/v1/mailbox/jürgen@red.example/folders", "/search?q=é"])
async def test_raw_characters_in_a_url_are_refused_with_the_reason(port: int, path: str) -> None:
    answer = await exchange(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    problem = json.loads(body)
    assert (problem["success"], problem["error"], problem["detail"]) == (False, "BAD_REQUEST", problem["message"])
    assert "Percent-encode" in problem["message"]


@pytest.mark.parametrize(
    "piece", [b"X-Long: " + b"a" * 4000 + b"\r\n", b"a" * 4000], ids=["many fields", "one endless field"]
)
async def test_a_head_without_end(port: int, piece: bytes) -> None:
    answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", *[piece] * 200)
    assert answer == b"" or b" 431 Request Header Fields Too Large\r\n" in answer


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_url_that_is_too_long(port: int, pieces: int) -> None:
    """Whether it comes at once or not, its length alone is blamed."""
    request = b"GET /api/emails?search=" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    step = -(-len(request) // pieces)
    answer = await exchange(port, *[request[at : at + step] for at in range(0, len(request), step)])
    if pieces > 1 and not answer:
        return  # the connection was reset while the rest came
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 414 URI Too Long\r\n")
    assert json.loads(body)["message"] == "The URL is too long."


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start_of_it", "piece"),
    [
        (b"0\r\n", b"X-Trailer: " + b"a" * 4000 + b"\r\n"),
        (b"0\r\nX-Trailer: ", b"a" * 4000),
        (b"1;x=", b"a" * 4000),
    ],
    ids=["many trailers", "one endless trailer", "an endless chunk extension"],
)
async def test_framing_without_end(start_of_it: bytes, piece: bytes) -> None:
    """Not only the body of a request is bounded (by its handler), but all that comes around it."""
    closed: list[int] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        closed.append(sum(len(value) for _, value in scope["headers"]))

    listener = await start(app=counting)
    answer = await exchange(listener.ports[0], CHUNKED + start_of_it, *[piece] * 500)
    assert answer == b"" or b" 431 Request Header Fields Too Large\r\n" in answer
    await listener.close()
    assert closed
    assert closed[0] < http_listener.MAX_HEAD_BYTES + 256 * 1024, "and what one look at the socket may bring"


async def test_the_smallest_chunks_are_no_attack(port: int) -> None:
    body = b"1\r\nx\r\n" * 20_000
    last = b"0\r\nX-Sum: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(port, CHUNKED, body, last)
    assert b"POST / 20000 http" in answer
    assert answer.endswith(b"GET /next 0 http")


def test_peers_are_counted_by_address_and_subscriber() -> None:
    peers = Peers(Http(max_connections_per_peer=2, trusted_proxies=("192.0.2.0/24",)))
    for address in ("198.51.100.1", "2001:db8::1"):
        assert [peers.admit(address) for _ in range(3)] == [True, True, False]
    assert not peers.admit("2001:db8::ffff"), "the same subscriber"
    assert peers.admit("2001:db8:0:1::1")
    assert peers.admit("198.51.100.2")
    for exempt in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.7", ""):
        assert all(peers.admit(exempt) for _ in range(5))
    peers.leave("198.51.100.1")
    assert [peers.admit("198.51.100.1") for _ in range(2)] == [True, False]


async def test_a_peer_with_too_many_connections_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clients, "is_exempt", lambda *_: False)
    listener = await start(settings=Http(max_connections_per_peer=2))
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    held = [await asyncio.open_connection("127.0.0.1", listener.ports[0]) for _ in range(2)]
    for _, writer in held:
        writer.write(request[:10])
        await writer.drain()
    refused, other = await asyncio.open_connection("127.0.0.1", listener.ports[0])
    answer = await asyncio.wait_for(refused.read(), 60)
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "RATE_LIMITED"
    other.close()
    for reader, writer in held:
        writer.write(request[10:])
        assert (await reader.read()).endswith(b"GET / 0 http")
        writer.close()
    assert (await exchange(listener.ports[0], request)).endswith(b"GET / 0 http"), "as they are gone"
    await listener.close()


@pytest.fixture
async def head_timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """The timers of heads that are awaited; a test lets their time be over."""
    monkeypatch.setattr(http_listener, "HEAD_SECONDS", 600.25)
    loop, made = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: Any, **more: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, callback, *args, **more)
        if delay == http_listener.HEAD_SECONDS:
            made.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noted)
    return made


@pytest.mark.parametrize(
    ("answered", "head"),
    [(b"", b""), (b"", b"GET / HTTP/1.1\r\nHo"), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HT")],
)
async def test_a_head_that_does_not_come(head_timers: list[asyncio.TimerHandle], answered: bytes, head: bytes) -> None:
    listener = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports[0])
    writer.write(answered + head)
    if answered:
        await reader.readuntil(b"GET / 0 http")
    async with asyncio.timeout(60):
        connections = listener._server.server_state.connections
        while [one._is_in_head for one in connections] != [bool(head)]:  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    (timer,) = [one for one in head_timers if not one.cancelled()]
    timer._run()
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    await listener.close()


async def test_a_slow_body_is_not_a_slow_head(head_timers: list[asyncio.TimerHandle]) -> None:
    arrived = asyncio.Event()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await hello(scope, receive, send)

    listener = await start(app=noting)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports[0])
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\na")
    await asyncio.wait_for(arrived.wait(), 60)
    assert [timer.cancelled() for timer in head_timers] == [True]
    writer.write(b"b")
    assert (await reader.read()).endswith(b" 2 http")
    writer.close()
    await listener.close()


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    one, two = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(port, one + two)
    assert answer.index(b"GET /1 0") < answer.index(b"GET /2 0")


async def test_https(tmp_path: Path) -> None:
    cert, key = certificates.ensure(tmp_path, "mail.example.test", datetime.now(UTC))
    listener = await start(certificates.server_context(cert, key))
    trusting = ssl.create_default_context(cafile=str(cert))
    trusting.check_hostname = False
    request = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(listener.ports[0], request, tls=trusting)
    assert answer.endswith(b"GET /x 0 https")
    await listener.close()


async def test_an_answer_that_nobody_reads_does_not_hold_the_connection() -> None:
    answered = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
        await send({"type": "http.response.body", "body": b"x" * 50_000_000})
        answered.set()

    sock = listeners.open_listener(ListenAddress("127.0.0.1", 0), "--http")
    listener = await serve_http(flood, [sock], Http(keep_alive_seconds=1))
    client = socket.create_connection(("127.0.0.1", listener.ports[0]))
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(60):
        await answered.wait()
        while listener._server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
    assert count(client) < 50_000_000
    client.close()
    await listener.close()


def count(client: socket.socket) -> int:
    """Read all that is there."""
    total = 0
    try:
        while piece := client.recv(1 << 20):
            total += len(piece)
    except ConnectionResetError:
        pass
    return total


async def test_close_lets_an_answer_finish() -> None:
    arrived = asyncio.Event()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await hello(scope, receive, send)

    listener = await start(app=noting)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports[0])
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
    await writer.drain()
    await asyncio.wait_for(arrived.wait(), 60)
    closing = asyncio.create_task(listener.close())
    await asyncio.sleep(0)
    writer.write(b"b")
    assert b"POST / 2 http" in await reader.read()
    writer.close()
    await closing
