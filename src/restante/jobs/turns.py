"""Turns: work that can wait goes on at once, or little by little while the machine is short of cores (ADR 0019)."""

import asyncio
import time

from restante.pressure import Pressure

SHARE = 0.05  # of one core: what this process takes under full pressure
LONGEST_REST = 0.5  # seconds before a turn


class Turns:
    """Lets the couriers of one process do their pieces of work."""

    def __init__(self, pressure: Pressure) -> None:
        self._pressure = pressure
        self._used = time.process_time()
        self._next = asyncio.Lock()

    async def take(self) -> None:
        """Wait until the next piece may be done; who asks first is first.

        Under full pressure it waits for as long as makes what the process used since the turn before (processor time,
        whatever for) ``SHARE`` of the time, at most ``LONGEST_REST``; under less, for less.
        """
        async with self._next:
            used = time.process_time()
            worked, self._used = used - self._used, used
            if rest := worked * (1 / SHARE - 1) * self._pressure.level:
                await asyncio.sleep(min(rest, LONGEST_REST))
