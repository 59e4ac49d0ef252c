"""Calls to URLs of users: what comes back, what takes too long, what may not be reached."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from restante.errors import Invalid, RemoteUnavailable
from restante.net import http
from restante.net.egress import Egress
from restante.net.http import HttpClient, require_url
from tests.fakes import FakeResolver

Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPBACK = ("127.0.0.0/8", "::1")


@asynccontextmanager
async def serving(answer: Answerer) -> AsyncIterator[int]:
    """A server that reads a request's head and then does what it wants."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(FakeResolver({("hook.test", "A"): ["127.0.0.1"]}), Egress(LOOPBACK))
    yield made
    await made.close()


@pytest.fixture
async def guarded() -> AsyncIterator[HttpClient]:
    """One that allows nothing near this server."""
    zone = {("inside.test", "A"): ["10.0.0.7", "::ffff:169.254.169.254"], ("mixed.test", "A"): ["127.0.0.1"]}
    made = HttpClient(FakeResolver(zone), Egress())
    yield made
    await made.close()


async def test_the_answer_comes_back(client: HttpClient) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")

    async with serving(answer) as port:
        got = await client.post(f"http://hook.test:{port}/in", b"{}", {"content-type": "application/json"})
    assert (got.status, got.body) == (202, b"ok")


async def test_a_redirect_is_an_answer(client: HttpClient) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")

    async with serving(answer) as port:
        assert (await client.post(f"http://hook.test:{port}/", b"", {})).status == 302


async def test_an_endless_answer_is_cut(client: HttpClient) -> None:
    written = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
        for _ in range(100_000):
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()

    async with serving(answer) as port:
        got = await client.post(f"http://hook.test:{port}/", b"", {})
    assert got.body == b"x" * 1024
    assert written < 64 * 1024 * 1024


async def test_silence_ends(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 0.2)

    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(answer) as port:
        with pytest.raises(RemoteUnavailable) as caught:
            await client.post(f"http://hook.test:{port}/", b"", {})
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000])
async def test_what_is_no_answer(client: HttpClient, reply: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()

    async with serving(answer) as port:
        with pytest.raises(RemoteUnavailable):
            await client.post(f"http://hook.test:{port}/", b"", {})


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://mixed.test:{port}/",
        "http://inside.test:{port}/latest/meta-data",
    ],
)
async def test_what_is_near_this_server_is_never_called(guarded: HttpClient, url: str) -> None:
    called = False

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal called
        called = True

    async with serving(answer) as port:
        with pytest.raises(RemoteUnavailable) as caught:
            await guarded.post(url.format(port=port), b"", {})
    assert not called
    if "test" in url or url.startswith(("http://127", "http://[")):
        assert caught.value.code == "egress_refused"


async def test_a_name_that_changes_is_judged_each_time() -> None:
    """DNS says a public address when asked first and this machine's afterwards."""
    resolver = FakeResolver({("turn.test", "A"): ["127.0.0.1"]})
    made = HttpClient(resolver, Egress())
    with pytest.raises(RemoteUnavailable) as caught:
        await made.post("http://turn.test:9/", b"", {})
    assert caught.value.code == "egress_refused"
    await made.close()


async def test_a_name_without_an_address(client: HttpClient) -> None:
    with pytest.raises(RemoteUnavailable) as caught:
        await client.post("http://nowhere.test/", b"", {})
    assert caught.value.code == "connection_failed"


@pytest.mark.parametrize("url", ["http://a.test/x?y=1", "https://a.test:8443/", "http://10.0.0.1/", "https://[::1]/"])
def test_urls(url: str) -> None:
    assert require_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.test",
        "ftp://a.test/",
        "http://",
        "http://u:p@a.test/",
        "http://a.test/#x",
        "http://a.test:0/",
        "http://a.test:99999/",
        "http://a.test/\r\nX: y",
        "http://a test/",
        "http://ä.test/",
        "javascript:alert(1)",
        "http://a.test/" + "x" * 2000,
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        require_url(url)
    assert caught.value.code == "invalid_url"
