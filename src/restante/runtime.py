"""The one object that is passed around: engines and seams, chosen once by ``server.assemble`` (or by a test)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.clock import Clock
from restante.config import Config
from restante.net.connections import Connections
from restante.net.dns import Resolver
from restante.pressure import Pressure
from restante.storage.blobs.base import BlobStore
from restante.storage.database import Database
from restante.storage.notes import Notes
from restante.storage.room import Room
from restante.storage.signals import Signals
from restante.vault import Vault

if TYPE_CHECKING:
    from restante.services.intake import Intake


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a service needs to do its work. ``pool`` runs blocking calls and long computations."""

    config: Config
    db: Database
    blobs: BlobStore
    clock: Clock
    resolver: Resolver
    vault: Vault
    signals: Signals
    pool: ThreadPoolExecutor
    room: Room
    connections: Connections
    notes: Notes
    pressure: Pressure
    intake: "Intake"
