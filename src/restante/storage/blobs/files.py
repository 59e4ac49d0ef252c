"""Blobs as files: ``blobs/{account}/{ab}/{sha256}``, written beside and renamed, file and folder fsynced."""

import contextlib
import mmap
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from restante import ids
from restante.errors import NotFound, Unavailable
from restante.storage.blobs.base import BlobInfo, Buffer, Window

KEY = re.compile(r"\A(\d{1,19})/([0-9a-f]{64})\Z")


class FileBlobs:
    """A blob store in a directory of one machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # a put that renews and a delete that looks first must not cross

    def _path(self, key: str) -> Path:
        match = KEY.match(key)
        if match is None:
            raise NotFound(f"no such blob: {key!r}", code="blob_not_found")
        account, digest = match.groups()
        return self._root / account / digest[:2] / digest

    def check(self) -> None:
        if self._root.exists() and not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise Unavailable(f"the blob store cannot be used: {self._root} is not ours to write")

    def put(self, key: str, data: Buffer) -> str:
        path = self._path(key)
        with self._lock, contextlib.suppress(OSError):  # whatever it is, writing it anew will say
            os.utime(path)
            _fsync(path)  # a put that was killed before its fsync may have left it
            _fsync(path.parent)
            return key
        beside = path.with_name(f".{path.name}.{ids.new_uuid().hex}")
        try:
            self._make_folders(path.parent)
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
            _fsync(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise Unavailable(f"the blob store does not take writes: {error.strerror}", code="storage_full") from error
        return key

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            _fsync(made.parent)

    def open(self, key: str) -> Buffer:
        try:
            with self._path(key).open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return b""
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise NotFound(f"the bytes of blob {key} are gone", code="blob_not_found") from error
        except OSError as error:
            raise Unavailable(f"the blob store cannot be read: {error.strerror}") from error

    def open_range(self, key: str, start: int, end: int) -> Window:
        raw = self.open(key)
        return Window(raw, min(start, len(raw)), min(end, len(raw)))

    def delete(self, key: str, *, unless_put_since: datetime) -> bool:
        path = self._path(key)
        with self._lock:
            try:
                if path.stat().st_mtime > unless_put_since.timestamp():
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def list_all(self) -> Iterator[BlobInfo]:
        for path in self._root.glob("*/*/*"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                key = f"{path.parent.parent.name}/{path.name}"
                if KEY.match(key):
                    yield BlobInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
