"""The indexer process: started with the server, nudged after commits, started again when it dies."""

import asyncio
import contextlib

from restante import log
from restante.core import indexing
from restante.storage.database import Database
from restante.storage.engine import IndexProcess
from restante.storage.signals import Signals

NUDGE_SECONDS = 0.05  # nudges closer together are one
PRUNE_SECONDS = 2.0
RESTART_SECONDS = 1.0
STOP_SECONDS = 10.0
LINE_BYTES = 1 << 16

_log = log.logger(__name__)


class IndexerProcess:
    """Keeps one indexer running and forgets queue rows that it has done."""

    def __init__(self, program: IndexProcess, db: Database, signals: Signals) -> None:
        self._program, self._db = program, db
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Event()
        self._done = 0
        self._pruned = 0
        self._tasks: list[asyncio.Task[None]] = []
        signals.on_any(lambda _: self._changed.set())

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and the tasks around it."""
        await self._spawn()
        self._tasks = [asyncio.create_task(work()) for work in (self._keep, self._nudge, self._prune)]

    async def _spawn(self) -> None:
        pipe, command = asyncio.subprocess.PIPE, self._program.arguments
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        assert process.stdin is not None
        process.stdin.write(self._program.greeting)
        self._process = process

    async def _keep(self) -> None:
        """Read the progress lines; when they end, the process has died: start another."""
        while True:
            process = self._process
            if process is None or process.stdout is None:
                return
            async for line in process.stdout:
                with contextlib.suppress(ValueError):
                    self._done = int(line)
            _log.warning("the indexer ended; starting another", exit_code=await process.wait())
            await self._respawn()

    async def _respawn(self) -> None:
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self._spawn()
            except OSError as error:  # no memory or no file descriptors for the moment
                _log.error("the indexer cannot be started", error=str(error))
            else:
                return

    async def _nudge(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            process = self._process
            if process is not None and process.stdin is not None:
                # RuntimeError: uvloop's, for the pipe of a process that has just died
                with contextlib.suppress(OSError, RuntimeError):
                    process.stdin.write(b"\n")
                    await process.stdin.drain()
            await asyncio.sleep(NUDGE_SECONDS)

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            done = self._done
            if done > self._pruned:
                try:
                    await self._db.write(indexing.forget_done, done)
                except Exception as error:  # noqa: BLE001 - a full disk, say; the rows wait for the next round
                    _log.warning("the index queue is not pruned", error=str(error))
                else:
                    self._pruned = done

    async def close(self) -> None:
        """Let the process finish what it is at, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
