"""Large request bodies: they arrive in files, and only so many bytes of them are worked on at one time.

Reading a body as JSON, decoding what is attached and composing a message takes several times its size. A hundred at
once would take all memory there is, so each waits for its share.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from restante.errors import Unavailable
from restante.storage.room import Room
from restante.storage.spool import Spool

MEMORY_LIMIT = 64 * 1024  # of a body that arrives; more of it goes to a file
COST = 5  # bytes of memory that the work on a byte of a body takes, as measured
WAIT_SECONDS = 60.0


class Bodies:
    """What the requests of one server share."""

    def __init__(self, directory: Path, memory_bytes: int, room: Room | None = None) -> None:
        self._directory, self._room = directory, room
        self._memory_bytes = self._free = memory_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def new_spool(self) -> Spool:
        """Where a body waits while it arrives."""
        return Spool(self._directory, MEMORY_LIMIT, self._room)

    @asynccontextmanager
    async def share(self, size_bytes: int) -> AsyncIterator[None]:
        """Memory for the work on a body, in the order of asking; one that needs more than there is works alone.

        Raises Unavailable(code="too_busy") when none is free for a minute.
        """
        cost = min(size_bytes * COST, self._memory_bytes)
        await self._take(cost)
        try:
            yield
        finally:
            self._give(cost)

    async def _take(self, cost: int) -> None:
        if not self._waiting and cost <= self._free:
            self._free -= cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = cost, turn
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give(cost)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._wake()  # who stood behind it may need less
            if isinstance(error, TimeoutError):
                raise Unavailable("Too many large requests at once; try again.", code="too_busy") from None
            raise

    def _give(self, cost: int) -> None:
        self._free += cost
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            cost, turn = self._waiting[0]
            if not turn.cancelled():
                if cost > self._free:
                    return
                self._free -= cost
                turn.set_result(None)
            self._waiting.popleft()
