"""The parts of a running server around one runtime: indexer, worker, courier, SMTP, HTTP, control socket."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restante.jobs.handlers import HANDLERS, PERIODIC
from restante.jobs.worker import Worker
from restante.net import certificates
from restante.runtime import Runtime
from restante.server import asgi, control, descriptors, metrics
from restante.server.calling import CourierProcess
from restante.server.indexing import IndexerProcess
from restante.server.operations import OPERATIONS
from restante.services import retention
from restante.services.statistics import Refusals
from restante.smtp import server as smtp_server
from restante.smtp.port import Settings
from restante.storage import engine
from restante.storage.writer import ProcessDatabase

Listeners = dict[str, list[smtp_server.Listener]]


@dataclass(frozen=True, slots=True)
class Running:
    """Where the parts listen."""

    http: tuple[str, ...]  # URLs
    smtp: tuple[str, ...]  # host:port
    submission: tuple[str, ...]


@contextlib.asynccontextmanager
async def start(
    rt: Runtime, db: ProcessDatabase, sockets: Mapping[str, Sequence[socket.socket]]
) -> AsyncIterator[Running]:
    """Start everything; what listens is closed first when it ends, so that nothing arrives that cannot be kept."""
    async with contextlib.AsyncExitStack() as stack:
        place = engine.Place(rt.config.data_dir, rt.config.storage.database_url)
        index = IndexerProcess(engine.index_process(place), rt.db, rt.signals)
        await index.start()
        stack.push_async_callback(index.close)
        await retention.end_lost_runs(rt)
        worker = asyncio.create_task(Worker(rt, HANDLERS, PERIODIC).run())
        stack.push_async_callback(_cancel, worker)
        couriers = CourierProcess(rt)
        stack.push_async_callback(_cancel, asyncio.create_task(couriers.run()))
        stack.push_async_callback(_cancel, asyncio.create_task(descriptors.watch()))
        largest = rt.config.smtp.limits.max_message_bytes + control.ENVELOPE
        commands = control.ControlServer(rt, OPERATIONS, rt.config.data_dir, largest)
        await commands.start()
        stack.push_async_callback(commands.close)
        smtp_listeners: Listeners = {"smtp": [], "submission": []}
        refusals = Refusals(rt, lambda: [listener.take_refused() for listener in smtp_listeners["smtp"]])
        stack.push_async_callback(refusals.store)  # what the listeners counted until they were closed
        stack.push_async_callback(_cancel, asyncio.create_task(refusals.run()))
        await _start_smtp(rt, sockets, stack, smtp_listeners)
        figures = metrics.Metrics(rt, smtp_listeners, {"writer": db, "indexer": index, "courier": couriers})
        http = await asgi.serve(rt, sockets["http"], _http_tls(rt), figures)
        stack.push_async_callback(http.close)
        yield Running(
            tuple(f"{'https' if rt.config.http.tls_cert else 'http'}://{_name(one)}" for one in sockets["http"]),
            tuple(_name(one) for one in sockets["smtp"]),
            tuple(_name(one) for one in sockets["submission"]),
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _start_smtp(
    rt: Runtime, sockets: Mapping[str, Sequence[socket.socket]], stack: contextlib.AsyncExitStack, started: Listeners
) -> None:
    settings = Settings(
        hostname=rt.config.hostname,
        spool_directory=rt.config.data_dir / "spool",
        limits=rt.config.smtp.limits,
        room=rt.room,
    )
    tls = _smtp_tls(rt)
    modes: tuple[tuple[str, smtp_server.Mode], ...] = (("smtp", "reception"), ("submission", "submission"))
    for name, mode in modes:
        for sock in sockets[name]:
            listener = await smtp_server.serve(rt, settings, mode=mode, sock=sock, tls=tls)
            stack.push_async_callback(listener.close)
            started[name].append(listener)


def _smtp_tls(rt: Runtime) -> ssl.SSLContext:
    if rt.config.tls.cert:
        return certificates.server_context(Path(rt.config.tls.cert), Path(rt.config.tls.key))
    return certificates.server_context(*certificates.ensure(rt.config.data_dir, rt.config.hostname, rt.clock.now()))


def _http_tls(rt: Runtime) -> ssl.SSLContext | None:
    if not rt.config.http.tls_cert:
        return None
    return certificates.server_context(Path(rt.config.http.tls_cert), Path(rt.config.http.tls_key))


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
