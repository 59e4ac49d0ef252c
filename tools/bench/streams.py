"""Live streams: how soon a thousand readers know of a new mail, and what thousands of idle ones hold."""

import asyncio
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tools import smtp_load
from tools.bench.memory import pss
from tools.bench.report import Options, Table, Target, say
from tools.mailgen import Generator, Mail
from tools.server import Server, command

READERS = 1_000
MAILS = 60
IDLE = 5_000
AT_ONCE = 100  # connections that are being opened
PAUSE_SECONDS = 0.1  # between two mails
SETTLE_SECONDS = 3.0
WATCH_SECONDS = 16.0  # longer than from one heartbeat to the next
WAIT_SECONDS = 60.0
MOST_LATE_MS, MOST_MIB = 50.0, 250.0
_MAIL = b"event: message.received\n"


class Readers:
    """What all open streams have seen: when each of them got the newest mail."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.beats = 0
        self.lost = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    def got(self, count: int) -> None:
        """One of them got so many mails."""
        self.times += [time.perf_counter()] * count
        if len(self.times) >= self._wanted:
            self._enough.set()

    async def take(self, count: int) -> list[float]:
        """When so many mails had been got, since the last time."""
        self._wanted = count
        self._enough.clear()
        if len(self.times) < count:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._enough.wait()
        if len(self.times) > count:
            raise AssertionError(f"{len(self.times)} mails came instead of {count}")
        taken, self.times = self.times, []
        return taken


class Reader(asyncio.Protocol):
    """One stream; ``opened`` is done when its first bytes of the body are there."""

    def __init__(self, request: bytes, readers: Readers) -> None:
        self._request, self._readers, self._head = request, readers, b""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._head += data
            if not self._head.startswith(b"HTTP/1.1 200"):
                self.opened.set_exception(AssertionError(f"not a 200: {data!r}"))
            elif b"retry:" in self._head:
                self.opened.set_result(None)
        elif _MAIL in data:
            self._readers.got(data.count(_MAIL))
        else:
            self._readers.beats += b"still here" in data

    def connection_lost(self, exc: Exception | None) -> None:
        self._readers.lost += 1
        self.closed.set_result(None)
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("the server closed the connection"))


def run(options: Options) -> list[Table]:
    """A thousand readers and mails one by one; then idle streams on a server of their own."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    is_quick = options.seconds < 10
    readers, idle = (READERS // 5, IDLE // 10) if is_quick else (READERS, IDLE)
    try:
        with _enough_files(idle + 500):
            with Server(base / "fast") as server:
                late = uvloop.run(_latencies(server, _token(base / "fast"), readers))
            say(f"  {readers} readers: p95 {_part(late, 95):.1f} ms")
            with Server(base / "idle") as server:
                held, beating = uvloop.run(_held(server, _token(base / "idle"), idle))
            say(f"  {idle} idle streams: {held:.0f} MiB")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return [_latency_table(readers, late), _memory_table(idle, held, beating)]


@contextmanager
def _enough_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, count), hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _token(data_dir: Path) -> str:
    made = command(data_dir, "token", "create", "--dialect", "native", "--account", "default", "--rate-limit", "none")
    return str(made["token"])


@asynccontextmanager
async def _opened(server: Server, token: str, count: int) -> AsyncIterator[Readers]:
    """So many streams, open and silent."""
    readers, opened = Readers(), []
    place = urlsplit(server.http)
    head = f"GET /restante/v1/events HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {token}\r\n"
    request = f"{head}accept: text/event-stream\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    for begin in range(0, count, AT_ONCE):
        made = [
            loop.create_connection(lambda: Reader(request, readers), str(place.hostname), int(place.port or 0))
            for _ in range(min(AT_ONCE, count - begin))
        ]
        opened += [reader for _, reader in await asyncio.gather(*made)]
        await asyncio.gather(*(reader.opened for reader in opened[begin:]))
    try:
        yield readers
        if readers.lost:
            raise AssertionError(f"{readers.lost} streams were lost")
    finally:
        for reader in opened:
            reader.transport.close()
        await asyncio.gather(*(reader.closed for reader in opened))


async def _latencies(server: Server, token: str, count: int) -> list[float]:
    """Milliseconds from a mail's 250 to each reader, sorted."""
    mails = Generator(3).take(MAILS + 5)
    found: list[float] = []
    async with _opened(server, token, count) as readers:
        await smtp_load.send(server.smtp, mails[:5], connections=1)
        await readers.take(5 * count)
        for mail in mails[5:]:
            await asyncio.sleep(PAUSE_SECONDS)
            answered: list[float] = []

            def note(_: Mail, __: bytes, answered: list[float] = answered) -> None:
                answered.append(time.perf_counter())

            await smtp_load.send(server.smtp, [mail], connections=1, on_accept=note)
            found += [1000 * max(0.0, at - answered[0]) for at in await readers.take(count)]
    return sorted(found)


async def _held(server: Server, token: str, count: int) -> tuple[float, float]:
    """MiB that so many idle streams add to all processes, and CPU seconds of one heartbeat to each of them."""
    async with _opened(server, token, 10):  # what is made once
        await smtp_load.send(server.smtp, Generator(4).take(200), connections=4)
    await asyncio.sleep(SETTLE_SECONDS)
    before = sum(pss(server).values())
    async with _opened(server, token, count) as readers:
        await asyncio.sleep(SETTLE_SECONDS)
        used = sum(server.cpu_seconds().values())
        await asyncio.sleep(WATCH_SECONDS)
        beating = sum(server.cpu_seconds().values()) - used
        held = sum(pss(server).values()) - before
        end = time.monotonic() + WAIT_SECONDS
        while readers.beats < count and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    if readers.beats < count:
        raise AssertionError(f"{readers.beats} heartbeats came to {count} streams")
    return held, beating


def _part(values: list[float], percent: int) -> float:
    return values[len(values) * percent // 100]


def _latency_table(readers: int, late: list[float]) -> Table:
    return Table(
        title=f"Live streams: {readers:,} readers",
        columns=("ms from a mail's 250 to its event", "p50", "p95", "p99", "last"),
        rows=[("", *(f"{value:.1f}" for value in (_part(late, 50), _part(late, 95), _part(late, 99), late[-1])))],
        targets=[Target(f"p95 {_part(late, 95):.1f} ms (wanted: {MOST_LATE_MS:.0f})", _part(late, 95) < MOST_LATE_MS)],
        note=f"{MAILS} mails one after another, over one account; the readers share the server's cores.",
    )


def _memory_table(idle: int, held: float, beating: float) -> Table:
    return Table(
        title=f"Live streams: {idle:,} idle ones",
        columns=("", "figure"),
        rows=[
            ("MiB more in all processes", f"{held:.0f}"),
            ("KiB a stream", f"{held * 1024 / idle:.1f}"),
            (f"CPU of the server in {WATCH_SECONDS:.0f} s, with a heartbeat to each, s", f"{beating:.2f}"),
        ],
        targets=[Target(f"{held:.0f} MiB more (wanted: under {MOST_MIB:.0f})", held < MOST_MIB)],
        note="Proportional set size of all processes, against the same server before they were opened.",
    )
