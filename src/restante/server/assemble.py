"""Assembly: a runtime from settings, and the server with all its parts around one.

The one place that picks engines. Start-up opens the ports first (their errors are the most common), starts the writer
while the rest is imported, and says it is ready only when everything answers.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from restante import log, vault
from restante.clock import SystemClock
from restante.config import Config, parse_server
from restante.core import automations, domains, webhooks
from restante.errors import Conflict, Unavailable
from restante.net.connections import Connections
from restante.net.dns import SystemResolver
from restante.pressure import ProcessPressure
from restante.runtime import Runtime
from restante.server import descriptors, listeners
from restante.services import provisioning, storing
from restante.services.provisioning import FirstRun
from restante.storage import engine, writer
from restante.storage.blobs.base import BlobStore
from restante.storage.blobs.files import FileBlobs
from restante.storage.database import Database
from restante.storage.engine import Place
from restante.storage.notes import Notes
from restante.storage.room import Room
from restante.storage.signals import Signals
from restante.storage.writer import LOCK_SECONDS, InProcessDatabase, ProcessDatabase
from restante.vault import Vault

POOL_THREADS = 4

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server that is ready has to tell. ``first_run`` is set when this start made the data directory."""

    config: Config
    http: tuple[str, ...]  # URLs
    smtp: tuple[str, ...]  # host:port
    submission: tuple[str, ...]
    first_run: FirstRun | None


def make_data_dir(data_dir: Path) -> None:
    """Create the data directory, for its owner alone. Raises Unavailable with one line for people."""
    try:
        if not data_dir.exists():
            data_dir.mkdir(mode=0o700, parents=True)
            _fsync_folder(data_dir.parent)
        (data_dir / "spool").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make the data directory {data_dir}: {error.strerror}") from error


def _has_secret(config: Config) -> bool:
    return bool(config.secret_key) or (config.data_dir / vault.FILE).exists()


async def _open_vault(config: Config, db: Database, *, gives_up_keys: bool = False) -> Vault:
    """The instance secret, made where nothing is sealed yet. Raises Conflict when what is sealed cannot be read."""
    keys = 0
    if not _has_secret(config):
        for count in (domains.count_keys, webhooks.count_sealed, automations.count_sealed):
            keys += await db.read(count)
    if keys:
        if not gives_up_keys:
            raise Conflict(
                f"{config.data_dir / vault.FILE} is missing, and {keys} signing keys are sealed with it: put it back "
                f"(or set {vault.VARIABLE}), or give these keys up with `restante secret reset`",
                code="secret_key_lost",
            )
        await db.write(domains.forget_keys)
        await db.write(webhooks.forget_secrets)
        await db.write(automations.forget_secrets)
    elif gives_up_keys:
        raise Conflict("The instance secret is there; `restante secret rotate` changes it.", code="secret_key_there")
    return Vault.load(config.data_dir, config.secret_key)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_blobs(config: Config) -> BlobStore:
    """The blob store that the settings name. Nothing is asked of it yet."""
    match config.storage.blobs:
        case "s3":
            from restante.storage.blobs.s3 import S3Blobs  # its library is loaded only where it is used

            return S3Blobs(config.storage.s3, SystemClock(), config.data_dir / "spool")
        case _:
            return FileBlobs(config.data_dir / "blobs")


def _warn_of_blobs(blobs: BlobStore) -> None:
    """Log what keeps the blob store from working. The server runs all the same: smaller messages need no blob."""
    try:
        blobs.check()
    except Unavailable as error:
        _log.warning("the blob store cannot be used; larger messages wait", why=error.message)


def make_runtime(
    config: Config, db: Database, signals: Signals, pool: ThreadPoolExecutor, secrets: Vault, front: int
) -> Runtime:
    """The runtime of one process around its database; ``front`` is the id of the one that takes mail and answers."""
    return Runtime(
        config=config,
        db=db,
        blobs=open_blobs(config),
        clock=SystemClock(),
        resolver=SystemResolver(tuple(parse_server(each) for each in config.dns.servers)),
        vault=secrets,
        signals=signals,
        pool=pool,
        room=Room(config.data_dir, config.storage.min_free_bytes),
        connections=Connections(config.transfer.max_connections, config.transfer.max_connections_per_domain),
        notes=Notes(config.data_dir / "notes"),
        pressure=ProcessPressure(front),
        intake=storing.new_intake(config.storage.inline_bytes),
    )


