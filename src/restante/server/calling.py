"""The courier process, seen from the front: started when there is something to call, told of changes, kept alive."""

import asyncio
import sys

from restante import log
from restante.core import automations, webhooks
from restante.runtime import Runtime
from restante.storage import links
from restante.storage.relay import Relay

GATHER_SECONDS = 0.02  # changes closer together are told together
LOOK_SECONDS = 0.25  # between two looks whether there is something to call
RESTART_SECONDS = 1.0
STOP_SECONDS = 10.0

_log = log.logger(__name__)


class CourierProcess:
    """Keeps one courier running, from when the first webhook or automation is there."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._process: asyncio.subprocess.Process | None = None
        self._relay: Relay | None = None
        self._touched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        rt.signals.on_any(self._note)

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Until cancelled; the process then notes what came back and ends."""
        try:
            await self._await_work()
            while True:
                await self._keep()
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await self._stop()

    async def _await_work(self) -> None:
        while True:
            self._changed.clear()
            try:
                for is_any_active in (webhooks.is_any_active, automations.is_any_active):
                    if await self._rt.db.read(is_any_active):
                        return
            except Exception as error:  # noqa: BLE001 - storage is away for the moment, say
                _log.warning("cannot look for something to call", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(LOOK_SECONDS)
            await self._changed.wait()

    async def _keep(self) -> None:
        """Start the process and wait until it has died."""
        try:
            process = await self._spawn()
        except OSError as error:  # no memory or no file descriptors for the moment
            _log.error("the courier cannot be started", error=str(error))
            return
        code = await process.wait()
        self._process = self._relay = None
        _log.warning("the courier ended; starting another", exit_code=code)

    async def _spawn(self) -> asyncio.subprocess.Process:
        ours, theirs = links.pair()
        command = (sys.executable, "-m", "restante.server.courier", str(theirs.fileno()))
        quiet = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=quiet, stdout=quiet, pass_fds=(theirs.fileno(),)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        _, self._relay = await asyncio.get_running_loop().create_unix_connection(
            lambda: Relay(self._rt.db, self._rt.config), sock=ours
        )
        return process

    def _note(self, touched: frozenset[int]) -> None:
        self._changed.set()
        self._touched |= touched
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._tell)

    def _tell(self) -> None:
        touched, self._touched, self._timer = self._touched, set(), None
        if self._relay is not None:
            self._relay.tell(touched)

    async def _stop(self) -> None:
        if self._process is None or self._relay is None:
            return
        self._relay.end()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
