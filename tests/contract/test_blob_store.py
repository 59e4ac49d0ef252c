"""What every blob store keeps to: files, S3 (moto's server), and Ceph's S3 gateway where its programs are installed."""

import hashlib
import mmap
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from restante.clock import ManualClock
from restante.errors import NotFound
from restante.storage.blobs.base import BlobStore, Buffer
from restante.storage.blobs.files import FileBlobs
from tests.contract import ceph
from tests.contract.s3_service import Service

STORES = ["files", "moto", *([pytest.param("radosgw", marks=pytest.mark.slow)] if ceph.PRESENT else [])]
LARGE = bytes(range(256)) * (70 << 10)  # 17.5 MiB: three parts, more than one piece


@dataclass(frozen=True, slots=True)
class Kit:
    """A store, and how to remove or damage a blob without it."""

    blobs: BlobStore
    clock: ManualClock
    remove: Callable[[str], None]


@pytest.fixture(params=STORES)
def kit(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Kit:
    if request.param == "files":
        root = tmp_path / "blobs"
        return Kit(FileBlobs(root), clock, lambda key: next(root.glob(key.replace("/", "/*/"))).unlink())
    service: Service = request.getfixturevalue(request.param)
    bucket = f"test-{uuid.uuid4().hex}"
    service.make_bucket(bucket)
    behind = service.behind(bucket)
    return Kit(service.blobs(bucket, clock, tmp_path), clock, lambda key: obstore.delete(behind, key))


def key(data: Buffer, account: int = 1) -> str:
    return f"{account}/{hashlib.sha256(data).hexdigest()}"


def put(blobs: BlobStore, data: Buffer, account: int = 1) -> str:
    return blobs.put(key(data, account), data)


def ranged(blobs: BlobStore, name: str, start: int, end: int) -> bytes:
    window = blobs.open_range(name, start, end)
    return window.raw[window.start : window.end]


def test_a_store_that_is_well_has_nothing_to_say(kit: Kit) -> None:
    kit.blobs.check()
    put(kit.blobs, b"x")
    kit.blobs.check()


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000, LARGE], ids=["empty", "one", "middle", "large"])
def test_what_is_put_can_be_opened(kit: Kit, data: bytes) -> None:
    name = put(kit.blobs, data)
    assert name.startswith(key(data))
    assert kit.blobs.open(name)[:] == data
    assert put(kit.blobs, data) == name
    (info,) = kit.blobs.list_all()
    assert (info.key, info.size_bytes) == (name, len(data))
    assert abs(info.stored_at - kit.clock.now()) < timedelta(minutes=5)


@pytest.mark.parametrize("size", [70_000, 9 << 20])
def test_mapped_memory_can_be_put(kit: Kit, tmp_path: Path, size: int) -> None:
    file = tmp_path / "message"
    file.write_bytes(b"m" * size)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        name = put(kit.blobs, mapped)
    assert len(kit.blobs.open(name)) == size


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (10, 20), (0, 0), (7, 7), (len(LARGE) - 5, len(LARGE)), (5, len(LARGE) - 5), (1 << 20, 11 << 20)],
)
def test_a_range_is_those_bytes(kit: Kit, start: int, end: int) -> None:
    assert ranged(kit.blobs, put(kit.blobs, LARGE), start, end) == LARGE[start:end]


@pytest.mark.parametrize(("start", "end"), [(2, 100), (5, 6), (100, 200), (0, 20 << 20), (9 << 20, 30 << 20)])
def test_a_range_ends_with_the_blob(kit: Kit, start: int, end: int) -> None:
    assert ranged(kit.blobs, put(kit.blobs, b"short"), start, end) == b"short"[start:end]


def test_a_missing_blob_is_not_found(kit: Kit) -> None:
    name = put(kit.blobs, b"here")
    gone = name.replace(key(b"here"), key(b"nothing"))
    for ask in (kit.blobs.open, lambda name: kit.blobs.open_range(name, 0, 3)):
        with pytest.raises(NotFound) as error:
            ask(gone)
        assert error.value.code == "blob_not_found"
    assert not kit.blobs.delete(gone, unless_put_since=kit.clock.now() + timedelta(days=9))


def test_a_blob_deleted_behind_our_back_is_not_found_and_can_be_put_again(kit: Kit) -> None:
    name = put(kit.blobs, b"precious")
    kit.remove(name)
    with pytest.raises(NotFound):
        kit.blobs.open(name)
    with pytest.raises(NotFound):
        kit.blobs.open_range(name, 0, 1)
    assert put(kit.blobs, b"precious") == name
    assert kit.blobs.open(name)[:] == b"precious"


@pytest.mark.parametrize(
    "bad", ["", "../x", "1/../../etc/passwd", "x/" + "0" * 64, "1/" + "0" * 63, "1/" + "A" * 64, f"1/{'0' * 64}/x"]
)
def test_keys_cannot_leave_the_store(kit: Kit, bad: str) -> None:
    with pytest.raises(NotFound):
        kit.blobs.put(bad, b"data")
    with pytest.raises(NotFound):
        kit.blobs.open(bad)
    with pytest.raises(NotFound):
        kit.blobs.open_range(bad, 0, 1)
    assert list(kit.blobs.list_all()) == []


def test_accounts_do_not_share(kit: Kit) -> None:
    first, second = put(kit.blobs, b"x", 1), put(kit.blobs, b"x", 2)
    assert first != second
    kit.remove(first)
    assert kit.blobs.open(second)[:] == b"x"


def test_a_blob_put_lately_is_not_deleted(kit: Kit) -> None:
    name = put(kit.blobs, b"x")
    assert not kit.blobs.delete(name, unless_put_since=kit.clock.now() - timedelta(minutes=1))
    assert kit.blobs.delete(name, unless_put_since=kit.clock.now() + timedelta(days=3))
    assert not kit.blobs.delete(name, unless_put_since=kit.clock.now() + timedelta(days=3))
    with pytest.raises(NotFound):
        kit.blobs.open(name)


@pytest.mark.parametrize("data", [b"same" * 1000, LARGE[: 9 << 20]], ids=["one piece", "parts"])
def test_many_may_put_the_same_at_once(kit: Kit, data: bytes) -> None:
    with ThreadPoolExecutor(6) as pool:
        names = set(pool.map(lambda _: put(kit.blobs, data), range(6)))
    (name,) = names
    assert kit.blobs.open(name)[:] == data
    assert [info.key for info in kit.blobs.list_all()] == [name]


def test_every_blob_is_listed(kit: Kit) -> None:
    names = [put(kit.blobs, b"%d" % number, number % 7 + 1) for number in range(40)]
    assert sorted(info.key for info in kit.blobs.list_all()) == sorted(names)
