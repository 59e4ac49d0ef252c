"""Backup and restore.

Bytes first here too: blobs are copied, then the database as it stands at one moment, then the blobs that came in
between; so every row of the copy has its bytes. The server makes the database's copy inside its own data directory,
and the command takes it from there: it writes the backup with the rights of whoever runs it. The copy is an SQLite
file, whatever the engine: a backup of either can be restored into either. The search index is not in it: it is made
anew from the messages. The instance secret is in it only when asked for.
"""

import asyncio
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from restante import __version__, vault
from restante.errors import Conflict, Invalid, NotFound, Unavailable
from restante.runtime import Runtime
from restante.storage import engine, snapshot
from restante.storage.blobs.files import FileBlobs

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "restante.db"
BLOBS = "blobs"
CHUNK = 1024 * 1024
MAX_MANIFEST = 1024 * 1024
_SNAPSHOT = re.compile(r"[0-9a-f]{16}\.db")
_MEMBER = re.compile(r"blobs/(\d{1,19})/([0-9a-f]{2})/([0-9a-f]{64})")

Progress = Callable[[int, int | None, str], None]


async def begin(rt: Runtime) -> AsyncGenerator[dict[str, Any], None]:
    """Copy the database inside the data directory; yields progress, then ``{"name", "path", "size_bytes"}``."""
    target = await asyncio.get_running_loop().run_in_executor(rt.pool, snapshot.new_path, rt.config.data_dir)
    done, total = 0, -1
    while done != total:
        done, total = await rt.db.snapshot(target, snapshot.STEP_PAGES)
        yield {"phase": "database", "done": done, "total": total}
    yield {"name": target.name, "path": str(target), "size_bytes": target.stat().st_size}


def end(rt: Runtime, name: str) -> None:
    """Remove a copy that ``begin`` made. Raises Invalid for any other name."""
    if not _SNAPSHOT.fullmatch(name):
        raise Invalid(f"{name!r} is no copy of the database")
    snapshot.remove(snapshot.directory(rt.config.data_dir) / name)


class Sink(Protocol):
    """Where a backup goes: a directory or a tar file."""

    def add(self, name: str, source: Path) -> str:
        """Copy a file; returns its SHA-256 in hex."""
        ...

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a small file."""
        ...

    def finish(self) -> None:
        """Make the backup appear under its name, durable."""
        ...

    def abandon(self) -> None:
        """Remove what was written."""
        ...


class DirectorySink:
    """A backup as a directory of files."""

    def __init__(self, target: Path) -> None:
        if target.exists():
            raise Conflict(f"{target} is there already", code="target_exists")
        self._target = target
        self._beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        self._beside.mkdir(mode=0o700, parents=True)

    def add(self, name: str, source: Path) -> str:
        with source.open("rb") as file:
            return _store(self._beside / name, file)

    def add_bytes(self, name: str, data: bytes) -> None:
        _store(self._beside / name, io.BytesIO(data))

    def finish(self) -> None:
        self._beside.rename(self._target)
        _sync(self._target.parent)

    def abandon(self) -> None:
        _remove_tree(self._beside)


class TarSink:
    """A backup as one tar file, compressed with zstd when its name ends in ``.zst``."""

    def __init__(self, target: Path) -> None:
        if target.exists():
            raise Conflict(f"{target} is there already", code="target_exists")
        self._target = target
        self._beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        handle = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb")
        self._zstd: Any = None
        if target.suffix == ".zst":
            self._zstd = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)
        self._tar = tarfile.open(mode="w|", fileobj=self._zstd or self._file, format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, name: str, source: Path) -> str:
        with source.open("rb") as file:
            digested = _Digested(file)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = os.fstat(file.fileno()).st_size, 0o600
            self._tar.addfile(entry, digested)
            return digested.hexdigest()

    def add_bytes(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o600
        self._tar.addfile(entry, io.BytesIO(data))

    def finish(self) -> None:
        self._tar.close()
        if self._zstd is not None:
            self._zstd.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._beside.rename(self._target)
        _sync(self._target.parent)

    def abandon(self) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)


class _Digested:
    """A file being read, and the SHA-256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def open_sink(target: Path) -> Sink:
    """The sink for a name: ``*.tar`` and ``*.tar.zst`` are files, everything else a directory. Raises Conflict."""
    is_tar = target.name.endswith((".tar", ".tar.zst"))
    try:
        return TarSink(target) if is_tar else DirectorySink(target)
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror}") from error


class BlobCopy:
    """Copies the blobs of a data directory into a sink, each once."""

    def __init__(self, data_dir: Path, sink: Sink) -> None:
        self._root, self._sink = data_dir / BLOBS, sink
        self._done: set[str] = set()
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """How many were copied."""
        return len(self._done)

    def run(self, progress: Progress) -> None:
        """Copy those that are there and not yet copied; one that is swept meanwhile was needed by no message."""
        todo = [blob for blob in FileBlobs(self._root).list_all() if blob.key not in self._done]
        for number, blob in enumerate(todo):
            account, digest = blob.key.split("/")
            name = f"{account}/{digest[:2]}/{digest}"
            try:
                found = self._sink.add(f"{BLOBS}/{name}", self._root / name)
            except FileNotFoundError:
                continue
            if found != digest:
                raise Unavailable(f"the blob {blob.key} is damaged; run `restante verify`", code="content_damaged")
            self._done.add(blob.key)
            self.size_bytes += blob.size_bytes
            progress(number + 1, len(todo), "blobs")


