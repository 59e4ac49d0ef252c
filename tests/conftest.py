"""Shared fixtures: a real runtime on a temporary store of the engine that ``--engine`` names, in this process."""

import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from restante import log
from restante.clock import ManualClock
from restante.config import SQLITE, Config
from restante.net import http
from restante.net.connections import Connections
from restante.runtime import Runtime
from restante.schema.fulltext import plan
from restante.services import arrivals, storing
from restante.storage import engine, sqlite
from restante.storage.blobs.files import FileBlobs
from restante.storage.engine import Place
from restante.storage.notes import Notes
from restante.storage.postgres import connection
from restante.storage.room import Room
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from restante.vault import Vault
from tests.fakes import FakePressure, FakeResolver

# the same examples in every run; how long they take says something about the machine
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

pytest_plugins = ["tests.plugins.event_bodies", "tests.plugins.no_skips", "tests.plugins.postgres"]


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Config:
    """Settings for a data directory of this test's own; listeners take any free port."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    base = Config()
    return replace(
        base,
        data_dir=data_dir,
        hostname="mail.example.test",
        http=replace(base.http, listen="127.0.0.1:0"),
        smtp=replace(base.smtp, listen="127.0.0.1:0"),
        submission=replace(base.submission, listen="127.0.0.1:0"),
        storage=replace(base.storage, database=database_url or SQLITE),
    )


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Commands that run in this process set the log up; the next test finds it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("restante")
    levels = root.level, ours.level
    yield
    for handler in [one for one in root.handlers if isinstance(one, log._Handler)]:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for seconds passes no bound of time in this process that the test is not about."""
    monkeypatch.setattr(sqlite, "READ_SECONDS", 60.0)
    monkeypatch.setattr(connection, "READ_MILLISECONDS", 60_000)
    may_idle = "SET idle_in_transaction_session_timeout = 0"
    may_wait = ("SET lock_timeout = '60s'", "SET statement_timeout = '120s'")
    monkeypatch.setattr(connection, "WRITING", (*connection.WRITING, *may_wait, may_idle))
    monkeypatch.setattr(connection, "READING", (*connection.READING, may_idle))
    monkeypatch.setitem(connection.DEFAULTS, "connect_timeout", "60")
    monkeypatch.setattr(plan, "LOOKED_AT_SECONDS", 60.0)
    monkeypatch.setattr(arrivals, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(http, "CONNECT_SECONDS", 60.0)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the real time until a test moves it."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def resolver() -> FakeResolver:
    """DNS with an empty zone; tests put records into it."""
    return FakeResolver({})


@pytest.fixture
async def rt(config: Config, clock: ManualClock, resolver: FakeResolver) -> AsyncIterator[Runtime]:
    """A runtime whose writer is in this process."""
    signals = Signals()
    db = InProcessDatabase(config.data_dir, signals, config.storage.database_url)
    engine.prepare_index(Place(config.data_dir, config.storage.database_url))
    pool = ThreadPoolExecutor(2)
    notes = Notes(config.data_dir / "notes")
    yield Runtime(
        config=config,
        db=db,
        blobs=FileBlobs(config.data_dir / "blobs"),
        clock=clock,
        resolver=resolver,
        vault=Vault.load(config.data_dir),
        signals=signals,
        pool=pool,
        room=Room(config.data_dir, 0),
        connections=Connections(10, 10),
        notes=notes,
        pressure=FakePressure(),
        intake=storing.new_intake(config.storage.inline_bytes),
    )
    notes.close()
    await db.close()
    pool.shutdown()


@pytest.fixture
def near(rt: Runtime) -> Runtime:
    """A runtime whose operator allows calls to this machine."""
    return replace(rt, config=replace(rt.config, egress=replace(rt.config.egress, allow=("127.0.0.0/8",))))
