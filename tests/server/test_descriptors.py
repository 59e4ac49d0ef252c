"""File descriptors: the limit is raised as far as it goes, and running out of them is told."""

import asyncio
import contextlib
import dataclasses
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.config import Config, Http
from restante.server import descriptors


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield kept
    resource.setrlimit(resource.RLIMIT_NOFILE, kept)


def _highest() -> int:
    return max(int(one.name) for one in Path("/proc/self/fd").iterdir())


def _config(connections: int) -> Config:
    return dataclasses.replace(Config(), http=dataclasses.replace(Http(), max_connections=connections))


def test_the_soft_limit_is_raised_to_what_is_needed(limit: tuple[int, int]) -> None:
    _, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    descriptors.raise_limit(_config(10))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 2 * 1000 + 10 + descriptors.SPARE)


def test_a_hard_limit_that_is_too_low_is_told(limit: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    descriptors.raise_limit(_config(limit[1]))
    assert [record.getMessage() for record in caplog.records] == ["few_file_descriptors"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit[1]


async def test_running_out_is_told(limit: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    assert descriptors.are_left()
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_highest() + 1, limit[1]))
        while descriptors.are_left():
            opened.append(os.open(os.devnull, os.O_RDONLY))
        assert not descriptors.are_left()
        watch = asyncio.create_task(descriptors.watch())
        await asyncio.sleep(0)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for each in opened:
            os.close(each)
    assert [record.getMessage() for record in caplog.records] == ["out_of_file_descriptors"]