def manifest(database_sha256: str, database_bytes: int, blobs: BlobCopy, has_secret: bool, now: str) -> dict[str, Any]:
    """What stands in ``manifest.json``."""
    return {
        "format": FORMAT,
        "restante": __version__,
        "created_at": now,
        "database": {"name": DATABASE, "sha256": database_sha256, "size_bytes": database_bytes},
        "blobs": blobs.count,
        "blob_bytes": blobs.size_bytes,
        "secret": has_secret,
    }


def encode_manifest(value: dict[str, Any]) -> bytes:
    """The manifest as it is written."""
    return (json.dumps(value, indent=2) + "\n").encode()


def restore(source: Path, data_dir: Path, progress: Progress, url: str = "") -> dict[str, Any]:
    """Make ``data_dir`` from a backup and return its manifest; everything is checked before the directory appears.

    With ``url`` the rows go into that PostgreSQL database, which must be empty, whichever engine they came from.
    Raises Conflict when ``data_dir`` or database hold anything, NotFound, Invalid for what is no complete backup.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise Conflict(f"{data_dir} is not empty; name another with --data-dir", code="target_exists")
    beside = data_dir.with_name(f".{data_dir.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(mode=0o700, parents=True)
        found = _unpack(source, beside, progress)
        _check(beside, found)
        if url:
            engine.load(beside / DATABASE, url)
        if data_dir.exists():
            data_dir.rmdir()
        beside.rename(data_dir)
        _sync(data_dir.parent)
    except (tarfile.TarError, zstandard.ZstdError) as error:
        raise Invalid(f"{source} is no backup: {error}", code="backup_invalid") from error
    except OSError as error:
        raise Unavailable(f"restoring failed: {error.strerror or error}") from error
    finally:
        _remove_tree(beside)
    return found


def _unpack(source: Path, target: Path, progress: Progress) -> dict[str, Any]:
    found: dict[str, Any] = {}
    database = ""
    count = 0
    for name, file in _members(source):
        if name == MANIFEST:
            found = _read_manifest(file.read(MAX_MANIFEST), source)
            continue
        match = _MEMBER.fullmatch(name)
        if name not in (DATABASE, vault.FILE) and (match is None or not match[3].startswith(match[2])):
            raise Invalid(
                f"{source} holds something that is no part of a backup: {name!r}"[:300], code="backup_invalid"
            )
        digest = _store(target / name, file)
        if match is not None and digest != match[3]:
            raise Invalid(f"{source}: {name} is damaged", code="backup_invalid")
        if name == DATABASE:
            database = digest
        count += 1
        progress(count, None, "files")
    if not found:
        raise Invalid(f"{source} is no complete backup: it has no {MANIFEST}", code="backup_invalid")
    if found["database"]["sha256"] != database:
        raise Invalid(f"{source}: {DATABASE} is missing or damaged", code="backup_invalid")
    return found


def _read_manifest(data: bytes, source: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
        if value["format"] > FORMAT:
            raise Invalid(f"{source} was written by a newer Restante ({value['restante']})", code="newer_backup")
        int(value["blobs"]), str(value["database"]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{source}: {MANIFEST} cannot be read", code="backup_invalid") from error
    return dict(value)


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    yield path.relative_to(source).as_posix(), file
        return
    if not source.is_file():
        raise NotFound(f"there is no backup {source}", code="backup_not_found")
    with source.open("rb") as raw:
        stream: Any = raw
        if source.suffix == ".zst":
            stream = zstandard.ZstdDecompressor().stream_reader(raw, closefd=False)
        with tarfile.open(mode="r|", fileobj=stream) as tar:
            for entry in tar:
                member = tar.extractfile(entry) if entry.isreg() else None
                if member is None:
                    raise Invalid(f"{source} holds something that is no file", code="backup_invalid")
                yield entry.name, member


def _store(path: Path, file: IO[bytes]) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    digest = hashlib.sha256()
    with os.fdopen(handle, "wb") as out:
        while data := file.read(CHUNK):
            digest.update(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _check(target: Path, found: dict[str, Any]) -> None:
    wrong = snapshot.problems(target / DATABASE)
    if wrong:
        raise Invalid(f"the database of the backup is damaged: {wrong[0]}", code="backup_invalid")
    there = sum(1 for _ in FileBlobs(target / BLOBS).list_all())
    if there != found["blobs"]:
        raise Invalid(f"the backup has {there} blobs of {found['blobs']}", code="backup_invalid")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
