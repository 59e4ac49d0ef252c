"""How a command finds its data while another process is about to answer, or to end."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from restante.cli import link
from restante.cli.link import LocalLink
from restante.config import Config
from restante.errors import Unavailable
from restante.server.control import ControlClient, ControlServer
from restante.storage.writer import DirectoryLock

Before = Callable[[int], Awaitable[None] | None]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(Config(), data_dir=tmp_path)  # SQLite: on PostgreSQL nobody holds a directory alone


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Before], None]:
    """Has something happen before each look for a server, which is told which one it is."""
    connect = ControlClient.connect

    def watch(before: Before) -> None:
        looks = 0

        async def counted(data_dir: Path) -> ControlClient | None:
            nonlocal looks
            looks += 1
            found = before(looks)
            if found is not None:
                await found
            return await connect(data_dir)

        monkeypatch.setattr(ControlClient, "connect", counted)

    return watch


async def test_a_server_that_is_starting_is_waited_for(config: Config, looking: Callable[[Before], None]) -> None:
    lock = DirectoryLock(config.data_dir)
    server = ControlServer("rt", {}, config.data_dir)
    looking(lambda look: server.start() if look == 3 else None)
    async with link.connect(config, creates=False) as found:
        assert isinstance(found, ControlClient)
    await server.close()
    lock.release()


async def test_a_command_that_ends_is_waited_for(config: Config, looking: Callable[[Before], None]) -> None:
    lock = DirectoryLock(config.data_dir)
    looking(lambda look: lock.release() if look == 3 else None)
    async with link.connect(config, creates=False) as found:
        assert isinstance(found, LocalLink)


async def test_who_never_answers_is_told_of(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "START_SECONDS", 0.0)
    lock = DirectoryLock(config.data_dir)
    with pytest.raises(Unavailable, match="a server that is starting") as caught:
        await link.connect(config, creates=False).__aenter__()
    assert caught.value.code == "data_dir_in_use"
    lock.release()
