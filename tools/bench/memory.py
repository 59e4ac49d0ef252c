"""Memory: proportional set size of all processes together, which counts a shared page once."""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import uvloop

from tools import smtp_load
from tools.bench.ingest import await_index
from tools.bench.report import Options, Table, Target
from tools.mailgen import Generator
from tools.server import Server, process_name

SETTLE_SECONDS = 5.0
MOST_IDLE_MIB = 150.0


def run(options: Options) -> list[Table]:
    """Idle after a first start, and idle after some thousand messages over 20 connections."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    try:
        with Server(base / "data") as server:
            time.sleep(SETTLE_SECONDS)
            idle = pss(server)
            uvloop.run(smtp_load.send(server.smtp, Generator(1).take(5_000), connections=20))
            await_index(base / "data")
            time.sleep(SETTLE_SECONDS)
            used = pss(server)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    names = sorted(set(idle) | set(used))
    rows = [(name, f"{idle.get(name, 0):.1f}", f"{used.get(name, 0):.1f}") for name in names]
    total = sum(idle.values())
    rows.append(("all together", f"{total:.1f}", f"{sum(used.values()):.1f}"))
    target = Target(f"idle: {total:.0f} MiB (wanted: under {MOST_IDLE_MIB:.0f})", total < MOST_IDLE_MIB)
    return [Table("Memory", ("process", "idle MiB", "idle after 5,000 messages MiB"), rows, [target])]


def pss(server: Server) -> dict[str, float]:
    """Process -> MiB, from ``smaps_rollup``."""
    found: dict[str, float] = {}
    for pid in server.pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name = process_name(pid)
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    found[name] = found.get(name, 0.0) + int(line.split()[1]) / 1024
    return found