@contextlib.asynccontextmanager
async def open_database(
    config: Config, signals: Signals, *, lock_seconds: float = LOCK_SECONDS
) -> AsyncIterator[Database]:
    """The database for one command, with its writer in this process.

    Raises Conflict ``data_dir_in_use`` when another process uses the directory after ``lock_seconds`` still.
    What the command changed is in the search index when this returns.
    """
    make_data_dir(config.data_dir)
    place = Place(config.data_dir, config.storage.database_url)
    db = InProcessDatabase(place.data_dir, signals, place.url, lock_seconds=lock_seconds)
    try:
        engine.prepare_index(place)
        try:
            yield db
        finally:
            await asyncio.to_thread(engine.catch_up_index, place)
    finally:
        await db.close()


@contextlib.asynccontextmanager
async def open_runtime(
    config: Config, *, gives_up_keys: bool = False, lock_seconds: float = LOCK_SECONDS
) -> AsyncIterator[Runtime]:
    """A runtime for one command, around ``open_database``.

    ``gives_up_keys``: the instance secret is lost, and with it what it sealed; else that is a Conflict too.
    """
    signals = Signals()
    async with open_database(config, signals, lock_seconds=lock_seconds) as db:
        secrets = await _open_vault(config, db, gives_up_keys=gives_up_keys)
        with ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="work") as pool:
            yield make_runtime(config, db, signals, pool, secrets, os.getpid())


async def run_server(config: Config, on_ready: Callable[[Ready], None]) -> int:
    """Run the server until SIGTERM or SIGINT (returns 0) or until its writer dies (returns 1).

    ``on_ready`` is called once, when every port answers. Raises what keeps the server from starting.
    """
    stop = _stop_on_signals()
    make_data_dir(config.data_dir)
    descriptors.raise_limit(config)
    sockets = listeners.open_listeners(config)
    url, sender = config.storage.database_url, token_hex(4)
    spawned = writer.spawn(config.data_dir, url, sender)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listeners.close_listeners, sockets)
        from restante.server import parts  # imported while the writer opens its file: HTTP takes a while

        signals = Signals()
        db = await writer.connect(signals, spawned)
        stack.push_async_callback(db.close)
        secrets = await _open_vault(config, db)
        if url:
            await _listen(url, sender, signals, stack)
        engine.prepare_index(Place(config.data_dir, url))
        pool = stack.enter_context(ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="work"))
        rt = make_runtime(config, db, signals, pool, secrets, os.getpid())
        stack.callback(rt.notes.close)
        stack.push_async_callback(rt.connections.close)
        pool.submit(_warn_of_blobs, rt.blobs)
        first = await provisioning.first_run(rt)
        running = await stack.enter_async_context(parts.start(rt, db, sockets))
        writer.calm_collector()
        on_ready(Ready(config, running.http, running.smtp, running.submission, first))
        return await _until_stopped(db, stop)


async def _listen(url: str, sender: str, signals: Signals, stack: contextlib.AsyncExitStack) -> None:
    from restante.storage.postgres.signals import Listener  # the driver is loaded only where it is used

    listener = Listener(url, sender, signals)
    listener.start()
    stack.push_async_callback(listener.close)


def _stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, from now on: whoever reads that the server is ready may stop it at once."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until_stopped(db: ProcessDatabase, stop: asyncio.Event) -> int:
    died = asyncio.ensure_future(db.died())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((died, stopped), return_when=asyncio.FIRST_COMPLETED)
    if died.done() and not stop.is_set():
        _log.error("the writer ended; stopping")
        stopped.cancel()
        return 1
    _log.info("stopping")
    died.cancel()
    return 0
