"""Reading messages from files: ``.eml``, mbox, Maildir, and the folders that ``restante export`` writes.

Runs in the command's process. Lines that end in a bare LF get CRLF, as SMTP and IMAP want it (RFC 5322 §2.1). In an
mbox (RFC 4155) a message begins at a ``From `` line after an empty line, if it looks like a postmark and a header field
follows; ``>From `` loses one ``>`` (mboxrd).
"""

import json
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from restante.core.messages import FLAG_NAMES, NO_FLAGS, Flag
from restante.errors import Invalid, NotFound
from restante.mail import dates

MANIFEST = "manifest.jsonl"
HEAD = 64 * 1024  # bytes looked at for Date and Status
_POSTMARK = re.compile(
    rb"(?:(?<=\n\n)|(?<=\n\r\n))From (?:-?|[^\r\n]{0,500}\d{1,2}:\d\d[^\r\n]{0,100})[ \t]*(?=\r?\n"
    rb"(?:>From |[!-9;-~]{1,200}[ \t]*:))"
)
_FIRST = re.compile(rb"From [^\r\n]{0,1000}")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_DATE = re.compile(rb"^Date:[ \t]*([^\r\n]{1,200})", re.MULTILINE | re.IGNORECASE)
_STATUS = re.compile(rb"^(?:X-)?Status:[ \t]*([A-Za-z]{1,20})", re.MULTILINE | re.IGNORECASE)
_WEEKDAY = re.compile(rb"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*")
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_STATUS_FLAGS = {"R": Flag.SEEN, "A": Flag.ANSWERED, "F": Flag.FLAGGED, "T": Flag.DRAFT, "D": Flag.DELETED}
_MAILDIR_FLAGS = {"S": Flag.SEEN, "R": Flag.ANSWERED, "F": Flag.FLAGGED, "D": Flag.DRAFT, "T": Flag.DELETED}
_NAMED_FLAGS = {name.lower(): flag for flag, name in FLAG_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Source:
    """One file with one or many messages. ``folder`` None: the one that the command names."""

    path: Path
    kind: str  # eml | mbox
    size_bytes: int
    folder: str | None = None
    flags: Flag = NO_FLAGS
    keywords: str = ""
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One message read from a file."""

    origin: str
    raw: bytes
    folder: str | None
    flags: Flag
    keywords: str
    received_at: datetime | None


def plan(path: Path) -> list[Source]:
    """The files that ``path`` names: itself, or the mail in that folder. Raises NotFound, also where there is none."""
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return list(_exported(path))
        if (path / "cur").is_dir() and (path / "new").is_dir():
            return list(_maildir(path))
        found = list(_folder(path))
        if not found:
            raise NotFound(f"there is no .eml and no .mbox file in {path}", code="nothing_to_import")
        return found
    if not path.is_file():
        raise NotFound(f"there is no file {path}", code="file_not_found")
    return [Source(path, _kind(path), path.stat().st_size)]


def read(source: Source, max_bytes: int) -> Iterator[Found]:
    """The messages of a file, one after the other; of one over ``max_bytes`` that and one byte more, to tell it by."""
    with source.path.open("rb") as file:
        if source.size_bytes == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if source.kind == "mbox":
                yield from _split(source, data, max_bytes)
            else:
                yield _one(source, data[: max_bytes + 1])


def with_crlf(raw: bytes) -> bytes:
    """The message with CRLF line ends, if its first line ends in a bare LF; else as it is."""
    first = raw.find(b"\n")
    if first < 0 or raw[first - 1 : first] == b"\r":
        return raw
    return _BARE_LF.sub(b"\r\n", raw)


def _kind(path: Path) -> str:
    if path.suffix.lower() in (".mbox", ".mbx"):
        return "mbox"
    if path.suffix.lower() == ".eml":
        return "eml"
    with path.open("rb") as file:
        return "mbox" if file.read(5) == b"From " else "eml"


def _folder(path: Path) -> Iterator[Source]:
    """Every ``.eml`` and mbox file below a folder, by name; symbolic links are left alone."""
    for root, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(root, name)
            # a FIFO or a device would hold the command for ever
            if name.lower().endswith((".eml", ".mbox", ".mbx")) and file.is_file() and not file.is_symlink():
                yield Source(file, _kind(file), file.stat().st_size)


def _maildir(path: Path) -> Iterator[Source]:
    """A Maildir with its Maildir++ folders (``.Sent``, ``.Work.2026``)."""
    places: list[tuple[Path, str | None]] = [(path, None)]
    places += [(sub, sub.name[1:].replace(".", "/")) for sub in sorted(path.glob(".*")) if (sub / "cur").is_dir()]
    for place, folder in places:
        for part in ("cur", "new"):
            for file in sorted((place / part).glob("*")) if (place / part).is_dir() else ():
                if file.is_file() and not file.is_symlink():
                    letters = file.name.rpartition(":2,")[2] if ":2," in file.name else ""
                    stat = file.stat()
                    moment = datetime.fromtimestamp(int(stat.st_mtime), UTC)
                    flags = _flags(letters, _MAILDIR_FLAGS)
                    yield Source(file, "eml", stat.st_size, folder, flags, received_at=moment)


def _exported(path: Path) -> Iterator[Source]:
    """What ``restante export`` wrote, with folders, flags and times from its manifest."""
    with (path / MANIFEST).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                file = path / row["file"]
                names = [str(name) for name in row["flags"]]
                moment = datetime.fromisoformat(row["received_at"])
                folder = str(row["folder"])
                is_inside = file.resolve().is_relative_to(path.resolve())
                size = file.stat().st_size
            except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
                raise Invalid(f"{path / MANIFEST}, line {number}: {error}", code="manifest_invalid") from error
            if not is_inside:
                raise Invalid(f"{path / MANIFEST}, line {number}: the file is elsewhere", code="manifest_invalid")
            flags = NO_FLAGS
            for name in names:
                flags |= _NAMED_FLAGS.get(name.lower(), NO_FLAGS)
            keywords = " ".join(name for name in names if not name.startswith("\\"))
            yield Source(file, "eml", size, folder, flags, keywords, moment)


def _one(source: Source, raw: bytes) -> Found:
    raw = with_crlf(raw)
    moment = source.received_at or _sent_at(raw)
    return Found(str(source.path), raw, source.folder, source.flags, source.keywords, moment)


def _split(source: Source, data: mmap.mmap, max_bytes: int) -> Iterator[Found]:
    """The messages of an mbox; a file that does not begin with a postmark is one message."""
    mark = _FIRST.match(data)
    if mark is None:
        yield _one(replace(source, kind="eml"), data[: max_bytes + 1])
        return
    marks = _postmarks(data, mark.end())
    number = 0
    while mark is not None:
        following = next(marks, None)
        number += 1
        start = data.find(b"\n", mark.end()) + 1 or len(data)
        raw = data[start : min(following.start() if following else len(data), start + max_bytes + 1)]
        raw = re.sub(rb"\r?\n\Z", b"", raw) if raw.endswith((b"\n\n", b"\n\r\n")) else raw
        raw = with_crlf(_QUOTED.sub(rb"\1", raw))
        flags = source.flags
        for status in _STATUS.findall(_head(raw)):
            flags |= _flags(status.decode("ascii").upper(), _STATUS_FLAGS)
        moment = _postmark_date(mark.group()) or _sent_at(raw)
        if raw:
            yield Found(f"{source.path} message {number}", raw, source.folder, flags, source.keywords, moment)
        mark = following


def _postmarks(data: mmap.mmap, start: int) -> Iterator[re.Match[bytes]]:
    """The postmarks from ``start`` on; the closer look is taken only where ``find`` stops, which is 60 times faster."""
    at = data.find(b"\nFrom ", start)
    while at >= 0:
        if found := _POSTMARK.match(data, at + 1):
            yield found
        at = data.find(b"\nFrom ", at + 1)


def _head(raw: bytes) -> bytes:
    end = raw.find(b"\r\n\r\n", 0, HEAD)
    return raw[: HEAD if end < 0 else end + 2]


def _sent_at(raw: bytes) -> datetime | None:
    found = _DATE.search(_head(raw))
    return None if found is None else _moment(found[1])


def _postmark_date(line: bytes) -> datetime | None:
    found = _WEEKDAY.search(line)
    return None if found is None else _moment(found[0])


def _moment(text: bytes) -> datetime | None:
    """A date as mail writes it; None for nonsense and for times before 1970 or to come."""
    found = dates.parse(text.decode("ascii", "replace"))
    return found if found is not None and _EARLIEST < found <= datetime.now(UTC) else None


def _flags(letters: str, table: dict[str, Flag]) -> Flag:
    flags = NO_FLAGS
    for letter in letters:
        flags |= table.get(letter, NO_FLAGS)
    return flags
