"""SIGKILL while rules take mail to Trash: none is lost, the store is sound, and the next run goes on at once."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tools.server import Server, command

MESSAGES = 1500
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "5"))
ALICE = "alice@example.test"


def held(data_dir: Path, folder: str) -> int:
    return int(command(data_dir, "message", "list", ALICE, "--folder", folder, "--limit", "1")["total"])


def test_a_run_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    data_dir, chance = tmp_path / "data", random.Random(5)
    old = b"From a@example.org Mon Jan  2 10:00:00 2023\nSubject: old\n\nstill here\n\n"
    young = b"From a@example.org Fri Jan  2 10:00:00 2099\nSubject: young\n\nstill here\n\n"
    (tmp_path / "old.mbox").write_bytes(old * MESSAGES + young * 7)
    command(data_dir, "mailbox", "add", ALICE)
    command(data_dir, "import", str(tmp_path / "old.mbox"), "--mailbox", ALICE)
    command(data_dir, "retention", "set", "--days", "30")
    between = 0
    for _ in range(ROUNDS):
        with Server(data_dir) as server:
            words = [sys.executable, "-m", "restante", "retention", "run", "--data-dir", str(data_dir)]
            run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.1, 1.2))
            server.kill_group()
            run.wait(timeout=60)
        left, gone = held(data_dir, "INBOX"), held(data_dir, "Trash")
        assert left + gone == MESSAGES + 7
        between += 7 < left < MESSAGES + 7
        assert command(data_dir, "verify")["ok"]
    with Server(data_dir) as server:
        command(data_dir, "retention", "run")
        assert server.stop() == 0
    print(f"killed in the middle: {between} of {ROUNDS}")
    assert (held(data_dir, "INBOX"), held(data_dir, "Trash")) == (7, MESSAGES)
    assert command(data_dir, "verify")["ok"]
