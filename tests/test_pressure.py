"""Pressure: counted by Linux, none where a process is idle, has cores enough, or is gone."""

import os
from pathlib import Path

import pytest

from restante.pressure import EASY, FULL, LATE_SECONDS, LITTLE, LOOK_SECONDS, NICENESS, GivingWay, ProcessPressure

PID = 4711


class Process:
    """A process that a test lets run and wait."""

    def __init__(self, proc: Path) -> None:
        self.path = proc / str(PID) / "schedstat"
        self.path.parent.mkdir()
        self.now = self._ran = self._waited = 100.0
        self.pass_by(1.0)
        self.pressure = ProcessPressure(PID, proc=proc, monotonic=lambda: self.now)

    def pass_by(self, seconds: float, *, ran: float = 0.0, waited: float = 0.0) -> None:
        """Let time pass, such shares of it running and waiting for a core."""
        self.now += seconds
        self._ran += ran * seconds
        self._waited += waited * seconds
        self.path.write_text(f"{self._ran * 1e9:.0f} {self._waited * 1e9:.0f} 42\n")


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


@pytest.mark.parametrize(
    ("ran", "waited", "level"),
    [
        (0.0, 0.0, 0.0),
        (0.2, 0.1, 0.0),
        (0.9, 0.0, 0.0),  # there are cores enough
        (0.95, 0.04, 0.0),
        (EASY - 0.1, 0.1, 0.0),
        (0.4, (EASY + FULL) / 2 - 0.4, 0.5),
        (0.5, FULL - 0.5, 1.0),
        (LITTLE + 0.01, 0.7, 1.0),
        (LITTLE - 0.01, 0.7, 0.0),  # others keep it waiting
    ],
)
def test_the_level_follows_work_and_want_of_cores(process: Process, ran: float, waited: float, level: float) -> None:
    assert process.pressure.level == 0.0
    process.pass_by(1.0, ran=ran, waited=waited)
    assert process.pressure.level == pytest.approx(level, abs=1e-6)


def test_it_rises_and_falls(process: Process) -> None:
    for share, level in ((0.5, 1.0), (0.0, 0.0), (0.5, 1.0)):
        process.pass_by(LOOK_SECONDS, ran=share, waited=share)
        assert process.pressure.level == level


def test_it_is_looked_at_now_and_then_only(process: Process) -> None:
    process.pass_by(LOOK_SECONDS * 0.9, ran=0.5, waited=0.5)
    assert process.pressure.level == 0.0
    process.pass_by(LOOK_SECONDS * 0.2, ran=0.5, waited=0.5)
    assert process.pressure.level == 1.0


@pytest.mark.parametrize("text", [None, "", "1 2", "no numbers here"])
def test_where_nothing_is_counted_there_is_none(process: Process, text: str | None) -> None:
    process.pass_by(1.0, ran=0.5, waited=0.5)
    assert process.pressure.level == 1.0
    process.now += 1.0
    if text is None:
        process.path.unlink()
    else:
        process.path.write_text(text)
    assert process.pressure.level == 0.0


def test_linux_counts_so() -> None:
    now = 0.0
    pressure = ProcessPressure(os.getpid(), monotonic=lambda: now)
    ran, waited = pressure._counted()
    assert ran > 0.0
    assert waited >= 0.0
    now += 1e9  # in which this process has hardly run
    assert pressure.level == 0.0


def niceness() -> int:
    """That of the thread that asks."""
    return os.nice(0)


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(count)))


def test_work_gives_way_until_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 2)
    now = 100.0
    way = GivingWay(monotonic=lambda: now)
    usual = niceness()
    assert way.run(niceness, is_in_time=True) == min(usual + NICENESS, 19)
    now += LATE_SECONDS * 0.9
    assert way.run(niceness, is_in_time=False) == min(usual + NICENESS, 19), "not late yet"
    now += LATE_SECONDS * 0.2
    assert way.run(niceness, is_in_time=False) == usual == niceness()
    assert way.run(niceness, is_in_time=True) == min(usual + NICENESS, 19)


def test_work_gives_no_way_on_an_only_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 1)
    assert GivingWay().run(niceness, is_in_time=True) == niceness()


def test_what_goes_wrong_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 2)
    with pytest.raises(ZeroDivisionError):
        GivingWay().run(lambda: 1 // 0, is_in_time=True)
