"""Signals between servers on one database: NOTIFY inside the committing transaction, LISTEN on a connection of its own.

A payload is ``SENDER:7,12``: the accounts that changed, or ``SENDER:*`` when there are too many to name. Signals may be
lost while nobody listens, so after each (re)connect everyone is woken once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

import psycopg

from restante.errors import Unavailable
from restante.storage.postgres import connection
from restante.storage.signals import Signals

CHANNEL = "restante"
PAYLOAD_BYTES = 7_000  # PostgreSQL takes 8,000
RETRY_SECONDS = 1.0
EVERYONE = "*"

_log = logging.getLogger(__name__)


def notify(raw: connection.Raw, sender: str, account_ids: Iterable[int]) -> None:
    """Tell the other servers of ``account_ids`` when the transaction on ``raw`` commits."""
    named = ",".join(map(str, sorted(account_ids)))
    if len(named) > PAYLOAD_BYTES:
        named = EVERYONE
    raw.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{sender}:{named}"))


class Listener:
    """Publishes what other servers tell to the ``Signals`` of this one."""

    def __init__(self, url: str, sender: str, signals: Signals) -> None:
        self._url, self._sender, self._signals = url, sender, signals
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen; a connection that breaks is opened again until ``close``."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, Unavailable, OSError) as error:
                _log.warning("signals of other servers are not heard: %s", str(error).splitlines()[0])
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        where = connection.parameters(self._url, "restante signals")
        raw = await psycopg.AsyncConnection.connect(where, autocommit=True)
        async with raw:
            await raw.execute(f"LISTEN {CHANNEL}")
            self._signals.wake_all()
            async for told in raw.notifies():
                self._publish(told.payload)

    def _publish(self, payload: str) -> None:
        sender, _, named = payload.partition(":")
        if sender == self._sender:
            return
        if named == EVERYONE:
            self._signals.wake_all()
            return
        with contextlib.suppress(ValueError):  # somebody else's words on our channel
            self._signals.publish([int(one) for one in named.split(",")])
