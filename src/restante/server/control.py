"""The control socket: how commands reach a running server, the one process that may write its data directory.

``control.sock`` in the data directory (mode 0600, the peer's user checked) carries frames: four bytes of length (big
endian), then a MessagePack map. The server greets with ``{"restante": version, "protocol": 1}``. A request
``{"id", "operation", "params"}`` is answered by any number of ``{"id", "item"}`` and one ``{"id", "result"}`` or
``{"id", "error"}``; requests of one connection may overlap, up to ``MAX_OVERLAP``.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from inspect import isasyncgen, signature
from pathlib import Path
from typing import Any

import msgspec

from restante import __version__, errors, log

PROTOCOL = 1
SOCKET_NAME = "control.sock"
MAX_OVERLAP = 16
MAX_CONNECTIONS = 32
ENVELOPE = 1024 * 1024  # room in a frame beside a message
MAX_FRAME = 1024 * 1024 * 1024 + ENVELOPE  # the largest message that a setting can allow
MAX_PATH = 100  # bytes; a Unix socket's name holds 108

Operation = Callable[..., Any]

_log = log.logger(__name__)
_length = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_KINDS = {kind.__name__: kind for kind in errors.walk()}


class ControlServer:
    """Answers the control socket of one runtime until ``close``."""

    def __init__(
        self, rt: Any, operations: Mapping[str, Operation], data_dir: Path, max_frame: int = MAX_FRAME
    ) -> None:
        self._rt = rt
        self._operations = operations
        self._path = data_dir / SOCKET_NAME
        self._max_frame = max_frame
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take over ``control.sock``. Raises ``Conflict`` when a running server answers there already."""
        await require_alone(self._path.parent)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(self._path) as address:
                opened.bind(address)
            self._path.chmod(0o600)  # before listen(): nobody can have connected yet
            self._server = await asyncio.start_unix_server(self._accept, sock=opened)
        except BaseException:
            opened.close()
            raise

    async def close(self) -> None:
        """Stop listening, end the open connections and remove the socket."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS or not _is_owner(writer):
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the server stops; asyncio would report the cancelled callback as an error
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _send(writer, {"restante": __version__, "protocol": PROTOCOL, "pid": os.getpid()})
        room = asyncio.Semaphore(MAX_OVERLAP)
        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                try:
                    request = await _receive(reader, self._max_frame)
                except (
                    OSError,
                    asyncio.IncompleteReadError,
                    msgspec.DecodeError,
                    errors.TooLarge,
                    RecursionError,
                ) as error:
                    _log.info("control connection ended", reason=str(error) or type(error).__name__)
                    request = None
                if request is None:
                    return
                task = group.create_task(self._answer(request, writer))
                task.add_done_callback(lambda _: room.release())

    async def _answer(self, request: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        number = request.get("id")
        with contextlib.suppress(OSError):  # the caller hung up; what it asked for is done or rolled back
            try:
                answers = run(self._rt, self._operations, request.get("operation"), request.get("params"))
                async with contextlib.aclosing(answers):
                    async for item, is_last in answers:
                        _send(writer, {"id": number, "result" if is_last else "item": item})
                        await writer.drain()
            except errors.RestanteError as error:
                _send(writer, {"id": number, "error": _pack_error(error)})
                await writer.drain()


class ControlClient:
    """A connection to a running server's control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last = 0
        self._waiting: dict[int, asyncio.Queue[Mapping[str, Any] | None]] = {}
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, data_dir: Path) -> "ControlClient | None":
        """The server of ``data_dir``, or None when none is running there. Raises ``Unavailable``, ``Forbidden``."""
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.setblocking(False)
        try:
            with _address(data_dir / SOCKET_NAME) as address:
                await asyncio.get_running_loop().sock_connect(opened, address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            opened.close()
            return None
        except PermissionError as error:
            opened.close()
            raise errors.Forbidden(f"the server of {data_dir} runs as another user") from error
        reader, writer = await asyncio.open_unix_connection(sock=opened)
        client = cls(reader, writer)
        greeting = await _receive(reader, 4096)
        if greeting is None:
            await client.close()
            raise errors.Unavailable(f"the server of {data_dir} is busy with other commands", code="server_busy")
        if greeting.get("protocol") != PROTOCOL:
            await client.close()
            raise errors.Unavailable(f"the server of {data_dir} does not answer as version {__version__} does")
        client._pump = asyncio.create_task(client._distribute())
        return client

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def call(self, operation: str, **params: Any) -> Any:
        """Run an operation and return its result. Raises the error it raised there."""
        result = None
        async for item, is_last in self.stream(operation, **params):
            if is_last:
                result = item
        return result

    async def stream(self, operation: str, **params: Any) -> AsyncGenerator[tuple[Any, bool], None]:
        """Run an operation; yields ``(item, False)`` for each piece of progress, then ``(result, True)``."""
        if self._pump is None or self._pump.done():
            raise errors.Unavailable("the server hung up", code="server_stopped")
        self._last += 1
        number = self._last
        answers: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._waiting[number] = answers
        try:
            try:
                _send(self._writer, {"id": number, "operation": operation, "params": params})
                await self._writer.drain()
            except OSError as error:
                raise errors.Unavailable("the server hung up", code="server_stopped") from error
            while True:
                answer = await answers.get()
                if answer is None:
                    raise errors.Unavailable("the server stopped before it answered", code="server_stopped")
                if "error" in answer:
                    raise _unpack_error(answer["error"])
                if "result" in answer:
                    yield answer["result"], True
                    return
                yield answer.get("item"), False
        finally:
            del self._waiting[number]

    async def _distribute(self) -> None:
        try:
            while (answer := await _receive(self._reader, MAX_FRAME)) is not None:
                queue = self._waiting.get(answer.get("id", 0))
                if queue is not None:
                    queue.put_nowait(answer)
        except (OSError, asyncio.IncompleteReadError, msgspec.DecodeError):
            pass  # those who wait are told below
        finally:
            for queue in self._waiting.values():
                queue.put_nowait(None)


async def require_alone(data_dir: Path) -> None:
    """Raise ``Conflict`` when a running server answers for ``data_dir``."""
    other = await ControlClient.connect(data_dir)
    if other is not None:
        await other.close()
        raise errors.Conflict(f"a server is already running on {data_dir}", code="already_running")


async def run(
    rt: Any, operations: Mapping[str, Operation], name: Any, params: Any
) -> AsyncGenerator[tuple[Any, bool], None]:
    """Run one operation on ``rt``: ``(item, False)`` for progress, then ``(result, True)``; ``RestanteError`` only.

    An operation is an ``async def`` that returns its result, or an asynchronous generator whose last item is it.
    """
    operation = operations.get(name) if isinstance(name, str) else None
    if operation is None:
        raise errors.Invalid("there is no such operation", code="unknown_operation")
    params = params if isinstance(params, dict) else {}
    try:
        signature(operation).bind(rt, **params)
    except TypeError as error:
        raise errors.Invalid(f"{name}: {error}", code="bad_parameters") from error
    try:
        pending = operation(rt, **params)
        if not isasyncgen(pending):
            yield await pending, True
            return
        last: Any = None
        started = False
        async for item in pending:
            if started:
                yield last, False
            last, started = item, True
        yield last, True
    except errors.RestanteError:
        raise
    except Exception as error:
        _log.exception("operation failed", operation=name)
        raise errors.RestanteError(f"{name} failed inside the server: {error!r}", code="internal_error") from error


def _is_owner(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("socket")
    if peer is None or not hasattr(socket, "SO_PEERCRED"):
        return True  # the file's mode alone decides
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.geteuid())


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's name; a path too long for one is reached through its directory's descriptor (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _send(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    data = _encoder.encode(value)
    writer.write(_length.pack(len(data)))
    writer.write(data)


async def _receive(reader: asyncio.StreamReader, limit: int) -> dict[str, Any] | None:
    try:
        head = await reader.readexactly(_length.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    size: int = _length.unpack(head)[0]
    if size > limit:
        raise errors.TooLarge(f"a control frame of {size} bytes")
    value = _decoder.decode(await reader.readexactly(size))
    if not isinstance(value, dict):
        raise msgspec.DecodeError("a control frame is a map")
    return value


def _pack_error(error: errors.RestanteError) -> dict[str, Any]:
    state = {name: value for name, value in error.__dict__.items() if isinstance(value, str | int | dict)}
    return {"kind": type(error).__name__, "text": str(error), "state": state}


def _unpack_error(packed: Mapping[str, Any]) -> errors.RestanteError:
    kind = _KINDS.get(packed.get("kind", ""), errors.RestanteError)
    error = kind.__new__(kind)
    error.args = (packed.get("text", ""),)
    error.__dict__.update({"code": kind.default_code, "message": packed.get("text", ""), "details": {}})
    error.__dict__.update(packed.get("state", {}))
    return error
