"""Signals: "something changed for account 7". They carry no data and may be lost: wake up, then read."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from restante.ids import AccountId

INSTANCE = AccountId(0)  # stands for what belongs to no account


class Signals:
    """Wakes whoever waits for an account, in this process."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self._listeners: list[Callable[[frozenset[int]], None]] = []

    def publish(self, account_ids: Iterable[int]) -> None:
        """Wake all that wait for one of ``account_ids``; called by the engine after a commit."""
        touched = frozenset(account_ids)
        if not touched:
            return
        for account_id in touched:
            for event in self._waiting.get(account_id, ()):
                event.set()
        for listener in self._listeners:
            listener(touched)

    def wake_all(self) -> None:
        """Wake everyone: changes may have been missed."""
        self.publish({*self._waiting, INSTANCE})

    def on_any(self, listener: Callable[[frozenset[int]], None]) -> None:
        """Call ``listener`` with the touched accounts after each commit; it must return at once."""
        self._listeners.append(listener)

    def subscribe(self, account_id: int) -> "Subscription":
        """Wait for one account's changes: ``with signals.subscribe(7) as changes: await changes.wait()``."""
        return Subscription(self._waiting, account_id)


class Subscription:
    """One waiter. A change between two ``wait`` calls is not lost: the second returns at once."""

    def __init__(self, waiting: dict[int, set[asyncio.Event]], account_id: int) -> None:
        self._waiting, self._account_id = waiting, account_id
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._waiting.setdefault(self._account_id, set()).add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        events = self._waiting.get(self._account_id, set())
        events.discard(self._event)
        if not events:
            self._waiting.pop(self._account_id, None)

    async def wait(self) -> None:
        """Return when the account changed since the last call."""
        await self._event.wait()
        self._event.clear()
