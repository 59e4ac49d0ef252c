"""Turns: at once without pressure, a share of a core with it, in the order in which they were asked for."""

import asyncio
import time

import pytest

from restante.jobs.turns import LONGEST_REST, SHARE, Turns
from tests.fakes import FakePressure


class Worked:
    """The process's time and rests: a test says how much was used, and sees for how long turns wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 10.0
        self.rests: list[float] = []
        self._sleep = asyncio.sleep
        monkeypatch.setattr(time, "process_time", lambda: self.seconds)
        monkeypatch.setattr(asyncio, "sleep", self._rest)

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        await self._sleep(0)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> Worked:
    return Worked(monkeypatch)


async def test_nobody_waits_without_pressure(worked: Worked) -> None:
    made = Turns(FakePressure())
    for _ in range(3):
        worked.seconds += 5.0
        await made.take()
    assert worked.rests == []


@pytest.mark.parametrize("level", [0.5, 1.0])
async def test_rests_make_the_work_a_share(worked: Worked, level: float) -> None:
    made = Turns(FakePressure(level))
    for _ in range(4):
        worked.seconds += 0.002
        await made.take()
    assert sum(worked.rests) == pytest.approx(level * 4 * 0.002 * (1 - SHARE) / SHARE)


async def test_what_was_worked_before_counts_once(worked: Worked) -> None:
    pressure = FakePressure()
    made = Turns(pressure)
    worked.seconds += 5.0
    await made.take()
    pressure.level = 1.0
    await made.take()
    assert worked.rests == []


async def test_no_rest_is_long(worked: Worked) -> None:
    made = Turns(FakePressure(1.0))
    worked.seconds += 60.0
    await made.take()
    assert worked.rests == [LONGEST_REST]


async def test_who_asks_first_is_first(worked: Worked) -> None:
    made = Turns(FakePressure(1.0))
    worked.seconds += 0.001
    order: list[int] = []

    async def work(number: int) -> None:
        for _ in range(2):
            await made.take()
            order.append(number)
            worked.seconds += 0.001

    await asyncio.gather(*(work(number) for number in range(3)))
    assert order == [0, 1, 2, 0, 1, 2]


async def test_one_that_is_cancelled_lets_others_pass(worked: Worked) -> None:
    made = Turns(FakePressure(1.0))
    worked.seconds += 1.0
    first = asyncio.create_task(made.take())
    second = asyncio.create_task(made.take())
    await worked._sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 60)
    with pytest.raises(asyncio.CancelledError):
        await first
