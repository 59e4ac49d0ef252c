"""The control socket: what an operation returns or raises arrives; strangers and broken frames do no harm."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restante import errors
from restante.server.control import SOCKET_NAME, ControlClient, ControlServer, Operation


async def _echo(rt: str, **params: Any) -> dict[str, Any]:
    return {"rt": rt, **params}


async def _add(rt: str, number: int, more: int = 1) -> int:
    return number + more


async def _count(rt: str, to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def _fail(rt: str, kind: str) -> None:
    if kind == "limited":
        raise errors.RateLimited("slowly", retry_after_seconds=7)
    if kind == "missing":
        raise errors.NotFound("no such mailbox", code="mailbox_not_found", details={"address": "a@b"})
    raise ZeroDivisionError("a bug")


async def _wait(rt: str) -> None:
    await asyncio.Event().wait()


OPERATIONS: dict[str, Operation] = {"echo": _echo, "add": _add, "count": _count, "fail": _fail, "wait": _wait}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer("rt", OPERATIONS, tmp_path, max_frame=100_000)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(server: ControlServer, tmp_path: Path) -> AsyncIterator[ControlClient]:
    client = await ControlClient.connect(tmp_path)
    assert client is not None
    yield client
    await client.close()


async def test_answers_values_and_bytes(client: ControlClient) -> None:
    value = {"a": [1, None, "é"], "b": b"\0\xff", "c": {"d": True}}
    assert await client.call("echo", value=value) == {"rt": "rt", "value": value}


async def test_overlapping_calls_find_their_own_answers(client: ControlClient) -> None:
    answers = await asyncio.gather(*(client.call("add", number=n) for n in range(100)))
    assert answers == [n + 1 for n in range(100)]


async def test_streams_progress_then_the_result(client: ControlClient) -> None:
    assert [pair async for pair in client.stream("count", to=3)] == [(0, False), (1, False), (2, True)]


async def test_errors_arrive_as_they_were_raised(client: ControlClient) -> None:
    with pytest.raises(errors.NotFound, match="no such mailbox") as missing:
        await client.call("fail", kind="missing")
    assert (missing.value.code, missing.value.details) == ("mailbox_not_found", {"address": "a@b"})
    with pytest.raises(errors.RateLimited) as limited:
        await client.call("fail", kind="limited")
    assert limited.value.retry_after_seconds == 7


async def test_a_bug_becomes_an_internal_error_and_the_connection_lives(client: ControlClient) -> None:
    with pytest.raises(errors.RestanteError) as failed:
        await client.call("fail", kind="bug")
    assert failed.value.code == "internal_error"
    assert await client.call("add", number=1) == 2


@pytest.mark.parametrize(("operation", "params"), [("nothing", {}), ("add", {}), ("add", {"number": 1, "other": 2})])
async def test_wrong_requests_are_refused(client: ControlClient, operation: str, params: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid):
        await client.call(operation, **params)


async def test_the_socket_is_the_owners_alone(server: ControlServer, tmp_path: Path) -> None:
    assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_second_server_is_refused(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(errors.Conflict, match="already running"):
        await ControlServer("other", OPERATIONS, tmp_path).start()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    import socket

    stale = socket.socket(socket.AF_UNIX)
    path = tmp_path / SOCKET_NAME
    here = os.open(tmp_path, os.O_RDONLY)
    stale.bind(f"/proc/self/fd/{here}/{SOCKET_NAME}")
    os.close(here)
    stale.close()
    assert path.exists()
    assert await ControlClient.connect(tmp_path) is None
    server = ControlServer("rt", OPERATIONS, tmp_path)
    await server.start()
    await server.close()
    assert not path.exists()


async def test_no_server_is_none(tmp_path: Path) -> None:
    assert await ControlClient.connect(tmp_path) is None
    assert await ControlClient.connect(tmp_path / "missing") is None


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = ControlServer("rt", OPERATIONS, deep)
    await server.start()
    client = await ControlClient.connect(deep)
    assert client is not None
    assert await client.call("add", number=1, more=2) == 3
    await client.close()
    await server.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 4_000_000_000) + b"x",
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 1) + b"\x01",
        struct.pack(">I", 50) + b"short",
        b"\0",
    ],
)
async def test_broken_frames_end_only_their_connection(server: ControlServer, tmp_path: Path, data: bytes) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{here}/{SOCKET_NAME}")
    os.close(here)
    writer.write(data)
    writer.write_eof()
    assert b"restante" in await reader.read()
    writer.close()
    await writer.wait_closed()
    client = await ControlClient.connect(tmp_path)
    assert client is not None
    assert await client.call("add", number=1) == 2
    await client.close()


async def test_those_who_wait_are_told_when_the_server_stops(tmp_path: Path) -> None:
    server = ControlServer("rt", OPERATIONS, tmp_path)
    await server.start()
    client = await ControlClient.connect(tmp_path)
    assert client is not None
    waiting = asyncio.create_task(client.call("wait"))
    await client.call("add", number=1)
    await server.close()
    with pytest.raises(errors.Unavailable) as stopped:
        await waiting
    assert stopped.value.code == "server_stopped"
    with pytest.raises(errors.Unavailable):
        await client.call("add", number=1)
    await client.close()


async def test_a_frame_nested_without_end_ends_only_its_connection(
    server: ControlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
    data = b"\x91" * 50_000 + b"\xc0"
    writer.write(struct.pack(">I", len(data)) + data)
    await reader.read()
    writer.close()
    await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    client = await ControlClient.connect(tmp_path)
    assert client is not None
    assert await client.call("add", number=1) == 2
    await client.close()
