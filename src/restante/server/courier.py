"""The courier process: the couriers of all that calls places of users, away from what takes mail and answers.

Its niceness lets everything else go first; where cores are short it holds back besides (``jobs.turns``), as what calls
cost the front and the writer is not nice. Reads happen here, writes go through the front's link to the one writer.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import uvloop

from restante import log
from restante.jobs import automations, webhooks
from restante.jobs.turns import Turns
from restante.runtime import Runtime
from restante.server import assemble
from restante.storage.engine import Place
from restante.storage.links import GuestLink, LinkedDatabase
from restante.storage.signals import Signals
from restante.storage.writer import calm_collector
from restante.vault import Vault


class Part(Protocol):
    """What runs here."""

    async def run(self) -> None:
        """Work until cancelled."""


PARTS: tuple[Callable[[Runtime, Turns], Part], ...] = (webhooks.Courier, automations.Follower, automations.Courier)
NICENESS = 10  # a tenth of the share of what runs at none

_log = log.logger(__name__)


async def work(end: socket.socket) -> int:
    """Run the couriers until the front ends the link; the exit code. The front's greeting is its settings."""
    signals = Signals()
    _, link = await asyncio.get_running_loop().create_unix_connection(lambda: GuestLink(signals), sock=end)
    config = await link.ready
    log.configure(config.log.format, config.log.level)
    db = LinkedDatabase(Place(config.data_dir, config.storage.database_url), link)
    with ThreadPoolExecutor(assemble.POOL_THREADS, thread_name_prefix="work") as pool:
        secrets = Vault.load(config.data_dir, config.secret_key)
        rt = assemble.make_runtime(config, db, signals, pool, secrets, os.getppid())
        turns = Turns(rt.pressure)
        running = [asyncio.create_task(each(rt, turns).run()) for each in PARTS]
        calm_collector()
        done, _ = await asyncio.wait((link.ended, *running), return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task in done:
                _log.error("a courier failed", error=str(task.exception()))
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    await db.close()
    return 0 if link.ended in done and link.ended.exception() is None else 1


def main(argv: list[str]) -> int:
    """``python -m restante.server.courier FD``"""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the front decides when to stop
    os.nice(NICENESS)
    end = socket.socket(fileno=int(argv[0]))
    end.setblocking(False)
    return uvloop.run(work(end))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
