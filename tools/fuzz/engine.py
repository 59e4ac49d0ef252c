"""The run: inputs are made, given to a target, and judged by what it raises, how long it takes and what it keeps.

A target's ``run`` answers a short description of what the input did. An input that does something new joins the pool,
so that the search goes on from there; no instrumentation is needed for it.
"""

import base64
import gc
import random
import signal
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from tools.fuzz.mutate import Mutator

ROOT = Path(__file__).resolve().parents[2]
KEPT_SEEDS = ROOT / "tests" / "fuzz_seeds"
HANG_SECONDS = 20.0  # of CPU time; an input that needs more is stopped
SLOW_SECONDS = 0.5  # of CPU time, for inputs of some kilobytes, twice in a row
GROWTH_BYTES = 96 << 20  # resident memory from after the warm-up to the end
POOL_LIMIT = 4_000
MOST_FAILURES = 5


class Target(Protocol):
    """Something that takes any bytes. ``run`` raises when a promise is broken."""

    name: str
    largest_bytes: int  # of nearly all inputs

    def seeds(self) -> list[bytes]:
        """Where to start, beside the kept seeds."""
        ...

    def run(self, data: bytes) -> Hashable:
        """Take one input; the answer says in short what it did."""
        ...

    def check(self) -> None:
        """Called now and then: what was kept before must be as it was."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """An input and what is wrong with what it did."""

    data: bytes
    problem: str

    def __str__(self) -> str:
        return f"{self.problem}\ninput, {len(self.data)} bytes, base64: {base64.b64encode(self.data).decode()}"


@dataclass(slots=True)
class Outcome:
    """Figures of one run."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    behaviours: int = 0
    grown_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.inputs:,} inputs in {self.seconds:.1f} s, "
            f"{self.behaviours:,} behaviours, slowest {self.slowest_seconds * 1000:.1f} ms, "
            f"memory {self.grown_bytes / 2**20:+.1f} MiB, {len(self.failures)} failures"
        )


class Hang(BaseException):
    """An input ran out of CPU time; no handler of the product's may swallow it."""


def kept_seeds(target: str) -> list[bytes]:
    """The seeds that the repository keeps for a target, among them every input that once failed."""
    folder = KEPT_SEEDS / target
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def dictionary(target: str) -> list[bytes]:
    """The words of a target's input, from ``dictionaries/``: one a line, written with Python's escapes."""
    lines = (Path(__file__).parent / "dictionaries" / f"{target}.txt").read_text("ascii").splitlines()
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines]


def run(target: Target, *, seed: int, inputs: int | None = None, seconds: float = float("inf")) -> Outcome:
    """Run the kept seeds and then mutated inputs until ``inputs`` or ``seconds`` are over, or enough has failed."""
    outcome = Outcome(target.name)
    seeds = [*kept_seeds(target.name), *target.seeds()]
    mutator = Mutator(random.Random(seed), seeds, dictionary(target.name), target.largest_bytes)
    behaviours: set[int] = set()  # by hash: they are many
    started = time.monotonic()
    first = list(mutator.pool)
    resident = 0
    with _watchdog():
        for data in _inputs(first, mutator.next, inputs, started + seconds):
            behaviour = _one(target, data, outcome)
            if behaviour is not None and hash(behaviour) not in behaviours:
                behaviours.add(hash(behaviour))
                if len(mutator.pool) < POOL_LIMIT:
                    mutator.pool.append(data)
            outcome.inputs += 1
            if outcome.inputs % 2_000 == 0:
                _recheck(target, data, outcome)
            if outcome.inputs == 5_000:
                resident = _resident_bytes()
            if len(outcome.failures) >= MOST_FAILURES:
                break
    outcome.seconds = time.monotonic() - started
    outcome.behaviours = len(behaviours)
    if resident:
        outcome.grown_bytes = _resident_bytes() - resident
        if outcome.grown_bytes > GROWTH_BYTES:
            outcome.failures.append(Failure(b"", f"memory grew by {outcome.grown_bytes:,} bytes"))
    return outcome


def save(outcome: Outcome, folder: Path) -> list[Path]:
    """Write each failing input to ``folder``; kept as seeds they are run first from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, failure in enumerate(outcome.failures):
        path = folder / f"{outcome.target}-{number}"
        path.write_bytes(failure.data)
        paths.append(path)
    return paths


def _inputs(first: list[bytes], make: Callable[[], bytes], limit: int | None, until: float) -> Iterator[bytes]:
    count = 0
    for data in first[:limit]:
        count += 1
        yield data
    while limit is None or count < limit:
        if count % 64 == 0 and time.monotonic() > until:
            return
        count += 1
        yield make()


def _one(target: Target, data: bytes, outcome: Outcome) -> Hashable:
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    began = time.process_time()
    try:
        behaviour = target.run(data)
    except Hang:
        outcome.failures.append(Failure(data, f"still busy after {HANG_SECONDS:.0f} s of CPU time"))
        return None
    except Exception:  # noqa: BLE001 - that nothing escapes is what is tested
        outcome.failures.append(Failure(data, traceback.format_exc(limit=-6)))
        return None
    spent = time.process_time() - began
    if spent > outcome.slowest_seconds:
        if spent > SLOW_SECONDS:
            gc.collect()
            began = time.process_time()
            target.run(data)
            spent = time.process_time() - began
            if spent > SLOW_SECONDS:
                outcome.failures.append(Failure(data, f"took {spent:.2f} s of CPU time, twice"))
        outcome.slowest_seconds = max(spent, outcome.slowest_seconds)
    return behaviour


def _recheck(target: Target, data: bytes, outcome: Outcome) -> None:
    try:
        target.check()
    except Exception:  # noqa: BLE001 - reported with the last input
        problem = f"one of the last inputs changed what was kept:\n{traceback.format_exc(limit=-6)}"
        outcome.failures.append(Failure(data, problem))


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def _watchdog() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
