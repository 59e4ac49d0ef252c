"""Prometheus metrics: one registry for a server. HTTP counts its answers here; the rest is asked for at scrape time.

Nothing below this floor knows of it: the parts keep plain numbers, and this file gives them names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import restante
from restante.core import indexing
from restante.runtime import Runtime
from restante.smtp.port import Counters
from restante.storage import engine, sqlite

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Counted(Protocol):
    """A part that keeps counters, such as an SMTP listener."""

    @property
    def counters(self) -> Counters:
        """Its figures."""
        ...


class HasProcess(Protocol):
    """A part with a process of its own."""

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        ...


class Metrics:
    """The instruments of one server. ``smtp`` is the listeners by service, ``processes`` the others by name."""

    def __init__(
        self,
        rt: Runtime,
        smtp: Mapping[str, Sequence[Counted]] | None = None,
        processes: Mapping[str, HasProcess] | None = None,
    ) -> None:
        self._rt = rt
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="restante", registry=self.registry)
        for name, part in (processes or {}).items():
            self._collect_process(name, part)
        GCCollector(registry=self.registry)
        self.registry.register(_Smtp(smtp or {}))
        self.registry.register(_Storage(rt))
        build = Gauge("restante_build", "The version that runs.", ["version"], registry=self.registry)
        build.labels(restante.__version__).set(1)
        self._requests = Counter(
            "restante_http_requests", "HTTP answers.", ["dialect", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "restante_http_request_seconds", "Time to answer.", ["dialect"], buckets=SECONDS, registry=self.registry
        )
        self._backlog = Gauge(
            "restante_index_queue_messages", "Messages that wait for the search index.", registry=self.registry
        )
        self._bytes = Gauge("restante_database_bytes", "Size of the database.", registry=self.registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _collect_process(self, name: str, part: HasProcess) -> None:
        """Memory, CPU and open files of another process; nothing while it is not there."""
        ProcessCollector(namespace=f"restante_{name}", pid=lambda: part.pid or 0, registry=self.registry)

    def observe_http(self, dialect: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        key = (dialect, method if method in _METHODS else "other", status)
        child = self._children.get(key)
        if child is None:
            child = self._requests.labels(key[0], key[1], str(status)), self._seconds.labels(dialect)
            self._children[key] = child
        child[0].inc()
        child[1].observe(seconds)

    async def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        self._backlog.set(await self._rt.db.read(indexing.count_queued))
        self._bytes.set(await self._rt.db.read(engine.count_bytes))
        return generate_latest(self.registry)


class _Smtp(Collector):
    """What the SMTP listeners count, by service."""

    def __init__(self, listeners: Mapping[str, Sequence[Counted]]) -> None:
        self._listeners = listeners

    def collect(self) -> Iterator[Metric]:
        for field in fields(Counters):
            found = [
                (service, getattr(one.counters, field.name))
                for service, all_ in self._listeners.items()
                for one in all_
            ]
            yield _family(f"restante_smtp_{field.name}", found)


def _family(name: str, found: list[tuple[str, int | dict[str, int]]]) -> Metric:
    """Numbers by service; a table of numbers by reply code gets the code as a label too."""
    about = name.removeprefix("restante_").replace("_", " ").capitalize() + "."
    if name.endswith("_open"):
        gauge = GaugeMetricFamily(name, about, labels=["service"])
        for service, value in found:
            if isinstance(value, int):
                gauge.add_metric([service], value)
        return gauge
    is_table = any(isinstance(value, dict) for _, value in found)
    counter = CounterMetricFamily(name, about, labels=["service", "code"] if is_table else ["service"])
    for service, value in found:
        if isinstance(value, dict):
            for code, number in value.items():
                counter.add_metric([service, code], number)
        else:
            counter.add_metric([service], value)
    return counter


class _Storage(Collector):
    """The room on the disk, and SQLite's write-ahead log (PostgreSQL's is not ours to look at)."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    def collect(self) -> Iterator[Metric]:
        config = self._rt.config
        if not config.storage.database_url:
            main = sqlite.main_path(config.data_dir)
            wal = _size(main.with_name(main.name + "-wal"))
            yield GaugeMetricFamily("restante_wal_bytes", "Size of the write-ahead log.", wal)
        yield GaugeMetricFamily("restante_disk_free_bytes", "Room on the disk.", self._rt.room.free_bytes())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
