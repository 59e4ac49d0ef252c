"""Blobs as files."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restante.errors import NotFound, Unavailable
from restante.storage.blobs.files import FileBlobs


def key(data: bytes, account: int = 1) -> str:
    return f"{account}/{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000])
def test_what_is_put_can_be_opened(blobs: FileBlobs, data: bytes) -> None:
    blobs.put(key(data), data)
    blobs.put(key(data), data)
    assert blobs.open(key(data))[:] == data
    assert [(info.key, info.size_bytes) for info in blobs.list_all()] == [(key(data), len(data))]


def test_a_missing_blob_is_not_found(blobs: FileBlobs) -> None:
    with pytest.raises(NotFound):
        blobs.open(key(b"nothing"))


@pytest.mark.parametrize("bad", ["", "../x", "1/../../etc/passwd", "x/" + "0" * 64, "1/" + "0" * 63, "1/" + "A" * 64])
def test_keys_cannot_leave_the_store(blobs: FileBlobs, bad: str) -> None:
    with pytest.raises(NotFound):
        blobs.put(bad, b"data")
    with pytest.raises(NotFound):
        blobs.open(bad)


def test_accounts_do_not_share(blobs: FileBlobs) -> None:
    blobs.put(key(b"x", 1), b"x")
    with pytest.raises(NotFound):
        blobs.open(key(b"x", 2))


def test_a_blob_put_again_meanwhile_is_not_deleted(blobs: FileBlobs) -> None:
    blobs.put(key(b"x"), b"x")
    assert not blobs.delete(key(b"x"), unless_put_since=datetime.now(UTC) - timedelta(minutes=1))
    assert blobs.delete(key(b"x"), unless_put_since=datetime.now(UTC) + timedelta(minutes=1))
    assert not blobs.delete(key(b"x"), unless_put_since=datetime.now(UTC) + timedelta(minutes=1))
    with pytest.raises(NotFound):
        blobs.open(key(b"x"))


def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        FileBlobs(tmp_path / "blobs").put(key(b"x"), b"x")
