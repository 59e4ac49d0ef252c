"""The fuzzing engine finds what it is to find: exceptions, slowness, changed state; and repeats itself by its seed."""

import subprocess
import sys
import time
from collections.abc import Hashable
from pathlib import Path

import pytest

from tools.fuzz import engine


class Planted:
    """Fails as it is told to."""

    name = "header"  # whose dictionary and kept seeds it uses
    largest_bytes = 200

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.inputs: list[bytes] = []

    def seeds(self) -> list[bytes]:
        return [b"abc: def", b"ghi"]

    def run(self, data: bytes) -> Hashable:
        self.inputs.append(data)
        if self.fault == "raise" and b'"' in data and b"@" in data:
            raise ValueError("planted")
        if self.fault == "slow" and b";" in data:
            until = time.process_time() + 0.02
            while time.process_time() < until:
                pass
        return data[:1]

    def check(self) -> None:
        assert self.fault != "state" or len(self.inputs) < 3_000, "planted"

    def close(self) -> None:
        self.inputs.clear()


def test_a_run_repeats_itself() -> None:
    first, second = Planted(), Planted()
    outcome = engine.run(first, seed=1, inputs=500)
    engine.run(second, seed=1, inputs=500)
    assert first.inputs == second.inputs
    assert outcome.inputs == 500
    assert outcome.behaviours > 20
    assert not outcome.failures
    assert len(set(first.inputs)) > 300


def test_an_exception_is_found_and_its_input_kept(tmp_path: Path) -> None:
    outcome = engine.run(Planted("raise"), seed=2, inputs=5_000)
    assert len(outcome.failures) == engine.MOST_FAILURES
    assert "ValueError: planted" in str(outcome.failures[0])
    assert "base64" in str(outcome.failures[0])
    paths = engine.save(outcome, tmp_path / "failed")
    assert paths[0].read_bytes() == outcome.failures[0].data


def test_slowness_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SLOW_SECONDS", 0.01)
    outcome = engine.run(Planted("slow"), seed=3, inputs=2_000)
    assert "twice" in outcome.failures[0].problem


def test_changed_state_is_found() -> None:
    outcome = engine.run(Planted("state"), seed=4, inputs=5_000)
    assert "changed what was kept" in outcome.failures[0].problem


def test_every_target_has_a_dictionary() -> None:
    from tools.fuzz.targets import TARGETS

    for name in TARGETS:
        assert len(engine.dictionary(name)) > 20


def test_a_short_run_of_everything_together() -> None:
    command = [sys.executable, "-m", "tools.fuzz", "replies", "--minutes", "0.01", "--seed", "1"]
    done = subprocess.run(command, cwd=engine.ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "seed 1  replies: " in done.stdout
