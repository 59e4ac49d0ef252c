"""The writer as a process of its own, and the form inside this process for tests and one-shot commands.

Front and writer share a socket pair. A frame is a 4-byte length and a pickle: first where the store is, then
``(number, fn, args, kwargs)`` one way, ``[(number, value, error, touched), ...]`` per committed group the other way.
The writer ends when the front's end closes; the front ends when the writer dies. A lock on the data directory keeps a
second server out.
"""

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from restante.errors import Conflict, RestanteError, Unavailable
from restante.schema.connections import ReadConn, WriteConn
from restante.storage import engine
from restante.storage.database import Call, FatalStorageError, Outcome
from restante.storage.engine import Place
from restante.storage.signals import Signals

T = TypeVar("T")
P = ParamSpec("P")

LENGTH = struct.Struct("!I")
SOCKET_BYTES = 4 << 20
RECEIVE_BYTES = 1 << 20
GROUP_CALLS = 256
# For more calls to join a group that follows one of several: for each call of that one, and at most.
# A lone caller never waits, few wait little.
GATHER_SECONDS = 0.0004
GATHER_MAX_SECONDS = 0.003
GROUP_BYTES = 16 << 20
LOCK_SECONDS = 10.0  # a writer whose front was killed may still be finishing its last group
RECLAIM = "reclaim"  # in the place of fn: give free pages back, outside any transaction
SNAPSHOT = "snapshot"  # likewise: copy some pages for a backup
READY = 0  # the number of the frame that says the store is open

_log = logging.getLogger(__name__)


class DirectoryLock:
    """Holds the data directory for one writer, as long as its process lives."""

    def __init__(self, data_dir: Path) -> None:
        self._file = (data_dir / "lock").open("a+")
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES) or time.monotonic() > until:
                    self._file.close()
                    raise Conflict(f"{data_dir} is in use by another Restante", code="data_dir_in_use") from error
            time.sleep(0.02)

    def release(self) -> None:
        """Let another writer in."""
        self._file.close()


def calm_collector() -> None:
    """Let Python look for reference cycles rarely: hot paths make none, and each look walks everything alive."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


# --- the writer's side -------------------------------------------------------------------------------------------


def _frames(buffer: bytearray) -> list[bytes]:
    """Take the complete frames off the front of ``buffer``."""
    found, at = [], 0
    while len(buffer) - at >= LENGTH.size:
        (size,) = LENGTH.unpack_from(buffer, at)
        if len(buffer) - at - LENGTH.size < size:
            break
        found.append(bytes(buffer[at + LENGTH.size : at + LENGTH.size + size]))
        at += LENGTH.size + size
    del buffer[:at]
    return found


def _answer(numbers: list[int], outcomes: list[Outcome]) -> bytes:
    """One frame for a group; an outcome that cannot be pickled becomes an error."""
    items = []
    for number, outcome in zip(numbers, outcomes, strict=True):
        error = outcome.error
        if error is not None and not isinstance(error, RestanteError):
            text = "".join(traceback.format_exception(error))
            _log.error("write failed: %s", text)
            error = RuntimeError(f"{type(error).__name__}: {error}")
        items.append((number, outcome.value, error, outcome.touched))
    try:
        data = pickle.dumps(items, protocol=5)
    except Exception as problem:  # noqa: BLE001 - any of the values may refuse
        data = pickle.dumps(
            [(n, None, RuntimeError(f"unpicklable result: {problem}"), ()) for n in numbers], protocol=5
        )
    return LENGTH.pack(len(data)) + data


class _Groups:
    """Reads frames from the front and hands them out in groups: what is there, and under load what comes at once.

    A commit costs as much as two functions: where several callers are at it, the short wait takes a third off the
    writer's work.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._received = memoryview(bytearray(RECEIVE_BYTES))
        self._buffer = bytearray()
        self._waiting: list[bytes] = []
        self._last_group = 0

    def next(self) -> list[bytes] | None:
        """The next group of at least one frame; None when the front has closed."""
        while not self._waiting:
            if not self._receive(0):
                return None
        if self._last_group > 1:
            time.sleep(min(GATHER_SECONDS * self._last_group, GATHER_MAX_SECONDS))
        while len(self._waiting) < GROUP_CALLS:
            before = len(self._waiting) + len(self._buffer)
            with contextlib.suppress(BlockingIOError):
                self._receive(socket.MSG_DONTWAIT)
            if len(self._waiting) + len(self._buffer) == before:
                break
        group, size = 0, 0
        while group < min(len(self._waiting), GROUP_CALLS) and (group == 0 or size < GROUP_BYTES):
            size += len(self._waiting[group])
            group += 1
        taken, self._waiting = self._waiting[:group], self._waiting[group:]
        self._last_group = len(taken)
        return taken

    def _receive(self, flags: int) -> bool:
        size = self._link.recv_into(self._received, 0, flags)
        self._buffer += self._received[:size]
        self._waiting += _frames(self._buffer)
        return size > 0


