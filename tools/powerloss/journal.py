"""The shim's journal, and how the changes that were never synced are taken back (see ``shim.c``)."""

import os
import random
import shutil
import struct
from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

HEAD = struct.Struct("<8Q")
SECTOR_BYTES = 512


class Kind(IntEnum):
    """What a record notes."""

    WRITE = 1
    TRUNCATE = 2
    CREATE = 3
    RENAME = 4
    UNLINK = 5
    SYNC = 6
    MKDIR = 7
    SYNC_DIRECTORY = 8


@dataclass(frozen=True, slots=True)
class Record:
    """One change. ``position`` is its place in the journal; ``extra`` the place from where on a sync does not cover."""

    position: int
    kind: Kind
    inode: int
    offset: int
    size_before: int
    path: str
    old: bytes
    new: bytes
    extra: int


@dataclass(slots=True)
class Loss:
    """What a power cut took: calls to write and truncate, and names (created, renamed, removed)."""

    writes: int = 0
    names: int = 0
    survived: int = 0


def read(path: Path) -> list[Record]:
    """All complete records in order; a torn one at the end was never carried out."""
    data = path.read_bytes() if path.exists() else b""
    found, at = [], 0
    while at + HEAD.size <= len(data):
        kind, inode, offset, size_before, path_length, old_length, new_length, extra = HEAD.unpack_from(data, at)
        body = at + HEAD.size
        end = body + path_length + old_length + new_length
        if end > len(data):
            break
        name = os.fsdecode(data[body : body + path_length])
        old = data[body + path_length : body + path_length + old_length]
        new = data[body + path_length + old_length : end]
        found.append(Record(at, Kind(kind), inode, offset, size_before, name, old, new, extra))
        at = end
    return found


def cut_power(data: Path, side: Path, rng: random.Random, *, survive: float) -> Loss:
    """Turn ``data`` into what a disk may hold after a power cut, and empty the journal.

    Everything synced stays. Of the rest, each write lasts with the chance ``survive`` (a lasting one may be torn at a
    sector), and of the names changed the first few last. All processes must be dead.
    """
    records = read(side / "journal")
    loss = Loss()
    _cut_writes(records, _inodes(data, side), rng, survive, loss)
    _cut_names(records, side, rng, survive, loss)
    for index in data.rglob("*-shm"):
        index.unlink()
    (side / "journal").unlink(missing_ok=True)
    for kept in side.glob("kept-*"):
        kept.unlink()
    return loss


def _inodes(*places: Path) -> dict[int, Path]:
    return {path.lstat().st_ino: path for place in places for path in place.rglob("*") if path.is_file()}


def _cut_writes(records: list[Record], files: dict[int, Path], rng: random.Random, survive: float, loss: Loss) -> None:
    covered: dict[int, int] = defaultdict(int)
    for record in records:
        if record.kind is Kind.SYNC:
            covered[record.inode] = max(covered[record.inode], record.extra)
    unsynced: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        if record.kind in (Kind.WRITE, Kind.TRUNCATE) and record.position >= covered[record.inode]:
            unsynced[record.inode].append(record)
    for inode, changes in unsynced.items():
        if inode not in files:
            continue  # removed, and nothing can bring it back
        with files[inode].open("r+b", buffering=0) as file:
            for change in reversed(changes):
                _undo(file.fileno(), change)
            for change in changes:
                if rng.random() < survive:
                    loss.survived += 1
                    _redo(file.fileno(), change, rng)
                else:
                    loss.writes += 1


def _undo(fd: int, change: Record) -> None:
    if change.old:
        os.pwrite(fd, change.old, change.offset)
    if change.kind is Kind.TRUNCATE or change.offset + len(change.new) > change.size_before:
        os.ftruncate(fd, change.size_before)


def _redo(fd: int, change: Record, rng: random.Random) -> None:
    if change.kind is Kind.TRUNCATE:
        os.ftruncate(fd, change.offset)
        return
    sectors = len(change.new) // SECTOR_BYTES
    whole = sectors < 2 or rng.random() < 0.8
    os.pwrite(fd, change.new if whole else change.new[: rng.randrange(1, sectors) * SECTOR_BYTES], change.offset)


def _cut_names(records: list[Record], side: Path, rng: random.Random, survive: float, loss: Loss) -> None:
    covered: dict[str, int] = defaultdict(int)
    for record in records:
        if record.kind is Kind.SYNC_DIRECTORY:
            covered[record.path] = max(covered[record.path], record.extra)
    changes = [r for r in records if r.kind in (Kind.CREATE, Kind.RENAME, Kind.UNLINK, Kind.MKDIR)]
    open_ones = [r for r in changes if r.position >= covered[os.path.dirname(_final_name(r))]]  # noqa: PTH120
    kept = rng.randrange(len(open_ones) + 1) if rng.random() < survive else 0
    for record in reversed(open_ones[kept:]):
        loss.names += 1
        _undo_name(record, side)


def _final_name(record: Record) -> str:
    return os.fsdecode(record.new) if record.kind is Kind.RENAME else record.path


def _undo_name(record: Record, side: Path) -> None:
    path = Path(_final_name(record))
    is_same = path.exists() and path.lstat().st_ino == record.inode
    match record.kind:
        case Kind.CREATE if is_same:
            path.unlink()
        case Kind.MKDIR if is_same:
            shutil.rmtree(path)
        case Kind.RENAME if is_same:
            path.rename(record.path)
            kept = side / f"kept-{record.extra}"
            if record.extra and kept.exists():
                os.link(kept, path)
        case Kind.UNLINK if not path.exists() and path.parent.is_dir():
            kept = side / f"kept-{record.inode}"
            if kept.exists():
                os.link(kept, path)
