"""Periods as spans."""

from itertools import pairwise
from random import Random

from restante.core import periods
from restante.core.periods import DAY, HOUR, SPANS, Period

LONGEST = SPANS[-1] * HOUR
MOST_AT_ENDS = 2 * sum(longer // shorter // 2 for shorter, longer in pairwise(SPANS))


def covered(within: Period) -> tuple[dict[int, int], int]:
    """How often each border is crossed by what is added and taken off, and how many spans that are."""
    steps: dict[int, int] = {}
    count = 0
    for sign, hours, run in periods.pieces(within, SPANS[::-1]):
        steps[run.since] = steps.get(run.since, 0) + sign
        steps[run.until] = steps.get(run.until, 0) - sign
        if hours:
            assert run.since % (hours * HOUR) == run.until % (hours * HOUR) == 0
            count += (run.until - run.since) // (hours * HOUR)
        else:
            assert run.until - run.since < DAY
    return {at: step for at, step in steps.items() if step}, count


def test_pieces_make_up_the_period_and_are_few() -> None:
    random = Random(3)
    for _ in range(2_000):
        since = 20 * LONGEST + random.randrange(LONGEST)
        within = Period(since, since + random.randrange(1, random.choice([HOUR, DAY, LONGEST, 7 * LONGEST])))
        steps, count = covered(within)
        assert steps == {within.since: 1, within.until: -1}
        assert count <= (within.until - within.since) // LONGEST + 2 + MOST_AT_ENDS


def test_statements_of_all_periods_look_alike() -> None:
    whole, bits = Period(0, 3 * LONGEST), Period(HOUR // 2, 5 * LONGEST + 3 * DAY + 1)
    shapes = {tuple(piece.hours for piece in periods.pieces(one, SPANS[::-1])) for one in (whole, bits, periods.NEVER)}
    assert len(shapes) == 1


def test_one_unit_is_cut_once() -> None:
    assert periods.cut(Period(5, HOUR - 5), HOUR) == (Period(HOUR, HOUR), [Period(5, HOUR - 5)])
    assert periods.cut(Period(HOUR - 5, 3 * HOUR), HOUR) == (Period(HOUR, 3 * HOUR), [Period(HOUR - 5, HOUR)])
