"""Retention: the standing job that empties Trash, one short transaction a step."""

from datetime import timedelta

from restante.core import accounts, trash
from restante.core.jobs import Job
from restante.ids import AccountId, FolderId
from restante.runtime import Runtime

BATCH = 200  # messages of one transaction: some 20 ms of the writer
FOLDERS_AT_ONCE = 1000


async def purge_trash(rt: Runtime, _job: Job) -> None:
    """Delete for good what has been in Trash for ``retention.trash_days`` (a periodic job).

    A second run beside it does no harm; one that was broken off is gone on with by the next.
    """
    for account in await rt.db.read(accounts.list_accounts):
        if account.status == "active" and rt.config.retention.trash_days:
            await _purge_account(rt, account.id)


async def _purge_account(rt: Runtime, account_id: AccountId) -> None:
    before = rt.clock.now() - timedelta(days=rt.config.retention.trash_days)
    after: FolderId | None = FolderId(0)
    while after is not None:
        waiting, after = await rt.db.read(trash.list_waiting, account_id, before, after, FOLDERS_AT_ONCE)
        for one in waiting:
            await rt.db.write(trash.note, account_id, one.folder_id, rt.clock.now())
            while await rt.db.write(trash.purge, account_id, one, before, BATCH, rt.clock.now()):
                pass
