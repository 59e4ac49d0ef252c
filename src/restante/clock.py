"""Time: the one clock and its storage form (microseconds since 1970, UTC).

Tables keep ``*_at`` as 64-bit microseconds; everything above them uses aware UTC datetimes.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Where the time comes from; tests advance one by hand."""

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the time by ``by``, backwards too."""
        self._now += by


def now() -> datetime:
    """The system's current time, aware, UTC (for places that no test has to steer)."""
    return datetime.now(UTC)


def now_micros() -> int:
    """The system's current time in microseconds since 1970."""
    return time.time_ns() // 1000


def to_micros(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970 (exact, unlike ``timestamp()``)."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=micros)


def optional_from_micros(micros: int | None) -> datetime | None:
    """As ``from_micros``; None stays None."""
    return None if micros is None else from_micros(micros)
