"""Prometheus metrics: one registry for a server, the instruments of HTTP, and figures asked for at scrape time.

Nothing below this floor knows of it: whoever assembles a server passes on callbacks (``observe_http``) and registers
figures with ``figure``.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

import restante
from restante.storage import sqlite

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Figure = Callable[[], Awaitable[float]] | Callable[[], float]


class Metrics:
    """The instruments of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge("restante_build", "The version that runs.", ["version"], registry=self.registry)
        build.labels(restante.__version__).set(1)
        self._requests = Counter(
            "restante_http_requests", "HTTP answers.", ["dialect", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "restante_http_request_seconds", "Time to answer.", ["dialect"], buckets=SECONDS, registry=self.registry
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._figures: list[tuple[Gauge, Figure]] = []

    def observe_http(self, dialect: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        key = (dialect, method, status)
        child = self._children.get(key)
        if child is None:
            name = method if method in _METHODS else "other"
            child = self._requests.labels(dialect, name, str(status)), self._seconds.labels(dialect)
            self._children[key] = child
        child[0].inc()
        child[1].observe(seconds)

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        """A counter of this server that others increase; ``_total`` is added to its name."""
        return Counter(name, about, labels, registry=self.registry)

    def figure(self, name: str, about: str, ask: Figure) -> None:
        """Show what ``ask`` (plain or async) says at each scrape; one that fails is left at its last value."""
        self._figures.append((Gauge(name, about, registry=self.registry), ask))

    def watch_database(self, data_dir: Path) -> None:
        """Show the sizes of the SQLite file and of its write-ahead log."""
        main = sqlite.main_path(data_dir)
        self.figure("restante_database_bytes", "Size of the database file.", lambda: _size(main))
        wal = main.with_name(main.name + "-wal")
        self.figure("restante_wal_bytes", "Size of the write-ahead log.", lambda: _size(wal))

    async def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        for gauge, ask in self._figures:
            value = ask()
            gauge.set(value if isinstance(value, int | float) else await value)
        return generate_latest(self.registry)


def _size(path: Path) -> float:
    try:
        return float(path.stat().st_size)
    except OSError:
        return 0.0
