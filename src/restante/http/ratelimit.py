"""Sliding windows in memory: how many calls a key made in the last minute and hour.

Exact (each call's time is kept), bounded (the least recently used keys are dropped), and gone with the process: a
restart forgives.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass

from restante.clock import Clock

MAX_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any ``seconds``."""

    limit: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One call's outcome, told for the window with the least left.

    ``reset_at``: seconds since 1970 when the oldest counted call leaves that window and makes room for another.
    """

    is_allowed: bool
    limit: int
    remaining: int
    reset_at: int
    retry_after_seconds: int


def policy(windows: tuple[Window, ...]) -> str:
    """The windows as ``100;w=60, 1000;w=3600``."""
    return ", ".join(f"{window.limit};w={window.seconds}" for window in windows)


class RateLimiter:
    """Counts calls by key. All times come from the clock; one that is set back forgives what lies in its future."""

    def __init__(self, clock: Clock, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._calls: OrderedDict[str, array[float]] = OrderedDict()

    def take(self, key: str, windows: tuple[Window, ...]) -> Verdict:
        """Count a call of ``key`` if every window has room; a refused one is not counted."""
        now = self._clock.now().timestamp()
        calls = self._of(key, windows, now)
        verdict = _judge(calls, windows, now)
        if verdict.is_allowed:
            calls.append(now)
        return verdict

    def _of(self, key: str, windows: tuple[Window, ...], now: float) -> "array[float]":
        calls = self._calls.get(key)
        if calls is None:
            calls = self._calls[key] = array("d")
            if len(self._calls) > self._max_keys:
                self._calls.popitem(last=False)
            return calls
        self._calls.move_to_end(key)
        if calls and calls[-1] > now:
            del calls[bisect_right(calls, now) :]
        horizon = now - max(window.seconds for window in windows)
        if calls and calls[0] <= horizon:
            del calls[: bisect_right(calls, horizon)]
        return calls


def _judge(calls: "array[float]", windows: tuple[Window, ...], now: float) -> Verdict:
    tightest: Verdict | None = None
    for window in windows:
        first = bisect_right(calls, now - window.seconds)
        left = window.limit - (len(calls) - first)
        oldest = calls[first] if first < len(calls) else now
        frees = calls[-window.limit] if left <= 0 < window.limit <= len(calls) else oldest
        wait = max(1, int(frees + window.seconds - now + 0.999))
        allowed, remaining = left > 0, max(0, left - 1)
        verdict = Verdict(allowed, window.limit, remaining, int(frees + window.seconds + 0.999), 0 if allowed else wait)
        if tightest is None or _order(verdict) < _order(tightest):
            tightest = verdict
    assert tightest is not None, "a limiter needs a window"
    return tightest


def _order(verdict: Verdict) -> tuple[bool, int, int]:
    return verdict.is_allowed, verdict.remaining, -verdict.retry_after_seconds
