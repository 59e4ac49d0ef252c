"""Room on the disk: mail is refused for the moment before the disk is full, not when a commit fails."""

import os
import time
from pathlib import Path

from restante.errors import Unavailable

CHECK_SECONDS = 1.0


class Room:
    """Free bytes of the file system that holds the data directory, looked up at most once a second."""

    def __init__(self, data_dir: Path, min_free_bytes: int) -> None:
        self._data_dir, self._min_free_bytes = data_dir, min_free_bytes
        self._checked_at = float("-inf")
        self._free_bytes = 0

    def free_bytes(self) -> int:
        """How many bytes an ordinary user may still write."""
        now = time.monotonic()
        if now - self._checked_at > CHECK_SECONDS:
            found = os.statvfs(self._data_dir)
            self._free_bytes = found.f_bavail * found.f_frsize
            self._checked_at = now
        return self._free_bytes

    def require(self, size_bytes: int) -> None:
        """Raise Unavailable(code="storage_full") when ``size_bytes`` more would leave too little."""
        if self.free_bytes() - size_bytes < self._min_free_bytes:
            raise Unavailable("the disk is almost full", code="storage_full")
