"""The engine that a test run is about (``--engine``), and a PostgreSQL server for those that need one.

There is one server for the session (one for each xdist worker), and a fresh database for each test.
"""

from collections.abc import Iterator

import pytest
import sqlalchemy

from restante.storage import upgrades
from tools import postgres
from tools.postgres import Cluster

ENGINES = ("sqlite", "postgres")
ON_POSTGRES = (
    "tests/api",
    "tests/cli",
    "tests/core",
    "tests/crash/test_automations.py",
    "tests/crash/test_kill.py",
    "tests/crash/test_webhooks.py",
    "tests/jobs",
    "tests/services",
    "tests/smtp",
    "tests/storage/test_database.py",
)
"""What stands on a database. Formats, grammars and the network are the same on every engine and run once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--engine postgres`` runs what stands on a database on PostgreSQL."""
    parser.addoption("--engine", choices=ENGINES, default="sqlite", help="where rows live: sqlite or postgres")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL leave out what has no database under it, and what is about SQLite's files (mark ``sqlite``)."""
    if config.getoption("--engine") == "sqlite":
        return
    chosen = [item for item in items if item.nodeid.startswith(ON_POSTGRES) and not item.get_closest_marker("sqlite")]
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


@pytest.fixture
def server_on_engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and commands that a test starts as processes keep their rows where ``--engine`` says."""
    if database_url:
        monkeypatch.setenv("RESTANTE_STORAGE_DATABASE", database_url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a fresh PostgreSQL database, or nothing when the run is about SQLite."""
    if request.config.getoption("--engine") == "sqlite":
        return ""
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A server whose data a crash may damage: fast, for all tests that do not crash it."""
    try:
        with postgres.running({**postgres.FAST, "max_connections": "50"}) as cluster:
            yield cluster
    except postgres.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres_template(postgres_cluster: Cluster) -> str:
    """A database with the newest tables and nothing in them, to be copied."""
    name = postgres_cluster.make_database()
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: postgres_cluster.connect(name))
    with engine.begin() as conn:
        upgrades.apply(conn)
    engine.dispose()
    return name


@pytest.fixture
def postgres_url(postgres_cluster: Cluster, postgres_template: str) -> Iterator[str]:
    """The ``postgresql://`` address of a database of this test's own, with the newest tables."""
    name = postgres_cluster.make_database(postgres_template)
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)
