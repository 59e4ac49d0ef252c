"""Operations on the whole instance."""

from collections.abc import AsyncGenerator
from typing import Any

from restante import __version__
from restante.errors import Conflict
from restante.runtime import Runtime
from restante.services import automations, backup, verification
from restante.services import domains as domain_service
from restante.services import webhooks as webhook_service

Json = dict[str, Any]


async def verify(rt: Runtime, repair: bool = False) -> AsyncGenerator[Json, None]:
    """Check everything that is stored, and rebuild what can be."""
    async for item in verification.verify(rt, repair):
        yield item


async def backup_begin(rt: Runtime) -> AsyncGenerator[Json, None]:
    """Make a consistent copy of the database inside the data directory; the command takes it from there."""
    async for item in backup.begin(rt):
        yield item


async def backup_end(rt: Runtime, name: str) -> Json:
    """Remove the copy."""
    backup.end(rt, name)
    return {"name": name, "removed": True}


async def secret_rotate(rt: Runtime) -> Json:
    """Make a new instance secret and seal everything with it; one from the environment was put there before."""
    try:
        key_id = rt.vault.rotate()
    except Conflict:
        if len(rt.vault.key_ids) < 2:
            raise
        return {"key_id": rt.vault.key_id, "resealed": await _reseal(rt)}
    resealed = await _reseal(rt)
    rt.vault.forget_older()
    return {"key_id": key_id, "resealed": resealed}


async def secret_reset(rt: Runtime) -> Json:
    """Make new signing keys in the place of those that went with the instance secret."""
    return {"key_id": rt.vault.key_id, "new_keys": await domain_service.replace_lost_keys(rt)}


async def _reseal(rt: Runtime) -> int:
    sealed = domain_service.reseal_keys, webhook_service.reseal_secrets, automations.reseal_secrets
    return sum([await reseal(rt) for reseal in sealed])


async def status(rt: Runtime) -> Json:
    """Whether somebody is there, and who."""
    return {"version": __version__, "hostname": rt.config.hostname, "data_dir": str(rt.config.data_dir)}
