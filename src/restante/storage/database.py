"""``Database``: the unit of work that everything above uses, whatever engine is behind it.

``fn`` is a module-level function ``fn(conn, *args)``; its arguments, result and errors survive pickling. It may run
twice and shares a commit with strangers, so it has no effect except through ``conn``.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from restante.schema.connections import ReadConn, WriteConn

T = TypeVar("T")
P = ParamSpec("P")

SLOW_SECONDS = 0.05  # a function over this is logged by name

_log = logging.getLogger(__name__)


class Database(Protocol):
    """What an engine offers."""

    async def read(self, fn: Callable[Concatenate[ReadConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn`` in a read transaction; in a thread if it is marked ``scanning``."""
        ...

    async def write(self, fn: Callable[Concatenate[WriteConn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn`` in a write transaction; returns after the commit is on disk.

        Raises what ``fn`` raised (it alone is rolled back), or ``Unavailable`` when the commit failed: then nothing
        of it is stored.
        """
        ...

    async def reclaim(self, pages: int) -> None:
        """Give up to ``pages`` unused pages of the files back to the system, where the engine does not by itself."""
        ...

    async def snapshot(self, target: Path, pages: int) -> tuple[int, int]:
        """Copy the next ``pages`` of the store to ``target``; returns (done, in all), equal when the copy is whole.

        The copy is of the moment at which it became whole. Raises Unavailable(code="snapshot_failed").
        """
        ...

    async def close(self) -> None:
        """Finish what is under way and let the files go."""
        ...


class Call(NamedTuple):
    """One function to run in the next group."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Outcome(NamedTuple):
    """What became of a call: a value, or the error it raised; and the accounts to signal."""

    value: Any = None
    error: BaseException | None = None
    touched: tuple[int, ...] = ()


class FatalStorageError(Exception):
    """The store can no longer be trusted by this process (a failed fsync, corruption): it must end."""


class Commits(Protocol):
    """The writing half of an engine: it belongs to one thread of one process."""

    version_before: int  # of the schema, as it was found; 0: the store is new

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Run ``calls`` in few transactions and commit; a failing one is rolled back alone.

        Where a commit failed nothing of it is stored and its outcomes are Unavailable. Raises FatalStorageError.
        """
        ...

    def reclaim(self, pages: int) -> int:
        """Give up to ``pages`` unused pages back; returns how many are left."""
        ...

    def snapshot(self, target: Path, pages: int) -> Outcome:
        """Copy the next ``pages`` of the store to ``target``, which the first call makes; the value is (done, in all).

        One copy at a time: a call with another target gives up the one before.
        """
        ...

    def close(self) -> None:
        """Let the store go."""
        ...


class Readers(Protocol):
    """The reading half of an engine, for one event loop."""

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``fn`` in one read transaction. Raises what ``fn`` raised, or Unavailable."""
        ...

    def close(self) -> None:
        """Let the store go."""
        ...


@dataclass(frozen=True, slots=True)
class IndexStep:
    """What a comparison of some messages with the search index found; ``last`` is where to go on, None at the end."""

    last: tuple[int, ...] | None
    missing: tuple[tuple[int, int], ...]  # (account, message)
    extra: tuple[tuple[int, int], ...]  # the account is 0 where the index does not name it


class Timed:
    """Logs a function that took too long, by name."""

    def __init__(self, what: str, fn: Callable[..., Any]) -> None:
        self._what, self._fn = what, fn

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took = time.perf_counter() - self._start
        if took > SLOW_SECONDS:
            name = f"{self._fn.__module__}.{self._fn.__qualname__}"
            _log.warning("slow %s fn=%s ms=%d", self._what, name, int(took * 1000))
