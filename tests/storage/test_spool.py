"""Where a message waits: memory, then an unnamed file; a full disk is temporary."""

import errno
import mmap
from pathlib import Path

import pytest

from restante import errors
from restante.storage.room import Room
from restante.storage.spool import Spool


def test_small_messages_stay_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", memory_limit=10)
    assert spool.finish() == b""
    for chunk in (b"abc", b"", b"def", b"ghij"):
        spool.write(chunk)
    assert spool.finish() == b"abcdefghij"
    assert spool.size_bytes == 10
    assert not (tmp_path / "spool").exists()
    spool.close()


def test_large_messages_go_to_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", memory_limit=10)
    for chunk in (b"abc", b"defg", b"hijklmn", b"o" * 100_000):
        spool.write(chunk)
    raw = spool.finish()
    assert isinstance(raw, mmap.mmap)
    assert raw[:] == b"abcdefghijklmn" + b"o" * 100_000
    assert raw.find(b"no") == 13
    assert list((tmp_path / "spool").iterdir()) == []
    view = memoryview(raw)
    spool.close()  # somebody still looks
    assert view[0] == ord("a")
    view.release()
    spool.close()


def test_a_full_disk_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    spool = Spool(tmp_path, memory_limit=10)
    with pytest.raises(errors.Unavailable) as caught:
        spool.write(b"x" * 11)
    assert caught.value.code == "storage_full"
    spool.close()


def test_room_is_left_on_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_limit=10, room=Room(tmp_path, 1 << 62))
    spool.write(b"x" * 10)
    with pytest.raises(errors.Unavailable) as caught:
        spool.write(b"x")
    assert caught.value.code == "storage_full"
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_temporary(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    spool = Spool(tmp_path / "file" / "spool", memory_limit=10)
    with pytest.raises(errors.Unavailable):
        spool.write(b"x" * 11)
    spool.close()
