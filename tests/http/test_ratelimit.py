"""Sliding windows, with a clock moved by hand."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.clock import ManualClock
from restante.http.ratelimit import RateLimiter, Window, policy

MINUTE_AND_HOUR = (Window(100, 60), Window(1000, 3600))


def test_the_minute_is_full_at_its_limit_and_frees_as_it_slides() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    for number in range(100):
        verdict = limiter.take("t", MINUTE_AND_HOUR)
        assert verdict.is_allowed
        assert (verdict.limit, verdict.remaining) == (100, 99 - number)
        clock.advance(timedelta(milliseconds=100))
    refused = limiter.take("t", MINUTE_AND_HOUR)  # 10 s after the first
    assert not refused.is_allowed
    assert (refused.remaining, refused.retry_after_seconds) == (0, 50)
    clock.advance(timedelta(seconds=50))
    assert limiter.take("t", MINUTE_AND_HOUR).is_allowed
    assert not limiter.take("t", MINUTE_AND_HOUR).is_allowed


def test_the_hour_is_told_when_it_is_the_tighter_one() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    for _ in range(10):
        for _ in range(100):
            assert limiter.take("t", MINUTE_AND_HOUR).is_allowed
        clock.advance(timedelta(seconds=61))
    refused = limiter.take("t", MINUTE_AND_HOUR)
    assert not refused.is_allowed
    assert refused.limit == 1000
    assert refused.retry_after_seconds == 3600 - 610
    assert refused.reset_at == int(clock.now().timestamp() + 3600 - 610 + 0.999)


def test_refused_calls_are_not_counted() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    window = (Window(1, 60),)
    assert limiter.take("t", window).is_allowed
    for _ in range(50):
        assert not limiter.take("t", window).is_allowed
    clock.advance(timedelta(seconds=61))
    assert limiter.take("t", window).is_allowed


def test_keys_are_separate_and_bounded() -> None:
    limiter = RateLimiter(ManualClock(), max_keys=3)
    window = (Window(1, 60),)
    for key in "abc":
        assert limiter.take(key, window).is_allowed
    assert not limiter.take("a", window).is_allowed
    assert limiter.take("d", window).is_allowed  # drops b, the one not used for longest
    assert not limiter.take("a", window).is_allowed
    assert limiter.take("b", window).is_allowed


def test_a_clock_set_back_does_not_lock_anybody_out() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    window = (Window(2, 60),)
    limiter.take("t", window)
    limiter.take("t", window)
    clock.advance(timedelta(days=-1))
    assert limiter.take("t", window).is_allowed


def test_policy() -> None:
    assert policy(MINUTE_AND_HOUR) == "100;w=60, 1000;w=3600"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=60), st.integers(1, 5))
def test_no_window_ever_holds_more_than_its_limit(steps: list[tuple[int, int]], limit: int) -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    allowed: list[float] = []
    for pause, tries in steps:
        clock.advance(timedelta(seconds=pause))
        for _ in range(tries):
            verdict = limiter.take("t", (Window(limit, 60), Window(limit * 2, 300)))
            now = clock.now().timestamp()
            expected = all(
                sum(now - then < seconds for then in allowed) < most
                for most, seconds in ((limit, 60), (limit * 2, 300))
            )
            assert verdict.is_allowed == expected
            if verdict.is_allowed:
                allowed.append(now)
            else:
                assert verdict.retry_after_seconds >= 1


@pytest.mark.parametrize("seconds", [0.0, 0.4, 59.9])
def test_waiting_as_told_is_enough(seconds: float) -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    window = (Window(1, 60),)
    limiter.take("t", window)
    clock.advance(timedelta(seconds=seconds))
    wait = limiter.take("t", window).retry_after_seconds
    clock.advance(timedelta(seconds=wait))
    assert limiter.take("t", window).is_allowed
