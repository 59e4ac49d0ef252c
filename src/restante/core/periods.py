"""Periods of time, and the spans that make them up: what is counted by spans is added up from the fewest of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from restante import clock

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
SPANS = (24, 192, 1536, 6144)  # hours of the spans that are counted by domain: a year is a few of each


class Period(NamedTuple):
    """From ``since`` on, up to but without ``until``; microseconds."""

    since: int
    until: int


NEVER = Period(0, 0)


class Piece(NamedTuple):
    """A run of spans of so many hours (0: no spans, its rows), to be added (``sign`` 1) or taken off again (-1)."""

    sign: int
    hours: int
    within: Period


def through(start: datetime, end: datetime, now: datetime) -> Period:
    """From ``start`` through the second of ``end``.

    What is not over yet is taken to the end of the longest span: there is nothing in it to be cut off.
    """
    until = clock.to_micros(end.replace(microsecond=0) + timedelta(seconds=1))
    if until > clock.to_micros(now):
        until += -until % (SPANS[-1] * HOUR)
    return Period(clock.to_micros(start), until)


def touched(within: Period) -> Period:
    """The period with the hours it cuts whole."""
    return Period(within.since // HOUR * HOUR, -(-within.until // HOUR) * HOUR)


def cut(within: Period, unit: int) -> tuple[Period, list[Period]]:
    """The whole units of a period, and the pieces that are left over: none, one or two."""
    first, last = -(-within.since // unit) * unit, within.until // unit * unit
    if first > last:  # inside one unit
        return Period(first, first), [within]
    ends = Period(within.since, first), Period(last, within.until)
    return Period(first, last), [piece for piece in ends if piece.since < piece.until]


def spans_around(micros: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """The span of each length (in hours) that a moment is in: its length and its beginning."""
    return [(length, micros - micros % (length * HOUR)) for length in lengths]


def pieces(within: Period, lengths: Sequence[int]) -> list[Piece]:
    """A period as runs of spans of ``lengths`` (in hours, longest first), and what is left over at its ends.

    A run goes to the border that is nearest; what that is too much is taken off again in shorter ones, so that a few
    spans are enough. Two pieces of each length, one or both of them perhaps empty: statements made of them look alike.
    """
    found = []
    left = [(1, within)]
    for length in lengths:
        rest: list[tuple[int, Period]] = []
        for sign, part in left:
            run, ends = _run(part, length * HOUR)
            found.append(Piece(sign, length, run))
            rest += [(sign * each, end) for each, end in ends if end.since < end.until]
        found += [Piece(1, length, NEVER)] * (2 - len(left))
        left = rest
    return found + [Piece(sign, 0, part) for sign, part in left] + [Piece(1, 0, NEVER)] * (2 - len(left))


def numbered(those: Sequence[Piece]) -> dict[str, int]:
    """Pieces as the values of a prepared statement."""
    found: dict[str, int] = {}
    for place, (sign, _, within) in enumerate(those):
        found |= {f"sign{place}": sign, f"since{place}": within.since, f"until{place}": within.until}
    return found


def _run(part: Period, unit: int) -> tuple[Period, list[tuple[int, Period]]]:
    """The spans between the borders nearest to both ends, and there what they lack (1) or what is too much (-1).

    So at most half a span is left for shorter ones at an end. None, when they would be more than twice the part.
    """
    since, until = ((end + unit // 2) // unit * unit for end in part)
    if since == until or until - since > 2 * (part.until - part.since):
        return NEVER, [(1, part)]
    begins = (1, Period(part.since, since)) if part.since < since else (-1, Period(since, part.since))
    ends = (1, Period(until, part.until)) if until < part.until else (-1, Period(part.until, until))
    return Period(since, until), [begins, ends]
