"""What the worker can do: one literal table. A handler may run twice for the same job."""

import asyncio
import functools
import itertools
from collections.abc import Mapping
from datetime import timedelta

from restante.core import accounts, automation_runs, contents, webhook_calls
from restante.core.jobs import Job
from restante.core.submission import TRANSFER_KIND
from restante.core.transfer import REPORT_KIND
from restante.ids import AccountId
from restante.jobs.worker import Handler
from restante.runtime import Runtime
from restante.services import (
    arrivals,
    domains,
    notices,
    removal,
    reports,
    retention,
    statistics,
    submission,
    transfer,
)

SWEEP_ROWS = 200
RECLAIM_PAGES = 2000
ROW_FOLLOWS = timedelta(hours=1)  # a blob that no row names may still be on its way to one for so long


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


async def sweep_blobs(rt: Runtime, _job: Job) -> None:
    """Delete blobs that no row names: what a crash between the blob and its row left, and what was too young before."""
    loop = asyncio.get_running_loop()
    grace = timedelta(seconds=rt.config.storage.content_grace_seconds)
    before = rt.clock.now() - max(grace, ROW_FOLLOWS)
    listed = rt.blobs.list_all()
    while page := await loop.run_in_executor(rt.pool, lambda: list(itertools.islice(listed, SWEEP_ROWS))):
        by_account: dict[AccountId, list[str]] = {}
        for blob in page:
            if blob.stored_at < before:
                by_account.setdefault(AccountId(int(blob.key.partition("/")[0])), []).append(blob.key)
        for account_id, keys in by_account.items():
            for key in await rt.db.read(contents.list_unnamed, account_id, keys):
                delete = functools.partial(rt.blobs.delete, key, unless_put_since=before)
                await loop.run_in_executor(rt.pool, delete)


async def prune_events(rt: Runtime, _job: Job) -> None:
    """Delete events, and calls and runs that ended, beyond what the settings keep, in short transactions."""
    now = rt.clock.now()
    before = now - timedelta(days=rt.config.events.keep_days)
    keep = rt.config.events.keep_per_account
    for account in await rt.db.read(accounts.list_accounts):
        while await rt.db.write(webhook_calls.prune_log, account.id, before, keep, SWEEP_ROWS):
            pass
        while await rt.db.write(webhook_calls.prune, account.id, before, SWEEP_ROWS):
            pass
        while await rt.db.write(automation_runs.prune, account.id, before, SWEEP_ROWS, now):
            pass


HANDLERS: Mapping[str, Handler] = {
    "sweep-contents": sweep_contents,
    "sweep-blobs": sweep_blobs,
    "check-domains": domains.check_proofs,
    "expire-domains": removal.expire_unapproved,
    "purge-removed": removal.purge,
    "purge-trash": retention.purge_trash,
    "retain": retention.run,
    "prune-events": prune_events,
    "count-arrivals": statistics.count_arrivals,
    "follow-arrivals": arrivals.follow,
    "sweep-submissions": submission.sweep,
    notices.KIND: notices.store,
    TRANSFER_KIND: transfer.run,
    REPORT_KIND: reports.tell_sender,
}
PERIODIC: Mapping[str, timedelta] = {
    "sweep-contents": timedelta(minutes=5),
    "sweep-blobs": timedelta(days=1),
    "check-domains": timedelta(minutes=10),
    "expire-domains": timedelta(hours=1),
    "purge-removed": timedelta(minutes=1),
    "purge-trash": timedelta(hours=1),
    "retain": timedelta(hours=1),
    "prune-events": timedelta(hours=1),
    "count-arrivals": timedelta(seconds=15),
    "follow-arrivals": timedelta(seconds=15),
    "sweep-submissions": timedelta(hours=1),
}
