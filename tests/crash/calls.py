"""Places that are called while servers die: they fail at random until they are told to be sound."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.receiver import Receiver, Told
from tools.server import command

MOST_FAILURES = 2


@contextmanager
def receiving(failing: float, seed: int) -> Iterator[tuple[Receiver, threading.Event]]:
    """A receiver in a thread that answers badly, or not at all, with that probability until the event is set.

    Nothing fails more than twice: the next pauses are longer than a test waits.
    """
    rng, is_sound = random.Random(seed), threading.Event()
    failed: Counter[str] = Counter()

    def answer(told: Told) -> int:
        call = told.headers["webhook-id"]
        if is_sound.is_set() or failed[call] >= MOST_FAILURES or rng.random() >= failing:
            return 200
        failed[call] += 1
        return rng.choice([0, 404, 500, 302])

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


def received(data_dir: Path) -> list[dict[str, Any]]:
    """The events of all messages that came in, as the log has them."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"cursor": 0, "is_last": False}
    while not page["is_last"]:
        asked = ("--types", "message.received", "--after", str(page["cursor"]), "--limit", "1000")
        page = command(data_dir, "events", *asked)
        found += page["events"]
    return found