def serve(link: socket.socket) -> int:
    """The writer process: open, say READY (or why not), run groups until the front closes; returns the exit code.

    The front's first frame says what to open: a command line would show a database's password to all.
    """
    groups = _Groups(link)
    first = groups.next()
    if first is None:
        return 0
    place: Place = pickle.loads(first[0])  # noqa: S301 - from our own front, over a socket pair
    try:
        lock = DirectoryLock(place.data_dir)
        commits = engine.open_commits(place)
    except Exception as error:  # noqa: BLE001 - the front reports it
        shown = error if isinstance(error, RestanteError) else Unavailable(f"cannot open {place.data_dir}: {error}")
        link.sendall(_answer([READY], [Outcome(error=shown)]))
        return 1
    link.sendall(_answer([READY], [Outcome(value=commits.version_before)]))
    calm_collector()
    try:
        while (frames := groups.next()) is not None:
            numbers, calls = [], []
            for frame in frames:
                number, fn, args, kwargs = pickle.loads(frame)  # noqa: S301 - from our own front, over a socket pair
                if fn == RECLAIM:
                    link.sendall(_answer([number], [Outcome(value=commits.reclaim(*args))]))
                    continue
                if fn == SNAPSHOT:
                    link.sendall(_answer([number], [commits.snapshot(*args)]))
                    continue
                numbers.append(number)
                calls.append(Call(fn, args, kwargs))
            if calls:
                link.sendall(_answer(numbers, commits.run(calls)))
    except FatalStorageError as error:
        _log.critical("storage can no longer be trusted: %s", error)
        return 1
    except (BrokenPipeError, ConnectionResetError):
        pass  # the front is gone; what was committed stays
    finally:
        commits.close()
        lock.release()
    return 0


def main(argv: list[str]) -> int:
    """``python -m restante.storage.writer FD``"""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s writer: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link = socket.socket(fileno=int(argv[0]))
    link.setblocking(True)
    return serve(link)


# --- the front's side --------------------------------------------------------------------------------------------


class InProcessDatabase:
    """Writer and readers in this process: for tests and for one-shot commands."""

    def __init__(self, data_dir: Path, signals: Signals, url: str = "") -> None:
        place = Place(data_dir, url)
        self._lock = None if url else DirectoryLock(data_dir)  # PostgreSQL takes any number of writers
        try:
            self._commits = engine.open_commits(place)
        except BaseException:
            self._unlock()
            raise
        self._readers = engine.open_readers(place)
        self._signals = signals
        self.version_before = self._commits.version_before

    async def read(self, fn: Callable[Concatenate[ReadConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._readers.run(fn, args, kwargs)
        return result

    async def write(self, fn: Callable[Concatenate[WriteConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = pickle.loads(pickle.dumps(Call(fn, args, kwargs)))  # noqa: S301 - as strict as the process form
        (outcome,) = self._commits.run([call])
        if outcome.error is not None:
            raise outcome.error
        self._signals.publish(outcome.touched)
        result: T = outcome.value
        return result

    async def reclaim(self, pages: int) -> None:
        self._commits.reclaim(pages)

    async def snapshot(self, target: Path, pages: int) -> tuple[int, int]:
        outcome = self._commits.snapshot(target, pages)
        if outcome.error is not None:
            raise outcome.error
        done, total = outcome.value
        return done, total

    async def close(self) -> None:
        self._readers.close()
        self._commits.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()


class _Link(asyncio.Protocol):
    """The front's end of the socket pair."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._buffer = bytearray()
        self._next = READY
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[int] = loop.create_future()
        self.waiting[READY] = self.ready
        self.closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def call(self, fn: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        if self._transport is None or self._transport.is_closing():
            raise Unavailable("the writer has ended", code="storage_ended")
        self._next += 1
        data = pickle.dumps((self._next, fn, args, kwargs), protocol=5)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting[self._next] = future
        self._transport.write(LENGTH.pack(len(data)) + data)
        return future

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for frame in _frames(self._buffer):
            touched: set[int] = set()
            for number, value, error, accounts in pickle.loads(frame):  # noqa: S301 - from our own writer
                future = self.waiting.pop(number)
                touched.update(accounts)
                if future.done():
                    continue  # the caller was cancelled; its write has happened all the same
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            self._signals.publish(touched)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the writer has ended", code="storage_ended"))
        self.waiting.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class ProcessDatabase:
    """The writer is a process of its own; reads happen here."""

    def __init__(self, place: Place, link: _Link, process: subprocess.Popen[bytes], version_before: int) -> None:
        self._link, self._process = link, process
        self._readers = engine.open_readers(place)
        self.version_before = version_before

    @property
    def pid(self) -> int:
        """The writer's process id."""
        return self._process.pid

    async def died(self) -> None:
        """Return when the writer has ended, whatever the reason."""
        await asyncio.shield(self._link.closed)

    async def read(self, fn: Callable[Concatenate[ReadConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._readers.run(fn, args, kwargs)
        return result

    async def write(self, fn: Callable[Concatenate[WriteConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._link.call(fn, args, kwargs)
        return result

    async def reclaim(self, pages: int) -> None:
        await self._link.call(RECLAIM, (pages,), {})

    async def snapshot(self, target: Path, pages: int) -> tuple[int, int]:
        done, total = await self._link.call(SNAPSHOT, (target, pages), {})
        return done, total

    async def close(self) -> None:
        self._link.close()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._readers.close()


class Spawned(NamedTuple):
    """A writer process that is starting, and the front's end of the socket pair."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    place: Place


def spawn(data_dir: Path, url: str = "", sender: str = "") -> Spawned:
    """Start the writer process of a data directory, and of the PostgreSQL database at ``url`` if there is one."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    command = [sys.executable, "-m", "restante.storage.writer", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)  # noqa: S603
    theirs.close()
    place = Place(data_dir, url, sender)
    data = pickle.dumps(place, protocol=5)
    ours.sendall(LENGTH.pack(len(data)) + data)
    ours.setblocking(False)
    return Spawned(process, ours, place)


async def connect(signals: Signals, spawned: Spawned) -> ProcessDatabase:
    """Wait until a spawned writer has opened its store. Raises what kept it from that."""
    process, ours, place = spawned
    _, link = await asyncio.get_running_loop().create_unix_connection(lambda: _Link(signals), sock=ours)
    try:
        version_before = await link.ready
    except BaseException:
        link.close()
        process.wait()
        raise
    return ProcessDatabase(place, link, process, version_before)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing is left to clean up; interpreter shutdown would only cost time
