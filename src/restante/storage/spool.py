"""Where a message waits while it arrives: in memory while it is small, in an unnamed file beyond that.

The file has no name in the directory (O_TMPFILE, or unlinked at once), so nothing is left behind by a crash.
"""

import contextlib
import mmap
import tempfile
from pathlib import Path
from typing import IO

from restante import errors
from restante.storage.room import Room

Buffer = bytes | mmap.mmap

MEMORY_LIMIT = 256 * 1024


class Spool:
    """Collects one message; ``size_bytes`` is what was written so far.

    Raises Unavailable(code="storage_full") from ``write`` and ``finish`` when the disk does not take it, or would leave
    less free than ``room`` wants.
    """

    __slots__ = ("_buffer", "_directory", "_file", "_map", "_memory_limit", "_room", "size_bytes")

    def __init__(self, directory: Path, memory_limit: int = MEMORY_LIMIT, room: Room | None = None) -> None:
        self._directory = directory
        self._memory_limit = memory_limit
        self._room = room
        self._buffer: bytes | bytearray = b""
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append a chunk; beyond the memory limit all of it goes to the file."""
        self.size_bytes += len(chunk)
        if self._file is not None:
            self._append(chunk)
        elif self.size_bytes > self._memory_limit:
            held, self._buffer = self._buffer, b""
            self._spill(held, chunk)
        elif not self._buffer:
            self._buffer = chunk  # most messages come in one piece: no copy
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += chunk

    def finish(self) -> Buffer:
        """The whole message: bytes, or a read-only map of the file that lives until ``close``."""
        if self._file is None:
            return bytes(self._buffer)
        try:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _full() from error
        return self._map

    def close(self) -> None:
        """Forget the message; may be called at any time and more than once."""
        self._buffer = b""
        if self._map is not None:
            with contextlib.suppress(BufferError):  # someone still looks at a slice: the map goes when that does
                self._map.close()
            self._map = None
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _spill(self, held: bytes | bytearray, chunk: bytes) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a failed write is seen here, not at close.
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - closed in close()
        except OSError as error:
            raise _full() from error
        self._append(held)
        self._append(chunk)

    def _append(self, data: bytes | bytearray) -> None:
        assert self._file is not None
        if self._room is not None:
            self._room.require(len(data))
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _full() from error


def _full() -> errors.Unavailable:
    return errors.Unavailable("the message cannot be kept on disk now", code="storage_full")
