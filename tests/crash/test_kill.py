"""SIGKILL under load: whatever dies and whenever, what got 250 is there once, and the store verifies."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.crash import harness
from tools.server import Server

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
VICTIMS = ("group", "front", "writer", "indexer")


def end(server: Server, victim: str, rng: random.Random, ledger: harness.Ledger) -> None:
    """Kill the victim after some random number of answers."""
    harness.await_acknowledged(ledger, len(ledger.acknowledged) + rng.randrange(1, 150))
    time.sleep(rng.random() * 0.02)
    match victim:
        case "group":
            server.kill_group()
        case "front":
            os.kill(server.process.pid, signal.SIGKILL)
            server.await_end()  # the others notice, and leave nothing open
        case "writer":
            os.kill(server.pid_of("restante.storage.writer"), signal.SIGKILL)
            assert server.await_end() != 0
        case _:
            os.kill(server.pid_of(".indexer"), signal.SIGKILL)
            harness.await_acknowledged(ledger, len(ledger.acknowledged) + 100)  # mail is taken on meanwhile
            assert server.stop() == 0


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.usefixtures("server_on_engine")
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_acknowledged_is_lost(tmp_path: Path, victim: str) -> None:
    data_dir = tmp_path / "data"
    rng = random.Random(f"{victim}/{ROUNDS}")
    ledger = harness.Ledger(VICTIMS.index(victim))
    mailbox = ""
    for _ in range(max(1, ROUNDS // len(VICTIMS))):
        with Server(data_dir) as server:
            mailbox = server.first_run.mailbox if server.first_run else mailbox
            load = harness.load(server, ledger, lambda: end(server, victim, rng, ledger))
        assert load.lost_connections or victim == "indexer"
        harness.verify(data_dir)
        there = ledger.compare(data_dir, mailbox)
        assert there >= len(ledger.acknowledged)
    assert len(ledger.acknowledged) > ROUNDS
