"""The fault injection itself: it must lose what is not synced, and nothing that is."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.powerloss.faults import Faults, build

WRITER = """
import apsw, sys
db = apsw.Connection(sys.argv[1])
synchronous, checkpoint = sys.argv[2:]
for pragma in ("journal_mode=wal", "synchronous=" + synchronous, "wal_autocheckpoint=" + checkpoint):
    list(db.execute("pragma " + pragma))
db.execute("create table if not exists t (id integer primary key, body blob)")
last = list(db.execute("select coalesce(max(id), 0) from t"))[0][0]
while True:
    last += 1
    db.execute("insert into t values (?, randomblob(3000))", (last,))
    print(last, flush=True)
"""

COUNT = """
import apsw, sys
db = apsw.Connection(sys.argv[1])
assert list(db.execute("pragma integrity_check")) == [("ok",)]
print(*(row[0] for row in db.execute("select id from t order by id")))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def faults(library: Path, tmp_path: Path) -> Faults:
    (tmp_path / "data").mkdir()
    return Faults(library, tmp_path / "data", tmp_path / "side")


def write_and_kill(faults: Faults, database: Path, synchronous: str, rows: int, checkpoint: int = 50) -> int:
    """Insert until ``rows`` are acknowledged, kill; returns the last acknowledged one.

    ``checkpoint``: the pages in the WAL after which it is synced and copied; 0 is never.
    """
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database), synchronous, str(checkpoint)],
        env=faults.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        last = 0
        for _ in range(rows):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().splitlines()]
    return acknowledged[-1] if acknowledged else last


def rows(database: Path) -> list[int]:
    shown = subprocess.run(
        [sys.executable, "-c", COUNT, str(database)], capture_output=True, text=True, check=True, timeout=60
    )
    return [int(value) for value in shown.stdout.split()]


@pytest.mark.parametrize("survive", [0.0, 0.5])
def test_a_full_sync_loses_nothing_acknowledged(faults: Faults, tmp_path: Path, survive: float) -> None:
    database = tmp_path / "data" / "t.db"
    rng = random.Random(1)
    for count in (20, 130, 60):
        last = write_and_kill(faults, database, "full", count)
        faults.cut_power(rng, survive=survive)
        kept = rows(database)
        assert kept == list(range(1, len(kept) + 1))
        assert last <= len(kept) <= last + 1
    assert faults.changes() > 500


@pytest.mark.parametrize("synchronous", ["off", "normal"])
def test_less_than_a_full_sync_loses_what_was_acknowledged(faults: Faults, tmp_path: Path, synchronous: str) -> None:
    database = tmp_path / "data" / "t.db"
    write_and_kill(faults, database, "full", 10)
    faults.cut_power(random.Random(2))
    # No checkpoint: it would sync, even at "normal", and nothing were lost if the kill came right after it.
    last = write_and_kill(faults, database, synchronous, 30, checkpoint=0)
    loss = faults.cut_power(random.Random(2))
    assert loss.writes > 0
    assert len(rows(database)) < last


FILES = """
import os, sys
os.chdir(sys.argv[1])
def write(name, data, sync):
    with open(name, "wb", buffering=0) as file:
        file.write(data)
        if sync: os.fsync(file.fileno())
def sync(name):
    fd = os.open(name, os.O_RDONLY); os.fsync(fd); os.close(fd)
write("synced", b"1", True); os.mkdir("d"); sync(".")
write("d/kept", b"kept", True); sync("d")
write("no-directory-sync", b"2", True)
write("d/tmp", b"new", True); os.rename("d/tmp", "d/kept")
write("synced", b"changed", False)
os.unlink("d/kept")
print("done", flush=True)
os.kill(os.getpid(), 9)
"""


def test_names_and_contents_need_their_own_syncs(faults: Faults, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-c", FILES, str(data)], env=faults.environment(), capture_output=True, check=False
    )
    assert done.stdout == b"done\n", done.stderr
    loss = faults.cut_power(random.Random(3))
    found = {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert found == {"synced": b"1", "d/kept": b"kept"}
    assert loss.names == 4  # one file, one temporary file, its rename, one removal


CALLS = """
import os, sys, time
name = os.path.join(sys.argv[1], "file")
for line in sys.stdin:
    try:
        if line == "time\\n":
            print(int(time.time()), flush=True)
            continue
        with open(name, "ab", buffering=0) as file:
            file.write(b"x" * 1000)
            os.fsync(file.fileno())
        print(os.stat(name).st_size, flush=True)
    except OSError as error:
        print(-error.errno, flush=True)
"""


def test_faults_come_and_go_while_a_process_runs(faults: Faults, tmp_path: Path) -> None:
    import errno
    import time

    with subprocess.Popen(
        [sys.executable, "-c", CALLS, str(tmp_path / "data")],
        env=faults.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(what: str = "write") -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(what + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        assert ask() == 1000
        faults.set(free_bytes=1500)
        assert ask() == 2000
        assert ask() == -errno.ENOSPC
        faults.set(free_bytes=-1, read_only=1)
        assert ask() == -errno.EROFS
        faults.set(read_only=0, sync_errno=errno.EIO)
        assert ask() == -errno.EIO
        faults.set(sync_errno=0)
        assert ask() == 4000
        assert abs(ask("time") - time.time()) < 60
        faults.set(clock_offset_micros=-86_400_000_000)
        assert abs(ask("time") + 86_400 - time.time()) < 60
        process.stdin.close()
        process.wait(timeout=20)
    assert os.stat(tmp_path / "data" / "file").st_size == 4000  # noqa: PTH116
