"""Connections to other servers: how many at a time, in all and for one destination, and which may be used again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from restante.net.smtp_client import Session

IDLE_SECONDS = 5.0  # a peer's slot is not ours to keep
MAX_MESSAGES = 100  # on one connection: peers that share their load among hosts see us again


@dataclass(slots=True)
class _Destination:
    slots: asyncio.Semaphore
    users: int = 0


class Connections:
    """Hands out slots and keeps sessions open for a moment after their message."""

    def __init__(self, most: int, most_per_destination: int) -> None:
        self._most_per_destination = most_per_destination
        self._slots = asyncio.Semaphore(most)
        self._destinations: dict[str, _Destination] = {}
        self._idle: dict[str, list[tuple[Session, asyncio.TimerHandle]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def slot(self, destination: str) -> AsyncIterator[None]:
        """Room for one connection to ``destination``; waits until there is."""
        place = self._destinations.get(destination)
        if place is None:
            place = self._destinations[destination] = _Destination(asyncio.Semaphore(self._most_per_destination))
        place.users += 1
        try:
            async with place.slots, self._slots:
                yield
        finally:
            place.users -= 1
            if not place.users:
                del self._destinations[destination]

    def take(self, destination: str) -> Session | None:
        """A session that an earlier message left open."""
        idle = self._idle.get(destination, [])
        while idle:
            session, timer = idle.pop()
            timer.cancel()
            if session.is_open:
                return session
            session.abort()
        return None

    def keep(self, destination: str, session: Session) -> None:
        """Leave a session open for the next message, or say goodbye to it."""
        if not session.is_open:
            session.abort()
        elif session.messages >= MAX_MESSAGES:
            self._close(session)
        else:
            timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, destination, session)
            self._idle.setdefault(destination, []).append((session, timer))

    def _expire(self, destination: str, session: Session) -> None:
        left = [(one, timer) for one, timer in self._idle.pop(destination, []) if one is not session]
        if left:
            self._idle[destination] = left
        self._close(session)

    def _close(self, session: Session) -> None:
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Say goodbye to every idle session."""
        for destination in list(self._idle):
            while (session := self.take(destination)) is not None:
                self._close(session)
        await asyncio.gather(*self._closing)
