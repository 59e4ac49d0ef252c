"""How a command reaches its data: through the running server, or through a runtime opened for this one command."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from restante.config import Config
from restante.errors import NotFound
from restante.server import control


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
    """The link to ``config.data_dir``. Raises ``NotFound`` when there is none and the command does not make one."""
    client = await control.ControlClient.connect(config.data_dir)
    if client is not None:
        try:
            yield client
        finally:
            await client.close()
        return
    if not creates and not config.data_dir.is_dir():
        raise NotFound(
            f"there is no data directory {config.data_dir}; `restante serve` makes one, --data-dir names another",
            code="data_dir_not_found",
        )
    from restante.server.assemble import open_runtime

    async with open_runtime(config, gives_up_keys=gives_up_keys) as rt:
        yield LocalLink(rt)
