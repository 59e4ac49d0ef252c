"""Reading files: mbox splitting, line ends, flags, dates, Maildir, and what ``export`` wrote."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restante.core.messages import Flag
from restante.errors import Conflict, Invalid, NotFound
from restante.services import exporting, importing


def _read(path: Path) -> list[importing.Found]:
    return [found for source in importing.plan(path) for found in importing.read(source, 1 << 20)]


def _mbox(tmp_path: Path, data: bytes) -> list[importing.Found]:
    path = tmp_path / "a.mbox"
    path.write_bytes(data)
    return _read(path)


def test_messages_are_split_at_postmarks_only(tmp_path: Path) -> None:
    found = _mbox(
        tmp_path,
        b"From ann@example.org Mon Jan  2 10:00:00 2023\n"
        b"Subject: one\n\nFrom here on it is text at 10:00\nFrom nowhere\n\nFrom me, with love\n\n"
        b"From bob@example.org Tue Jan  3 11:00:00 2023\nSubject: two\n\n>From the start\n>>From twice\n> quoted\n",
    )
    assert [one.raw for one in found] == [
        b"Subject: one\r\n\r\nFrom here on it is text at 10:00\r\nFrom nowhere\r\n\r\nFrom me, with love\r\n",
        b"Subject: two\r\n\r\nFrom the start\r\n>From twice\r\n> quoted\r\n",
    ]
    assert [one.received_at for one in found] == [
        datetime(2023, 1, 2, 10, tzinfo=UTC),
        datetime(2023, 1, 3, 11, tzinfo=UTC),
    ]
    assert found[1].origin.endswith("a.mbox message 2")


def test_an_mbox_with_crlf_keeps_its_lines(tmp_path: Path) -> None:
    found = _mbox(
        tmp_path,
        b"From - Mon Jan  2 10:00:00 2023\r\nA: 1\r\n\r\nx\r\n\r\n"
        b"From - Mon Jan  2 10:00:01 2023\r\nA: 2\r\n\r\ny\r\n\r\n",
    )
    assert [one.raw for one in found] == [b"A: 1\r\n\r\nx\r\n", b"A: 2\r\n\r\ny\r\n"]


def test_postmarks_of_various_programs(tmp_path: Path) -> None:
    marks = [
        b"From 1712345678901234567@xxx Mon Jan 02 10:00:00 +0000 2023",
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011",
        b"From -",
        b'From "a b"@example.org  Mon Jan  2 10:00 2023',
        b"From ann@example.org Mon Jan  2 10:00:00 MET 2023",
    ]
    found = _mbox(tmp_path, b"".join(mark + b"\nSubject: %d\n\nx\n\n" % n for n, mark in enumerate(marks)))
    assert [one.raw.split(b"\r\n")[0] for one in found] == [b"Subject: %d" % n for n in range(len(marks))]


def test_status_headers_become_flags(tmp_path: Path) -> None:
    (found,) = _mbox(tmp_path, b"From a Mon Jan  2 10:00:00 2023\nStatus: RO\nX-Status: AF\n\nStatus: D\n")
    assert found.flags == Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED


def test_a_file_without_postmark_is_one_message(tmp_path: Path) -> None:
    (found,) = _mbox(tmp_path, b"Subject: one\n\nFrom a Mon Jan  2 10:00:00 2023\nSubject: no\n")
    assert found.raw.count(b"Subject") == 2


def test_empty_files_hold_nothing(tmp_path: Path) -> None:
    assert _mbox(tmp_path, b"") == []
    assert [one.raw for one in _mbox(tmp_path, b"From a Mon Jan  2 10:00:00 2023\n")] == []


@pytest.mark.parametrize(
    "data",
    [
        b"From " * 400_000,
        b"\n\nFrom " * 200_000,
        b"\n\nFrom a 10:00" * 100_000,
        b"From a 10:00\n" + b"a" * 2_000_000,
        b"\r\n\r\n" * 500_000,
        b">" * 2_000_000 + b"From ",
        b"From a 10:00\nA: b\n\n" + (b">" * 100 + b"x\n") * 20_000,
    ],
)
def test_hostile_files_take_linear_time(tmp_path: Path, data: bytes) -> None:
    start = time.process_time()
    _mbox(tmp_path, data)
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (b"A: b\n\nx\n", b"A: b\r\n\r\nx\r\n"),
        (b"A: b\r\n\r\nx\ny\r\n", b"A: b\r\n\r\nx\ny\r\n"),
        (b"A: b\n\r\nx\r\n", b"A: b\r\n\r\nx\r\n"),
        (b"no line", b"no line"),
        (b"\nA", b"\r\nA"),
        (b"", b""),
    ],
)
def test_line_ends(raw: bytes, stored: bytes) -> None:
    assert importing.with_crlf(raw) == stored


def test_nonsense_dates_are_no_dates(tmp_path: Path) -> None:
    for value in (b"never", b"Mon, 2 Jan 99999 10:00:00 +0000", b"Mon, 2 Jan 2090 10:00:00 +0000", b"1 Jan 1901 1:00"):
        path = tmp_path / "a.eml"
        path.write_bytes(b"Date: " + value + b"\r\n\r\n")
        (found,) = _read(path)
        assert found.received_at is None


def test_a_maildir_with_its_folders(tmp_path: Path) -> None:
    for place, name in (("cur", "1.a:2,FS"), ("new", "2.b"), (".Sent/cur", "3.c:2,RT"), (".Work.2026/new", "4.d")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_bytes(f"Subject: {name}\n\n".encode())
        os.utime(tmp_path / place / name, (1_600_000_000, 1_600_000_000))
    for part in ("cur", "new", "tmp"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / ".Work.2026" / part).mkdir(exist_ok=True)
    (tmp_path / "cur" / "link").symlink_to("/etc/hostname")
    found = _read(tmp_path)
    assert [(one.folder, one.flags) for one in found] == [
        (None, Flag.SEEN | Flag.FLAGGED),
        (None, Flag(0)),
        ("Sent", Flag.ANSWERED | Flag.DELETED),
        ("Work/2026", Flag(0)),
    ]
    assert {one.received_at for one in found} == {datetime.fromtimestamp(1_600_000_000, UTC)}


def test_a_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.eml").write_bytes(b"A: 2\r\n\r\n")
    (tmp_path / "1.EML").write_bytes(b"A: 1\r\n\r\n")
    (tmp_path / "notes.txt").write_bytes(b"no mail")
    (tmp_path / "out.eml").symlink_to("/etc/hostname")
    assert [one.raw for one in _read(tmp_path)] == [b"A: 1\r\n\r\n", b"A: 2\r\n\r\n"]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        importing.plan(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_bytes(b"no mail")
    with pytest.raises(NotFound, match=r"no \.eml and no \.mbox file"):
        importing.plan(tmp_path)


def _row(folder: str, uid: int = 1) -> dict[str, object]:
    return {"folder": folder, "uid": uid, "id": "x", "flags": ["\\Seen", "work"], "received_at": "2023-01-02T10:00:00Z"}


def test_an_export_is_read_back(tmp_path: Path) -> None:
    raw = b"Subject: a\r\n\r\nbare \n lf, bare \r cr, \x00 \xff\r\n"
    with exporting.Export(tmp_path / "out") as export:
        export.add(_row("Work/Ünï"), raw)
    (found,) = _read(tmp_path / "out")
    assert (found.raw, found.folder, found.flags, found.keywords) == (raw, "Work/Ünï", Flag.SEEN, "work")
    assert found.received_at == datetime(2023, 1, 2, 10, tzinfo=UTC)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def _fail() -> None:
        with exporting.Export(tmp_path / "out") as export:
            export.add(_row("INBOX"), b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _fail()
    assert list(tmp_path.iterdir()) == []


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(Conflict):
        exporting.Export(tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["..", ".", "../../x", "a/../b", "a\\b", "\0", ".hidden", "C:x", "a\nb", "😀" * 100, " x "]
)
def test_folder_names_stay_inside(tmp_path: Path, name: str) -> None:
    safe = exporting.safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set("/\\\0:\n")
    assert not safe.startswith(".")
    assert len(safe) <= 200


def test_different_folders_get_different_names() -> None:
    names = ["a/b", "a%2Fb", "a b", "a_b", "A", "a", "😀" * 100, "😀" * 101, ".a", "a."]
    assert len({exporting.safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("file", ["../secret", "/etc/hostname", "missing.eml"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path, file: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    out = tmp_path / "out"
    out.mkdir()
    row = {"file": file, "folder": "INBOX", "flags": [], "received_at": "2023-01-02T10:00:00Z"}
    (out / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(Invalid):
        importing.plan(out)


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.eml")
    (tmp_path / "zero.eml").symlink_to("/dev/zero")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "loop").symlink_to("..")
    (tmp_path / "inner" / "one.eml").write_bytes(b"Subject: one\r\n\r\n")
    assert [found.raw for found in _read(tmp_path)] == [b"Subject: one\r\n\r\n"]


def test_a_manifest_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / importing.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(Invalid):
        importing.plan(tmp_path)


def test_of_a_message_over_the_limit_only_so_much_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mbox"
    with path.open("wb") as file:
        file.write(b"From a@b Mon Jan  2 10:00:00 2023\r\nSubject: x\r\n\r\n")
        file.truncate(200_000_000)
    (source,) = importing.plan(path)
    started = time.process_time()
    (found,) = importing.read(source, 1000)
    assert len(found.raw) == 1001
    assert time.process_time() - started < 30
