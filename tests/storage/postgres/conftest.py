"""Tests of the PostgreSQL engine itself: they need one whatever the run is about."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from restante.config import SQLITE, Config
from restante.runtime import Runtime
from restante.server.assemble import open_runtime
from tools.postgres import Cluster


@pytest.fixture
def empty_url(postgres_cluster: Cluster) -> Iterator[str]:
    """The address of a database without any table."""
    name = postgres_cluster.make_database()
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)


@contextlib.asynccontextmanager
async def make_runtime(data_dir: Path, url: str) -> AsyncIterator[Runtime]:
    """A runtime over one store, as a command without a server opens it."""
    base = Config()
    config = replace(base, data_dir=data_dir, storage=replace(base.storage, database=url or SQLITE))
    async with open_runtime(config) as rt:
        yield rt
