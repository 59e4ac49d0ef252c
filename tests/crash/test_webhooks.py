"""SIGKILL while mail comes in and webhooks fail at random: every event is told at least once, in order where asked."""

import asyncio
import json
import os
import random
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash import harness
from tests.receiver import Receiver, Told
from tools.server import Server, command

KILLS = int(os.environ.get("CRASH_WEBHOOK_KILLS", "6"))
MAILS = int(os.environ.get("CRASH_WEBHOOK_MAILS", "1500"))
CAUGHT_UP_SECONDS = 240.0


@contextmanager
def receiving(failing: float, seed: int) -> Iterator[tuple[Receiver, threading.Event]]:
    """A receiver in a thread that answers badly, or not at all, with that probability until the event is set."""
    rng, is_sound = random.Random(seed), threading.Event()

    def answer(_: Told) -> int:
        return 200 if is_sound.is_set() or rng.random() >= failing else rng.choice([0, 404, 500, 302])

    receiver = Receiver(answer)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(receiver.take, "127.0.0.1", 0))
    receiver.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield receiver, is_sound
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(_end_all(loop))
        loop.close()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def add(server: Server, token: str, url: str, *, is_ordered: bool) -> str:
    """Make a webhook; its secret."""
    body = json.dumps({"url": url, "types": ["message.received"], "is_ordered": is_ordered}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.http}/restante/v1/webhooks", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        secret: str = json.load(answer)["secret"]
    return secret


def received(data_dir: Path) -> list[int]:
    """The numbers of all messages that came in, as the log has them."""
    found: list[int] = []
    page: dict[str, Any] = {"cursor": 0, "is_last": False}
    while not page["is_last"]:
        asked = ("--types", "message.received", "--after", str(page["cursor"]), "--limit", "1000")
        page = command(data_dir, "events", *asked)
        found += [event["id"] for event in page["events"]]
    return found


@pytest.mark.timeout(120 + 20 * KILLS + CAUGHT_UP_SECONDS)
def test_every_event_is_told(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    rng, ledger = random.Random(KILLS), harness.Ledger(5)
    environment = {**os.environ, "RESTANTE_EGRESS_ALLOW": "127.0.0.0/8"}
    with receiving(0.003, 1) as (ordered, ordered_works), receiving(0.05, 2) as (others, others_work):
        secrets: list[str] = []
        for _ in range(KILLS):
            with Server(data_dir, environment=environment) as server:
                if not secrets:
                    token = command(data_dir, "token", "create", "--dialect", "native", "--account", "default")["token"]
                    secrets.append(add(server, token, ordered.url, is_ordered=True))
                    secrets.append(add(server, token, others.url, is_ordered=False))

                def end(server: Server = server) -> None:
                    share = MAILS // KILLS
                    harness.await_acknowledged(ledger, len(ledger.acknowledged) + rng.randrange(share // 2, share * 2))
                    time.sleep(rng.random() * 0.05)
                    server.kill_group()

                harness.load(server, ledger, end)
        ordered_works.set()
        others_work.set()
        with Server(data_dir, environment=environment) as server:
            expected = set(received(data_dir))
            assert len(expected) >= len(ledger.acknowledged) > MAILS // 2
            until = time.monotonic() + CAUGHT_UP_SECONDS
            while any(expected - set(place.numbers) for place in (ordered, others)):
                missing = [len(expected - set(place.numbers)) for place in (ordered, others)]
                assert time.monotonic() < until, f"{missing} events were not told"
                time.sleep(0.2)
            assert server.stop() == 0
        harness.verify(data_dir)
    for place, secret in zip((ordered, others), secrets, strict=True):
        assert set(place.numbers) == expected
        for told in place.told[-500:]:
            told.verify(secret)
    first_times = list(dict.fromkeys(ordered.numbers))
    assert first_times == sorted(expected)
