"""``python -m tools.fuzz``: thirty minutes of all targets side by side, then two hundred crashes.

Each process takes the targets in turn with a seed of its own. What fails is printed with its input in base64 and
written to ``build/fuzz/``; moved to ``tests/fuzz_seeds/TARGET/`` it is run first by every later run.
"""

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.fuzz import engine, turns
from tools.fuzz.targets import TARGETS

TURN_SECONDS = 60.0


def main(arguments: list[str]) -> int:
    """Exit status 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (all)")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="begin with this one (a random one)")
    parser.add_argument("--crashes", type=int, help="how often the server is killed (200; 0 when targets are named)")
    parser.add_argument("--one", type=Path, help="run this one input and show what it does")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are: {', '.join(TARGETS)}")
    names = given.targets or list(TARGETS)
    if given.one is not None:
        print(TARGETS[names[0]](1).run(given.one.read_bytes()))
        return 0
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        count = max(1, round(given.minutes * 60 / TURN_SECONDS))
        seconds = given.minutes * 60 / count
        work = [(names[n % len(names)], seed + n, seconds) for n in range(count * workers)]
        failed = sum(pool.map(turns.run, work))
    crashes = given.crashes if given.crashes is not None else 0 if given.targets else 200
    return 1 if failed + (_crash(crashes) if crashes else 0) else 0


def _crash(rounds: int) -> int:
    environment = {**os.environ, "CRASH_ROUNDS": str(rounds)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/crash", "-q"], cwd=engine.ROOT, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
