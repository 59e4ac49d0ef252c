"""SIGKILL while mail is submitted and handed on: what got 250 goes out, and each that goes out twice had to.

A second copy is unavoidable when the other server had the whole message and we were killed before its answer was read.
So after each kill the store and the notes are asked what they know to be sent: none of that may come again. What comes
again must have been answered just before the kill, or have been under way in it; the counts are printed.
"""

import asyncio
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
import uvloop

from restante.storage.notes import Notes
from tools import smtp_load, smtp_sink
from tools.mailgen import Generator, Mail
from tools.server import FirstRun, Server, command

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
CONNECTIONS = 10
PRESENT_SECONDS = 30.0  # from the peer's 250 to our note of it, on a machine that stands still for a while
EMPTY_SECONDS = 120.0
_KEY = re.compile(rb"^Message-ID: <([^>]+)>", re.MULTILINE)


class Arrivals:
    """A mail server in a thread: when it answered 250 for each Message-ID, and after which of them it heard more.

    Who goes on in the same connection has read the answer, and has noted it before.
    """

    def __init__(self) -> None:
        self.times: dict[bytes, list[float]] = {}
        self.read: set[tuple[bytes, float]] = set()
        self.connections = 0
        self.address = ("", 0)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def receive(self, raw: bytes) -> tuple[bytes, float]:
        """Note a message; its Message-ID and when it was answered."""
        found = _KEY.search(raw)
        assert found is not None
        at = time.monotonic()
        self.times.setdefault(found[1], []).append(at)
        return found[1], at

    def await_silence(self) -> None:
        """Wait until everything is read that was sent by those who are gone."""
        end = time.monotonic() + 60
        while self.connections:
            assert time.monotonic() < end, f"{self.connections} connections are still open"
            time.sleep(0.002)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()[:2]
        self._ready.set()
        await self._stop.wait()
        server.close()

    @contextmanager
    def running(self) -> Iterator["Arrivals"]:
        thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        thread.start()
        assert self._ready.wait(60)
        try:
            yield self
        finally:
            assert self._loop is not None
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)


class _Connection(smtp_sink.Sink):
    """One connection to ``Arrivals``."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__(self._take)
        self._arrivals = arrivals
        self._answered: list[tuple[bytes, float]] = []

    def _take(self, raw: bytes) -> bytes:
        self._answered.append(self._arrivals.receive(raw))
        return b"250 ok\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._arrivals.connections += 1
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrivals.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._arrivals.read.update(self._answered)
        self._answered.clear()
        super().data_received(data)


def _submit(server: Server, login: tuple[str, str], mails: Iterator[Mail], accepted: set[bytes]) -> threading.Thread:
    def note(mail: Mail, _answer: bytes) -> None:
        found = _KEY.search(mail.raw)
        assert found is not None
        accepted.add(found[1])

    def work() -> None:
        sending = smtp_load.send(
            server.submission, mails, connections=CONNECTIONS, seconds=60, on_accept=note, login=login
        )
        uvloop.run(sending)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _await_more(accepted: set[bytes], count: int, seconds: float = 60.0) -> None:
    end, wanted = time.monotonic() + seconds, len(accepted) + count
    while len(accepted) < wanted:
        assert time.monotonic() < end, f"only {len(accepted)} mails were accepted, not {wanted}"
        time.sleep(0.002)


class Killed(NamedTuple):
    """One life of the server: when it was killed, when all of it was gone, and what its store then knew to be sent."""

    at: float
    gone_at: float
    sent: frozenset[bytes]


def _kill(server: Server, arrivals: Arrivals, *, writer_alone: bool) -> Killed:
    at = time.monotonic()
    if writer_alone:
        os.kill(server.pid_of("restante.storage.writer"), signal.SIGKILL)
        server.await_end()
    else:
        server.kill_group()
    arrivals.await_silence()
    gone_at = time.monotonic()
    return Killed(at, gone_at, _known_to_be_sent(server.data_dir))


def _known_to_be_sent(data_dir: Path) -> frozenset[bytes]:
    """The Message-IDs that the store has as sent, and those that a note says so of."""
    database = apsw.Connection(str(data_dir / "restante.db"))
    notes = Notes(data_dir / "notes")
    try:
        rows = database.execute(
            "SELECT s.message_id_header, s.status, s.queue_id || ' ' || t.domain FROM submissions s"
            " JOIN transfers t ON t.account_id = s.account_id AND t.submission_id = s.id"
        ).fetchall()
        known = [row[0] for row in rows if row[1] == "sent" or notes.find(str(row[2])) is not None]
        return frozenset(str(found).strip("<>").encode() for found in known)
    finally:
        notes.close()
        database.close()


def _explained(arrivals: Arrivals, lives: Sequence[Killed]) -> list[float]:
    """For each second copy how long before the kill the first was answered (negative: after it), in seconds.

    Fails for one that has no crash between its copies, or whose first copy had been recorded, or should have been.
    """
    waits = []
    for key, times in arrivals.times.items():
        for earlier, later in pairwise(times):
            life = next((each for each in lives if earlier <= each.gone_at), None)
            assert life is not None, f"{key!r} came twice in the last life"
            assert later > life.gone_at, f"{key!r} came twice in one life"
            assert (key, earlier) not in arrivals.read, f"{key!r} came again, and its answer had been read"
            waits.append(life.at - earlier)
            assert waits[-1] < PRESENT_SECONDS, f"{key!r} was answered {waits[-1]:.2f} s before the kill"
        for life in lives:
            if key in life.sent:
                assert max(times) <= life.gone_at, f"{key!r} was recorded or noted, and came again"
    return waits


@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_what_was_accepted_goes_out(tmp_path: Path) -> None:
    rng = random.Random(f"sending/{ROUNDS}")
    generator = Generator(7, run="out", recipients=[f"box@d{number}.example.net" for number in range(5)],
                          sender="admin@example.test")  # fmt: skip
    mails = iter(generator.next, None)
    accepted: set[bytes] = set()
    lives: list[Killed] = []
    first: FirstRun | None = None
    with Arrivals().running() as arrivals:
        environment = {
            **os.environ,
            "RESTANTE_TRANSFER_SMARTHOST": "{}:{}".format(*arrivals.address),
            "RESTANTE_TRANSFER_SMARTHOST_TLS": "none",
        }
        for _ in range(ROUNDS):
            with Server(tmp_path / "data", environment=environment) as server:
                first = server.first_run or first
                assert first is not None
                thread = _submit(server, (first.mailbox, first.password), mails, accepted)
                _await_more(accepted, rng.randrange(1, 60))
                time.sleep(rng.random() * 0.05)
                lives.append(_kill(server, arrivals, writer_alone=rng.random() < 0.5))
                thread.join(60)
        with Server(tmp_path / "data", environment=environment) as server:
            end = time.monotonic() + EMPTY_SECONDS
            while not accepted <= set(arrivals.times):
                assert time.monotonic() < end, f"{len(accepted - set(arrivals.times))} accepted mails never came"
                time.sleep(0.05)
            assert server.stop() == 0
    waits = sorted(_explained(arrivals, lives))
    before = [wait for wait in waits if wait >= 0]
    print(
        f"{len(arrivals.times)} mails, {ROUNDS} kills; second copies: {len(before)} answered but not read yet",
        end="",
    )
    print(f" (up to {max(before, default=0) * 1000:.0f} ms), {len(waits) - len(before)} under way in the kill")
    assert len(accepted) >= ROUNDS
    report = command(tmp_path / "data", "verify")
    assert report["problem_count"] == 0, report["problems"]
