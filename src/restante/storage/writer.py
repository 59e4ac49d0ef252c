"""The writer as a process of its own, and the form inside this process for tests and one-shot commands.

Front and writer share a link: first goes a frame that says where the store is, then frames of calls; a committed group
is answered in one. The writer ends when the front's end closes; the front ends when the writer dies. A lock on the
data directory keeps a second server out.
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
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from restante.errors import Conflict, RestanteError, Unavailable
from restante.schema.connections import ReadConn, WriteConn
from restante.storage import engine, links
from restante.storage.database import Call, FatalStorageError, Outcome
from restante.storage.engine import Place
from restante.storage.links import READY, RECLAIM, SNAPSHOT, Link, LinkedDatabase, answers, frames
from restante.storage.signals import Signals

T = TypeVar("T")
P = ParamSpec("P")

RECEIVE_BYTES = 1 << 20
GROUP_CALLS = 256
GROUP_BYTES = 16 << 20
LOCK_SECONDS = 10.0  # a writer whose front was killed may still be finishing its last group

_log = logging.getLogger(__name__)


class DirectoryLock:
    """Holds the data directory for one writer, as long as its process lives."""

    def __init__(self, data_dir: Path, wait_seconds: float = LOCK_SECONDS) -> None:
        self._file = (data_dir / "lock").open("a+")
        until = time.monotonic() + wait_seconds
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


class _Groups:
    """Reads calls from the front and hands them out in groups: what is there."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._received = memoryview(bytearray(RECEIVE_BYTES))
        self._buffer = bytearray()
        self._waiting: list[bytes] = []

    def next(self) -> list[bytes] | None:
        """The next group of at least one call; None when the front has closed."""
        while not self._waiting:
            if not self._receive(0):
                return None
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
        return taken

    def _receive(self, flags: int) -> bool:
        size = self._link.recv_into(self._received, 0, flags)
        self._buffer += self._received[:size]
        for each in frames(self._buffer):
            self._waiting += pickle.loads(each)  # noqa: S301 - from our own front, over a socket pair
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
        link.sendall(answers([READY], [Outcome(error=shown)]))
        return 1
    link.sendall(answers([READY], [Outcome(value=commits.version_before)]))
    calm_collector()
    try:
        while (group := groups.next()) is not None:
            numbers, calls = [], []
            for each in group:
                number, fn, args, kwargs = pickle.loads(each)  # noqa: S301 - from our own front, over a socket pair
                if fn == RECLAIM:
                    link.sendall(answers([number], [Outcome(value=commits.reclaim(*args))]))
                    continue
                if fn == SNAPSHOT:
                    link.sendall(answers([number], [commits.snapshot(*args)]))
                    continue
                numbers.append(number)
                calls.append(Call(fn, args, kwargs))
            if calls:
                link.sendall(answers(numbers, commits.run(calls)))
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

    def __init__(self, data_dir: Path, signals: Signals, url: str = "", *, lock_seconds: float = LOCK_SECONDS) -> None:
        place = Place(data_dir, url)
        self._lock = None if url else DirectoryLock(data_dir, lock_seconds)  # PostgreSQL takes any number of writers
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


class ProcessDatabase(LinkedDatabase):
    """The writer is a process of its own."""

    def __init__(self, place: Place, link: Link, process: subprocess.Popen[bytes], version_before: int) -> None:
        super().__init__(place, link)
        self._process = process
        self.version_before = version_before

    @property
    def pid(self) -> int:
        """The writer's process id."""
        return self._process.pid

    async def died(self) -> None:
        """Return when the writer has ended, whatever the reason."""
        await asyncio.shield(self._link.closed)

    async def close(self) -> None:
        self._link.close()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        await super().close()


class Spawned(NamedTuple):
    """A writer process that is starting, and the front's end of the socket pair."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    place: Place


def spawn(data_dir: Path, url: str = "", sender: str = "") -> Spawned:
    """Start the writer process of a data directory, and of the PostgreSQL database at ``url`` if there is one."""
    ours, theirs = links.pair()
    command = [sys.executable, "-m", "restante.storage.writer", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)  # noqa: S603
    theirs.close()
    place = Place(data_dir, url, sender)
    ours.sendall(links.calls([pickle.dumps(place, protocol=5)]))
    return Spawned(process, ours, place)


async def connect(signals: Signals, spawned: Spawned) -> ProcessDatabase:
    """Wait until a spawned writer has opened its store. Raises what kept it from that."""
    process, ours, place = spawned
    _, link = await asyncio.get_running_loop().create_unix_connection(lambda: Link(signals), sock=ours)
    try:
        version_before = await link.ready
    except BaseException:
        link.close()
        process.wait()
        raise
    return ProcessDatabase(place, link, process, version_before)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing is left to clean up; interpreter shutdown would only cost time
