"""Removal: the standing jobs that drop what nobody approved and delete what was removed."""

from datetime import timedelta

from restante import log
from restante.core import domains, removal
from restante.core.jobs import Job
from restante.errors import NotFound
from restante.runtime import Runtime

BATCH = 100  # rows of one transaction: some 20 ms of the writer
BATCHES_A_RUN = 1000  # then the job ends and comes back: a run stays well inside its lease
LISTED_AT_ONCE = 100

_log = log.logger(__name__)


async def expire_unapproved(rt: Runtime, _job: Job) -> None:
    """Drop up to 100 domains that nobody approved in time, with what their signups made (a periodic job)."""
    lifetime = timedelta(days=rt.config.mail_api.pending_domain_days)
    now = rt.clock.now()
    for domain in await rt.db.read(domains.list_expired, now, lifetime, LISTED_AT_ONCE):
        try:
            is_dropped = await rt.db.write(removal.expire_domain, domain.account_id, domain.id, now)
        except NotFound:
            continue  # removed meanwhile
        if is_dropped:
            _log.info("domain expired unapproved", domain=domain.name)


async def purge(rt: Runtime, _job: Job) -> None:
    """Delete messages and rows of removed mailboxes and accounts, one short transaction a batch (a periodic job).

    At most 100,000 rows a run; the next run goes on. A second run beside it does no harm.
    """
    left = BATCHES_A_RUN
    while left and (found := await rt.db.read(removal.list_mailboxes, LISTED_AT_ONCE)):
        for place in found:
            while left and await rt.db.write(removal.purge_mailbox, *place, BATCH, rt.clock.now()):
                left -= 1
    for account_id in await rt.db.read(removal.list_accounts, LISTED_AT_ONCE):
        while left and await rt.db.write(removal.purge_account, account_id, BATCH, rt.clock.now()):
            left -= 1
