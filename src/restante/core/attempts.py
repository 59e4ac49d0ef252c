"""Attempts to call places of users: what one came to, when the next is due, when a place that fails is left alone."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from restante.ids import EventNumber

DELAYS = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
)  # before the second, third ... attempt; the last is kept
LIFETIME = timedelta(hours=28)  # from a call's first attempt to its last
BREAKS_AT = 10  # failures in a row: from then on one attempt a pause
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)


class Result(NamedTuple):
    """What an attempt came to; ``spread`` (about 1) keeps the retries of many calls apart.

    ``status`` is HTTP's, or ``error`` says why there was none; neither: it is done, without HTTP. ``answer``: the first
    KiB of the body. ``is_final``: no further attempt could come to anything else.
    """

    number: EventNumber
    attempt: int
    attempted_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    answer: str
    spread: float
    is_final: bool = False

    @property
    def is_delivered(self) -> bool:
        """Whether the place has taken it."""
        return self.error is None and (self.status is None or 200 <= self.status < 300)

    @property
    def ended_at(self) -> datetime:
        """When it was over."""
        return self.attempted_at + timedelta(milliseconds=self.duration_ms)


def next_at(failed: Result, tries: int, since: datetime, now: datetime) -> datetime | None:
    """When to try again after a failure, ``tries`` before it, the first at ``since``; None: it is given up."""
    if failed.is_final or now - since >= LIFETIME:
        return None
    return now + DELAYS[min(tries, len(DELAYS) - 1)] * failed.spread


def count_failures(results: Iterable[Result], failures: int, since: datetime | None) -> tuple[int, datetime | None]:
    """Failures in a row and the first of them, after these results in the order in which they ended.

    What is no fault of the place (``is_final``) does not count.
    """
    for one in results:
        if one.is_delivered:
            failures, since = 0, None
        elif not one.is_final:
            failures, since = failures + 1, since or one.attempted_at
    return failures, since


def paused_until(failures: int, now: datetime) -> datetime | None:
    """Until when a place is left alone after so many failures in a row."""
    if failures < BREAKS_AT:
        return None
    pause: timedelta = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - BREAKS_AT, 20))
    return now + pause
