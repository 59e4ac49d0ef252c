"""Several nodes, one bucket, no lock: a blob that a row names is never deleted (docs/decisions, S3 blobs)."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from restante.clock import ManualClock
from restante.storage.blobs.s3 import S3Blobs
from tests.contract import s3_service
from tests.contract.s3_service import Service

EVENING = datetime(2026, 11, 21, 23, 50, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SKEW = 10 * MINUTE  # of each node's clock
DELETE = obstore.delete
COMMIT = 35 * MINUTE  # between the blob and its row, at most


def put(blobs: S3Blobs, data: bytes) -> str:
    return blobs.put(f"1/{hashlib.sha256(data).hexdigest()}", data)


def test_what_is_put_again_next_day_is_another_object(moto: Service, bucket: str, tmp_path: Path) -> None:
    clock = ManualClock(EVENING)
    here, there = moto.blobs(bucket, clock, tmp_path), moto.blobs(bucket, clock, tmp_path)
    old = put(here, b"x")
    assert put(there, b"x") == old
    clock.advance(20 * MINUTE)
    new = put(there, b"x")
    assert new != old
    assert s3_service.paths(moto.behind(bucket)) == sorted([old, new])
    clock.advance(timedelta(hours=2))
    assert here.delete(old, unless_put_since=clock.now())
    assert not here.delete(new, unless_put_since=clock.now())
    assert there.open(new) == b"x"


@pytest.mark.parametrize(
    ("at", "gone"), [("23:55", False), ("00:30", False), ("00:59", False), ("01:00", True), ("09:00", True)]
)
def test_a_day_has_to_be_over_for_an_hour(moto: Service, bucket: str, tmp_path: Path, at: str, gone: bool) -> None:
    blobs = moto.blobs(bucket, ManualClock(EVENING), tmp_path)
    name = put(blobs, b"x")
    hour, minute = map(int, at.split(":"))
    looked = EVENING.replace(hour=hour, minute=minute) + timedelta(days=0 if hour > 20 else 1)
    assert blobs.delete(name, unless_put_since=looked) is gone


def test_objects_copied_from_files_have_no_day(moto: Service, bucket: str, tmp_path: Path) -> None:
    """Nobody puts such names any more, so only a row can need them."""
    blobs = moto.blobs(bucket, ManualClock(EVENING), tmp_path)
    copied = f"1/{hashlib.sha256(b'x').hexdigest()}"
    obstore.put(moto.behind(bucket), copied, b"x")
    assert blobs.open(copied) == b"x"
    assert put(blobs, b"x") != copied
    assert blobs.delete(copied, unless_put_since=EVENING)


def test_what_others_keep_in_the_bucket_is_left_alone(moto: Service, bucket: str, tmp_path: Path) -> None:
    blobs = moto.blobs(bucket, ManualClock(EVENING), tmp_path)
    for path in ("readme.txt", "1/x", f"1/{'0' * 64}.29999999", f"1/{'0' * 64}.2026", f"other/1/{'0' * 64}"):
        obstore.put(moto.behind(bucket), path, b"x")
    assert list(blobs.list_all()) == []


class House:
    """Nodes and the rows they share, in steps that may come in any order; time only goes on."""

    def __init__(self, moto: Service, bucket: str, folder: Path, rng: random.Random) -> None:
        self.now, self.rng = EVENING - 20 * MINUTE, rng
        self.clocks = [ManualClock(self.now + SKEW), ManualClock(self.now - SKEW)]
        self.nodes = [moto.blobs(bucket, clock, folder) for clock in self.clocks]
        self.behind = moto.behind(bucket)
        self.coming: list[tuple[datetime, str]] = []  # puts whose row is not there yet, and when it comes at last
        self.rows: list[str] = []
        self.deletes: list[str] = []  # on their way, for as long as it takes

    def step(self) -> None:
        """Something happens somewhere."""
        choice = self.rng.randrange(7)
        if choice <= 1:
            node = self.rng.choice(self.nodes)
            self.coming.append((self.now + COMMIT, put(node, self.rng.choice([b"a", b"b"]))))
        elif choice == 2 and self.coming:
            self.rows.append(self.coming.pop(self.rng.randrange(len(self.coming)))[1])
        elif choice == 3 and self.rows:
            self.rows.pop(self.rng.randrange(len(self.rows)))
        elif choice == 4:
            self.sweep(self.rng.randrange(2))
        elif choice == 5 and self.deletes:
            DELETE(self.behind, self.deletes.pop(self.rng.randrange(len(self.deletes))))
        else:
            self.pass_time(self.rng.choice([1, 5, 20]) * MINUTE)

    def sweep(self, which: int) -> None:
        """One node looks for blobs that no row names."""
        for info in list(self.nodes[which].list_all()):
            if info.key not in self.rows:
                self.nodes[which].delete(info.key, unless_put_since=self.clocks[which].now())

    def pass_time(self, by: timedelta) -> None:
        """Time passes; rows that have to be there by then come before."""
        if 2 <= self.now.hour < 22:  # what is of interest is around midnight
            by = self.now.replace(hour=23) - self.now
        for due in sorted(one for one in self.coming if one[0] <= self.now + by):
            self.coming.remove(due)
            self.rows.append(due[1])
        self.now += by
        for clock in self.clocks:
            clock.advance(by)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_order_no_row_loses_its_bytes(
    moto: Service, bucket: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(moto, bucket, tmp_path, random.Random(seed))

    def late(_store: Any, path: str) -> None:
        house.deletes.append(path)

    monkeypatch.setattr(obstore, "delete", late)
    for _ in range(150):
        house.step()
        assert set(house.rows) <= set(s3_service.paths(house.behind))
    house.pass_time(timedelta(days=3))
    house.sweep(0)
    for path in house.deletes:
        DELETE(house.behind, path)
    assert set(house.rows) == set(s3_service.paths(house.behind))
