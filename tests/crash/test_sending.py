"""SIGKILL while mail is submitted and handed on: what got 250 goes out, and what goes out twice is explained."""

import asyncio
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from tools import smtp_load, smtp_sink
from tools.mailgen import Generator, Mail
from tools.server import FirstRun, Server, command

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
CONNECTIONS = 10
IN_FLIGHT = 100  # messages that may be between the peer's 250 and our commit: no more connections than that
AROUND = 5.0  # seconds: a commit takes so long at the very most on a busy machine
EMPTY_SECONDS = 120.0
_KEY = re.compile(rb"^Message-ID: <([^>]+)>", re.MULTILINE)


class Arrivals:
    """A mail server in a thread: when each Message-ID came."""

    def __init__(self) -> None:
        self.times: dict[bytes, list[float]] = {}
        self.address = ("", 0)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _receive(self, raw: bytes) -> bytes:
        found = _KEY.search(raw)
        assert found is not None
        self.times.setdefault(found[1], []).append(time.monotonic())
        return b"250 ok\r\n"

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with smtp_sink.serve(self._receive) as self.address:
            self._ready.set()
            await self._stop.wait()

    @contextmanager
    def running(self) -> Iterator["Arrivals"]:
        thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        thread.start()
        assert self._ready.wait(10)
        try:
            yield self
        finally:
            assert self._loop is not None
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)


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


@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_what_was_accepted_goes_out(tmp_path: Path) -> None:
    rng = random.Random(f"sending/{ROUNDS}")
    generator = Generator(7, run="out", recipients=[f"box@d{number}.example.net" for number in range(5)],
                          sender="admin@example.test")  # fmt: skip
    mails = iter(generator.next, None)
    accepted: set[bytes] = set()
    kills: list[float] = []
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
                if rng.random() < 0.5:
                    os.kill(server.pid_of("restante.storage.writer"), signal.SIGKILL)
                    kills.append(time.monotonic())
                    server.await_end()
                else:
                    server.kill_group()
                    kills.append(time.monotonic())
                thread.join(60)
        with Server(tmp_path / "data", environment=environment) as server:
            end = time.monotonic() + EMPTY_SECONDS
            while not accepted <= set(arrivals.times):
                assert time.monotonic() < end, f"{len(accepted - set(arrivals.times))} accepted mails never came"
                time.sleep(0.05)
            assert server.stop() == 0
    repeated = {key: times for key, times in arrivals.times.items() if len(times) > 1}
    print(f"{len(arrivals.times)} mails, {ROUNDS} kills, {len(repeated)} came again")
    for key, times in repeated.items():
        for earlier in times[:-1]:
            # just before the crash, or while the front of a dead writer hands over what it had begun
            is_explained = any(abs(kill - earlier) < AROUND for kill in kills)
            assert is_explained, f"{key!r} came again without a crash around its first time: {times}, {kills}"
    assert len(repeated) <= ROUNDS * IN_FLIGHT
    assert len(accepted) >= ROUNDS
    report = command(tmp_path / "data", "verify")
    assert report["problem_count"] == 0, report["problems"]
