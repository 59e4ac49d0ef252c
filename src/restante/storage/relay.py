"""The front's end of the link to a process that works beside it: passes its writes on, and tells it what changed."""

import asyncio
import pickle
from collections.abc import Callable, Iterable
from typing import Any, cast

from restante.storage.database import Database, Outcome
from restante.storage.links import END, READY, RECLAIM, SIGNAL, SNAPSHOT, answers, frames


class Relay(asyncio.Protocol):
    """Answers calls with what the database says to them. The other end gets ``greeting`` first."""

    def __init__(self, db: Database, greeting: object) -> None:
        self._greeting = greeting
        self._write = db.write
        self._others: dict[Any, Callable[..., Any]] = {RECLAIM: db.reclaim, SNAPSHOT: db.snapshot}
        self._buffer = bytearray()
        self._running: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._answer(READY, Outcome(self._greeting))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for frame in frames(self._buffer):
            for call in pickle.loads(frame):  # noqa: S301 - from our own other end
                number, fn, args, kwargs = pickle.loads(call)  # noqa: S301
                task = asyncio.create_task(self._pass_on(number, fn, args, kwargs))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _pass_on(self, number: int, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            other = self._others.get(fn)
            outcome = Outcome(await (self._write(fn, *args, **kwargs) if other is None else other(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            outcome = Outcome(error=error)
        self._answer(number, outcome)

    def tell(self, touched: Iterable[int]) -> None:
        """Publish these accounts to the other process's signals."""
        self._answer(SIGNAL, Outcome(touched=tuple(touched)))

    def _answer(self, number: int, outcome: Outcome) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answers([number], [outcome]))

    def end(self) -> None:
        """Ask the other process to end; what it still writes is passed on."""
        self._answer(END, Outcome())

    def connection_lost(self, _: Exception | None) -> None:
        self.closed.set_result(None)
