"""One switchboard: start processes under the shim with ``environment()``, then set faults while they run."""

import mmap
import os
import random
import struct
import subprocess
from pathlib import Path

from tools.powerloss import journal

SOURCE = Path(__file__).with_name("shim.c")
FIELDS = ("free_bytes", "sync_errno", "read_only", "clock_offset_micros", "sync_micros")
CONTROL = struct.Struct("<6q")


def build(directory: Path) -> Path:
    """Compile the shim into ``directory`` and return the library's path."""
    library = directory / "shim.so"
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"],
        check=True,
        capture_output=True,
    )
    return library


class Faults:
    """The faults of one data directory. ``side`` must be on the same file system, and outside of it."""

    def __init__(self, library: Path, data: Path, side: Path) -> None:
        self._library = library
        self._data = data.resolve()
        self._side = side.resolve()
        self._side.mkdir(parents=True, exist_ok=True)
        control = self._side / "control"
        control.write_bytes(CONTROL.pack(-1, 0, 0, 0, 0, 0))
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), CONTROL.size)

    def environment(self) -> dict[str, str]:
        """This process's environment with the shim added."""
        return {
            **os.environ,
            "LD_PRELOAD": str(self._library),
            "FAULTS_DATA": str(self._data),
            "FAULTS_SIDE": str(self._side),
        }

    def set(self, **values: int) -> None:
        """Change faults at once, for all processes.

        ``free_bytes`` (-1: no limit) until ENOSPC, ``sync_errno`` (0: none), ``read_only`` (0 or 1),
        ``clock_offset_micros``, ``sync_micros`` (how long a sync takes).
        """
        for name, value in values.items():
            struct.pack_into("<q", self._page, FIELDS.index(name) * 8, value)

    def changes(self) -> int:
        """How many changes the shim has seen: 0 means that it is not in the way of anything."""
        return int(CONTROL.unpack_from(self._page)[5])

    def cut_power(self, rng: random.Random, *, survive: float = 0.0) -> journal.Loss:
        """After all processes were killed: lose what was not synced (see ``journal.cut_power``)."""
        return journal.cut_power(self._data, self._side, rng, survive=survive)
