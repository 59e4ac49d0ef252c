"""Notes: what must not be forgotten when this process is killed, and is not worth a commit of its own.

They are written to a file at once and not synced: they outlive the process, though not a loss of power. One server at
a time holds a data directory, so it alone reads and writes them.
"""

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from restante import log

SLOTS = 256
SLOT_BYTES = 16 * 1024

_HEADER = struct.Struct("!II")  # length and CRC-32 of what follows; length 0: the slot is free
_EMPTY = _HEADER.pack(0, 0)

_log = log.logger(__name__)


class _Note(msgspec.Struct, frozen=True, array_like=True):
    key: str
    value: bytes


class _Kept(NamedTuple):
    slot: int
    value: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Note)


class Notes:
    """Values by key in the slots of one file, which is opened when it is first needed.

    A disk that does not take a note is no reason to stop: then there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._kept: dict[str, _Kept] = {}
        self._free: list[int] = []

    def put(self, key: str, value: bytes) -> bool:
        """Keep a value under a key; False when that is not possible. Without a free slot the oldest note gives way."""
        self.remove(key)
        data = _encoder.encode(_Note(key, value))
        if not self._open() or _HEADER.size + len(data) > SLOT_BYTES:
            return False
        if not self._free and self._kept:
            self.remove(next(iter(self._kept)))
        if not self._free:
            return False
        slot = self._free.pop()
        if not self._write(slot, _HEADER.pack(len(data), zlib.crc32(data)) + data):
            self._free.append(slot)
            return False
        self._kept[key] = _Kept(slot, value)
        return True

    def find(self, key: str) -> bytes | None:
        """The value of a key, of this process or one before it."""
        self._open()
        found = self._kept.get(key)
        return None if found is None else found.value

    def remove(self, key: str) -> None:
        """Forget a key, if it is there."""
        found = self._kept.pop(key, None)
        if found is not None and self._write(found.slot, _EMPTY):
            self._free.append(found.slot)

    def close(self) -> None:
        """Let the file go; the notes in it stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._read()
            except OSError as error:
                _log.warning("no notes are kept", why=str(error))
        return self._file is not None

    def _read(self) -> None:
        assert self._file is not None
        self._kept, self._free = {}, []
        for slot in reversed(range(SLOTS)):
            note = _decoded(os.pread(self._file, SLOT_BYTES, slot * SLOT_BYTES))
            if note is None:
                self._free.append(slot)
            else:
                self._kept[note.key] = _Kept(slot, note.value)

    def _write(self, slot: int, data: bytes) -> bool:
        if self._file is None:
            return False
        try:
            return os.pwrite(self._file, data, slot * SLOT_BYTES) == len(data)
        except OSError as error:
            _log.warning("a note was not written", why=str(error))
            return False


def _decoded(slot: bytes) -> _Note | None:
    """The note in a slot; None for a free one, and for one that was being written when its process ended."""
    if len(slot) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack_from(slot)
    data = slot[_HEADER.size : _HEADER.size + length]
    if not length or len(data) < length or zlib.crc32(data) != checksum:
        return None
    with contextlib.suppress(msgspec.DecodeError):
        return _decoder.decode(data)
    return None
