"""SQLite and PostgreSQL beside each other: the same messages and the same requests, on one machine in one run."""

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from restante.storage.postgres import indexer
from tools import postgres, smtp_load
from tools.bench import http_load, ingest, reading, store
from tools.bench.report import Options, Table, Target, say
from tools.mailgen import Generator
from tools.postgres import Cluster
from tools.server import Server, command

CONNECTIONS = 20
LEAST_INGEST = 0.5  # of SQLite's rate
MOST_LATENCY = 2.0  # times SQLite's p95
LEAST_REQUESTS = 300  # of a kind in a round
ROUNDS = 3  # of reading, alternating
WARM_UP = 30  # requests of each kind that are not counted
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "min_wal_size": "4GB",
    "max_wal_size": "4GB",
}
NOTE = (
    "PostgreSQL runs on the same cores and the same disk, with its own settings but for `shared_buffers` of 1 GB and"
    " `min_wal_size` and `max_wal_size` of 4 GB: `fsync` and `synchronous_commit` are on."
)
WAL_NOTE = (
    " Its WAL files were there before, as in a database that has run for a while: it uses them again. (A virtual"
    " machine that is given its memory page by page makes new files slow.)"
)
WAL_SEGMENT = 16 << 20
WAL_KEPT = 4 << 30  # `min_wal_size`
WAL_RATE = 60_000_000  # bytes a second, more than is needed
SIDES = ("SQLite", "PostgreSQL")


