"""At least 200,000 inputs for each target, in shards that can run side by side; `./dev fuzz` goes on for longer."""

from pathlib import Path

import pytest

from tools.fuzz import engine
from tools.fuzz.targets import TARGETS

INPUTS = 200_000
SHARDS = 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str, shard: int, tmp_path: Path) -> None:
    target = TARGETS[name](shard)
    try:
        outcome = engine.run(target, seed=shard, inputs=INPUTS // SHARDS)
    finally:
        target.close()
    print(outcome)
    paths = engine.save(outcome, tmp_path / "failed")
    assert not outcome.failures, "\n\n".join(f"{path}\n{it}" for path, it in zip(paths, outcome.failures, strict=True))
    assert outcome.inputs == INPUTS // SHARDS
