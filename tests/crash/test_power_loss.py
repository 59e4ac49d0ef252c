"""Power loss under load: what was not synced when the server died is gone, and acknowledged mail is not."""

import os
import random
from pathlib import Path

import pytest

from tests.crash import harness
from tools.powerloss.faults import Faults, build
from tools.server import Server

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))


@pytest.mark.timeout(120 + 15 * ROUNDS)
@pytest.mark.parametrize("survive", [0.0, 0.5], ids=["all-lost", "half-lost"])
def test_what_was_acknowledged_outlives_the_power(tmp_path: Path, survive: float) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    faults = Faults(build(tmp_path), data_dir, tmp_path / "side")
    faults.set(sync_micros=2_000)  # a slower disk than a virtual one: more is open when the power goes
    rng = random.Random(f"power/{survive}")
    ledger = harness.Ledger(11 + int(survive * 10))
    mailbox, lost = "", 0
    for number in range(max(4, ROUNDS // 4)):
        with Server(data_dir, environment=faults.environment()) as server:
            if server.first_run is not None:
                mailbox = server.first_run.mailbox
            assert mailbox, f"round {number}: the first run's mailbox is gone"

            def cut(server: Server = server) -> None:
                harness.await_acknowledged(ledger, len(ledger.acknowledged) + rng.randrange(1, 120))
                server.kill_group()

            harness.load(server, ledger, cut)
        lost += faults.cut_power(rng, survive=survive).writes
        harness.verify(data_dir)
        ledger.compare(data_dir, mailbox)
        faults.cut_power(rng, survive=1.0)
    assert lost > 0, "nothing was unsynced at any time: the shim is not in the way"
