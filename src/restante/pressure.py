"""Pressure: how busy the process that takes mail and answers is while it has to wait for cores; and giving way to it.

Then the machine is short of them, and what can wait had better. Linux counts for each thread how long it ran and how
long it stood ready to run (``/proc/PID/schedstat``, nanoseconds); where nothing is counted, there is no pressure.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.25  # between two looks
EASY, FULL = 0.4, 0.6  # of the time that passed: it ran or was ready to, where pressure begins and where it is full
LITTLE = 0.35  # of that time: it ran; below it is others that keep it waiting, not mail
SHORT = 0.05  # of that time: it was ready to, and no core was free; below there are cores enough
NICENESS = 5  # of what gives way: a third of the share of what runs at none
LATE_SECONDS = 0.2  # it gives way so long after it last was in time


class Pressure(Protocol):
    """What tells work that can wait to hold back; tests set it by hand."""

    @property
    def level(self) -> float:
        """From 0.0, none, to 1.0, full."""
        ...


class ProcessPressure:
    """That of a process's main thread, which is its event loop."""

    def __init__(
        self, pid: int, *, proc: Path = Path("/proc"), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._monotonic = proc / str(pid) / "schedstat", monotonic
        self._looked_at, (self._ran, self._waited) = monotonic(), self._counted()
        self._level = 0.0

    @property
    def level(self) -> float:
        """As it was from one look to the next; who asks looks, ``LOOK_SECONDS`` after the look before or later."""
        now = self._monotonic()
        passed = now - self._looked_at
        if passed >= LOOK_SECONDS:
            ran, waited = self._counted()
            self._level = _level((ran - self._ran) / passed, (waited - self._waited) / passed)
            self._looked_at, self._ran, self._waited = now, ran, waited
        return self._level

    def _counted(self) -> tuple[float, float]:
        """Seconds that it ran, and that it was ready to."""
        try:
            ran, waited, _ = map(int, self._path.read_bytes().split())
        except (OSError, ValueError):
            return 0.0, 0.0
        return ran / 1e9, waited / 1e9


def _level(ran: float, short: float) -> float:
    if ran < LITTLE or short < SHORT:
        return 0.0
    return min(max((ran + short - EASY) / (FULL - EASY), 0.0), 1.0)


class GivingWay:
    """Work that lets all others go first while it is in time, in a thread of its own: niceness is a thread's on Linux.

    ``LATE_SECONDS`` after it last was in time it takes its share like everybody. On an only core it always does: it
    would hardly run for as long as mail comes in at full speed.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._thread = ThreadPoolExecutor(1, initializer=os.nice, initargs=(NICENESS,)) if cores > 1 else None
        self._in_time_at = monotonic()

    def run(self, work: Callable[[], T], *, is_in_time: bool) -> T:
        """Do some of the work and return what it returns; the caller waits. ``is_in_time``: nothing was left over."""
        now = self._monotonic()
        if is_in_time:
            self._in_time_at = now
        if self._thread is None or now - self._in_time_at > LATE_SECONDS:
            return work()
        return self._thread.submit(work).result()
