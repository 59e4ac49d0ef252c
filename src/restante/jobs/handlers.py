"""What the worker can do: one literal table. A handler may run twice for the same job."""

import asyncio
import functools
from collections.abc import Mapping
from datetime import timedelta

from restante.core import contents
from restante.core.jobs import Job
from restante.jobs.worker import Handler
from restante.runtime import Runtime
from restante.services import domains, notices, removal

SWEEP_ROWS = 200
RECLAIM_PAGES = 2000


async def sweep_contents(rt: Runtime, _job: Job) -> None:
    """Delete bytes that no message has used since the grace time: rows first, then blobs that no row names."""
    before = rt.clock.now() - timedelta(seconds=rt.config.storage.content_grace_seconds)
    while unused := await rt.db.read(contents.list_unused, before, SWEEP_ROWS):
        for account_id in {one.account_id for one in unused}:
            mine = [one.id for one in unused if one.account_id == account_id]
            keys = await rt.db.write(contents.remove_unused, account_id, mine)
            for key in keys:
                delete = functools.partial(rt.blobs.delete, key, unless_put_since=before)
                await asyncio.get_running_loop().run_in_executor(rt.pool, delete)
    await rt.db.reclaim(RECLAIM_PAGES)


HANDLERS: Mapping[str, Handler] = {
    "sweep-contents": sweep_contents,
    "check-domains": domains.check_proofs,
    "expire-domains": removal.expire_unapproved,
    "purge-removed": removal.purge,
    notices.KIND: notices.store,
}
PERIODIC: Mapping[str, timedelta] = {
    "sweep-contents": timedelta(minutes=5),
    "check-domains": timedelta(minutes=10),
    "expire-domains": timedelta(hours=1),
    "purge-removed": timedelta(minutes=1),
}