@dataclass(frozen=True, slots=True)
class Database:
    """A database for one server."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        """Its address for the settings."""
        return self.cluster.url(self.name)

    def serve(self, data_dir: Path) -> Server:
        """A server on it."""
        return Server(data_dir, environment={**os.environ, "RESTANTE_STORAGE_DATABASE": self.url})

    def await_index(self) -> float:
        """Wait until the search index has everything; returns how many seconds that took."""
        started = time.perf_counter()
        with self.cluster.connect(self.name) as conn:
            while conn.execute("SELECT EXISTS (SELECT FROM index_queue)").fetchall() == [(True,)]:
                if time.perf_counter() - started > ingest.CATCH_UP_SECONDS:
                    raise TimeoutError("the index does not catch up")
                time.sleep(0.01)
        return time.perf_counter() - started


@contextmanager
def _both(options: Options) -> Iterator[tuple[Path, Database]]:
    """A folder for files and an empty database, for a while."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    try:
        with postgres.running(SETTINGS, options.directory) as cluster:
            yield base, Database(cluster, cluster.make_database())
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _make_wal(database: Database, size_bytes: int) -> None:
    """Let the cluster make so many bytes of WAL files and keep them to be used again, at most ``WAL_KEPT``."""
    with database.cluster.connect(database.name) as conn:
        for _ in range(min(size_bytes, WAL_KEPT) // WAL_SEGMENT):
            conn.execute("SELECT pg_logical_emit_message(false, 'bench', 'x')")
            conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")


def run_ingest(options: Options) -> list[Table]:
    """The same distinct messages to a server on either engine, in alternating rounds."""
    sides = {name: ingest.Rounds() for name in SIDES}
    with (
        _both(options) as (base, database),
        Server(base / "sqlite") as sqlite,
        database.serve(base / "postgres") as other,
    ):
        _make_wal(database, int(options.seconds * options.rounds * WAL_RATE))
        for number in range(options.rounds):
            mails = Generator(number, run="er").take(int(options.seconds * options.most_per_second))
            for name in SIDES if number % 2 == 0 else SIDES[::-1]:
                server = sqlite if name == "SQLite" else other
                sent = smtp_load.send(server.smtp, mails, connections=CONNECTIONS, seconds=options.seconds)
                load = uvloop.run(sent)
                lag = ingest.await_index(server.data_dir) if server is sqlite else database.await_index()
                sides[name].take(load, lag)
                say(f"  {name:<10}  {load.rate:7.0f}/s  index behind {lag:.2f} s")
    rows, targets = [], []
    for name, rounds in sides.items():
        rows.append(ingest.row(f"{name}, answered", rounds, rounds.rates))
        rows.append(ingest.row(f"{name}, index caught up", rounds, rounds.rates_caught_up))
    for what in ("rates", "rates_caught_up"):
        pairs = zip(getattr(sides["PostgreSQL"], what), getattr(sides["SQLite"], what), strict=True)
        ratio = statistics.median(one / two for one, two in pairs)
        text = {"rates": "answered", "rates_caught_up": "with the index caught up"}[what]
        text += f": {ratio:.2f} times SQLite (wanted: {LEAST_INGEST}); median of {options.rounds} pairs"
        targets.append(Target(text, ratio >= LEAST_INGEST))
    note = f"{options.rounds} rounds of {options.seconds:.0f} s each. {NOTE}{WAL_NOTE}"
    return [Table(f"Ingest on both engines, {CONNECTIONS} connections", ingest.COLUMNS, rows, targets, note)]


def run_reading(options: Options) -> list[Table]:
    """Lists and searches through the Mail API, over one connection, from stores with the same messages."""
    sqlite_dir = store.open_store(options)
    with _both(options) as (base, database):
        token = _fill(database, base / "postgres", options.messages)
        with Server(sqlite_dir) as sqlite, database.serve(base / "postgres") as other:
            for server in (sqlite, other):
                server.await_rest()
            sides = {"SQLite": (sqlite, store.token(sqlite_dir)), "PostgreSQL": (other, token)}
            return [
                _read(options, "List of 50 messages on both engines", sides, reading.list_paths()),
                _read(options, "Search on both engines", sides, reading.search_paths()),
            ]


def _fill(database: Database, data_dir: Path, count: int) -> str:
    """Make the store; returns its admin token."""
    with database.serve(data_dir):
        flags = ("--dialect", "mail-api", "--admin", "--rate-limit", "none")
        token: str = command(data_dir, "token", "create", *flags)["token"]
    asyncio.run(store.fill(data_dir, count, database.url))
    started = time.monotonic()
    indexer.catch_up(database.url)
    say(f"indexed after {time.monotonic() - started:.0f} s more")
    with database.cluster.connect(database.name) as conn:
        conn.execute("VACUUM (ANALYZE)")  # as autovacuum would in a while
        conn.execute("CHECKPOINT")  # likewise: what was just filled is not written while it is read
    return token


def _read(options: Options, title: str, sides: dict[str, tuple[Server, str]], kinds: dict[str, list[str]]) -> Table:
    rows, targets = [], []
    for server, token in sides.values():  # the first requests open connections and prepare statements
        first = [http_load.request(paths[0], token) for paths in kinds.values()] * WARM_UP
        uvloop.run(http_load.get(reading.address(server), first, connections=1))
    for kind, paths in kinds.items():
        paths = paths * max(1, LEAST_REQUESTS // len(paths))  # noqa: PLW2901
        latencies: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(ROUNDS):
            for name in SIDES if number % 2 == 0 else SIDES[::-1]:
                server, token = sides[name]
                requests = [http_load.request(path, token) for path in paths]
                found, _ = uvloop.run(http_load.get(reading.address(server), requests, connections=1))
                latencies[name] += found
        shown = {name: reading.percentiles(found) for name, found in latencies.items()}
        rows += [(f"{kind}, {name}", str(len(latencies[name])), *shown[name]) for name in SIDES]
        ratio = float(shown["PostgreSQL"][1]) / float(shown["SQLite"][1])
        text = f"{kind}: p95 {ratio:.2f} times SQLite's (wanted: at most {MOST_LATENCY:.0f})"
        targets.append(Target(text, ratio <= MOST_LATENCY))
    note = f"{options.messages:,} messages; {ROUNDS} alternating rounds over one connection. {reading.RESTED} {NOTE}"
    return Table(title, ("", "requests", "p50 ms", "p95 ms", "p99 ms"), rows, targets, note)


def version() -> str:
    """Of the server that is measured."""
    try:
        found = subprocess.run(
            [str(postgres.programs() / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
    except postgres.Missing:
        return "without PostgreSQL"
    return found.stdout.strip().replace(" (PostgreSQL)", "").replace("postgres", "PostgreSQL")
