"""Notes that outlive their process."""

import os
from pathlib import Path

import pytest

from restante.storage.notes import SLOT_BYTES, SLOTS, Notes


def test_a_note_is_there_after_the_process_is_not(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    mine = Notes(path)
    assert mine.find("a") is None
    assert mine.put("a", b"one")
    assert mine.put("b", b"two")
    assert mine.put("a", b"three")
    mine.remove("b")
    mine.remove("never")
    later = Notes(path)  # nothing was closed
    assert (later.find("a"), later.find("b")) == (b"three", None)
    later.remove("a")
    later.close()
    mine.close()
    last = Notes(path)
    assert last.find("a") is None
    last.close()


def test_the_oldest_gives_way_and_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    mine = Notes(tmp_path / "notes")
    assert not mine.put("huge", bytes(SLOT_BYTES))
    for number in range(SLOTS + 1):
        assert mine.put(str(number), b"x" * (SLOT_BYTES - 100))
    assert (mine.find("0"), mine.find("huge")) == (None, None)
    assert all(mine.find(str(number)) for number in range(1, SLOTS + 1))
    mine.close()
    assert (tmp_path / "notes").stat().st_size <= SLOTS * SLOT_BYTES


@pytest.mark.parametrize("at", [0, 5, 8, 12, 20])
def test_a_note_that_was_being_written_is_none(tmp_path: Path, at: int) -> None:
    path = tmp_path / "notes"
    mine = Notes(path)
    mine.put("a", b"some value")
    mine.close()
    data = bytearray(path.read_bytes())
    assert data
    data[at] ^= 0x55
    path.write_bytes(data)
    later = Notes(path)
    assert later.find("a") is None
    assert later.put("a", b"again")
    assert later.find("a") == b"again"
    later.close()
    path.write_bytes(data[:at])
    cut = Notes(path)
    assert cut.find("a") is None
    cut.close()


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Notes(tmp_path / "missing" / "notes")
    assert not nowhere.put("a", b"x")
    assert nowhere.find("a") is None
    nowhere.remove("a")
    nowhere.close()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    mine = Notes(tmp_path / "notes")
    assert mine.put("a", b"x")
    monkeypatch.setattr(os, "pwrite", full)
    assert not mine.put("b", b"x")
    mine.remove("a")
    monkeypatch.undo()
    assert mine.find("a") is None
    assert mine.put("b", b"x")
    mine.close()
