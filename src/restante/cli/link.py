"""How a command reaches its data: through the running server, or through a runtime opened for this one command."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from restante.config import Config
from restante.errors import Conflict, NotFound, Unavailable
from restante.server import control

START_SECONDS = 10.0  # for a server that is starting, or a command that is about to end
LOOK_SECONDS = 0.05


class Link(Protocol):
    """What a command needs of the server or of its own runtime."""

    async def call(self, operation: str, **params: Any) -> Any:
        """Run an operation and return its result."""
        ...

    def stream(self, operation: str, **params: Any) -> AsyncGenerator[tuple[Any, bool], None]:
        """Run an operation: ``(item, False)`` for progress, then ``(result, True)``."""
        ...


class LocalLink:
    """Runs operations in this process."""

    def __init__(self, rt: Any) -> None:
        from restante.server.operations import OPERATIONS

        self._rt, self._operations = rt, OPERATIONS

    async def call(self, operation: str, **params: Any) -> Any:
        result = None
        async for item, is_last in self.stream(operation, **params):
            if is_last:
                result = item
        return result

    async def stream(self, operation: str, **params: Any) -> AsyncGenerator[tuple[Any, bool], None]:
        async for pair in control.run(self._rt, self._operations, operation, params):
            yield pair


@asynccontextmanager
async def connect(config: Config, *, creates: bool, gives_up_keys: bool = False) -> AsyncIterator[Link]:
    """The link to ``config.data_dir``. A server that is starting, or a command that ends, is waited for.

    Raises NotFound when there is no directory and the command does not make one, Unavailable when another process
    holds it and does not answer.
    """
    until = time.monotonic() + START_SECONDS
    async with AsyncExitStack() as stack:
        while (link := await _reach(config, stack, creates, gives_up_keys)) is None:
            if time.monotonic() > until:
                raise Unavailable(
                    f"{config.data_dir} is in use by another Restante that does not answer: a server that is starting, "
                    "or a command; try again",
                    code="data_dir_in_use",
                )
            await asyncio.sleep(LOOK_SECONDS)
        yield link


async def _reach(config: Config, stack: AsyncExitStack, creates: bool, gives_up_keys: bool) -> Link | None:
    """The server that answers, else a runtime, both closed with ``stack``; None when another process is in the way."""
    client = await control.ControlClient.connect(config.data_dir)
    if client is not None:
        stack.push_async_callback(client.close)
        return client
    if not creates and not config.data_dir.is_dir():
        raise NotFound(
            f"there is no data directory {config.data_dir}; `restante serve` makes one, --data-dir names another",
            code="data_dir_not_found",
        )
    from restante.server.assemble import open_runtime  # loaded only where no server answers

    try:
        rt = await stack.enter_async_context(open_runtime(config, gives_up_keys=gives_up_keys, lock_seconds=0))
    except Conflict as error:
        if error.code != "data_dir_in_use":
            raise
        return None
    return LocalLink(rt)
