"""One target's turn in a process of the pool, which finds it by name: a package's ``__main__`` it cannot import."""

from tools.fuzz import engine
from tools.fuzz.targets import TARGETS

FAILED = engine.ROOT / "build" / "fuzz"


def run(work: tuple[str, int, float]) -> int:
    """Give (target, seed, seconds) its time and print what came of it; returns how much failed."""
    name, seed, seconds = work
    target = TARGETS[name](seed)
    try:
        outcome = engine.run(target, seed=seed, seconds=seconds)
    finally:
        target.close()
    print(f"seed {seed}  {outcome}", flush=True)
    for failure, path in zip(outcome.failures, engine.save(outcome, FAILED), strict=True):
        print(f"{path}\n{failure}", flush=True)
    return len(outcome.failures)
