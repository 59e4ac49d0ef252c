"""Tests of the PostgreSQL engine itself: they need one whatever the run is about."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restante.clock import ManualClock
from restante.config import Config
from restante.runtime import Runtime
from restante.storage.blobs.files import FileBlobs
from restante.storage.room import Room
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from restante.vault import Vault
from tests.fakes import FakeResolver
from tools.postgres import Cluster


@pytest.fixture
def empty_url(postgres_cluster: Cluster) -> Iterator[str]:
    """The address of a database without any table."""
    name = postgres_cluster.make_database()
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)


@contextlib.asynccontextmanager
async def make_runtime(data_dir: Path, url: str) -> AsyncIterator[Runtime]:
    """A runtime over one store, without its search index."""
    signals = Signals()
    db = InProcessDatabase(data_dir, signals, url)
    with ThreadPoolExecutor(2) as pool:
        yield Runtime(
            config=replace(Config(), data_dir=data_dir),
            db=db,
            blobs=FileBlobs(data_dir / "blobs"),
            clock=ManualClock(datetime.now(UTC)),
            resolver=FakeResolver({}),
            vault=Vault.load(data_dir),
            signals=signals,
            pool=pool,
            room=Room(data_dir, 0),
        )
        await db.close()
