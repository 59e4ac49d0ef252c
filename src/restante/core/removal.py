"""Removal: what is left of accounts and mailboxes after they were taken out of service, deleted bit by bit.

``mailboxes.remove``, ``domains.remove`` and ``remove_account`` free names and refuse logins and mail in one short
transaction, however much mail there is. The rows behind them stay, marked ``removed``, which is all that the standing
job needs to know: it calls ``purge_mailbox`` and ``purge_account`` as long as they find something to delete.
"""

from datetime import datetime

from sqlalchemy import delete, func, literal, select, update

from restante.core import (
    accounts,
    arrivals,
    automation_runs,
    automations,
    domains,
    events,
    messages,
    retention,
    statistics,
    submission,
    webhook_calls,
    webhooks,
)
from restante.core.retention import days
from restante.ids import AccountId, DomainId, MailboxId, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn

_A, _B, _F, _M = tables.accounts.c, tables.mailboxes.c, tables.folders.c, tables.messages.c
_REMOVED = literal("removed", literal_execute=True)  # in the statement's text, as the partial indexes want it


def remove_account(conn: WriteConn, account_id: AccountId, now: datetime) -> None:
    """Take an account out of service with its domains, mailboxes and tokens; its name is free from this commit on.

    NotFound ``account_not_found``.
    """
    account = accounts.get(conn, account_id)
    for domain in domains.list_domains(conn, account_id):
        domains.remove(conn, account_id, domain.id, now, force=True)
    conn.execute(delete(tables.tokens).where(tables.tokens.c.account_id == account_id))
    for webhook in webhooks.list_webhooks(conn, account_id):
        webhooks.remove(conn, account_id, webhook.public_id, now)
    for automation in automations.list_automations(conn, account_id):
        automations.remove(conn, account_id, automation.public_id, now)
    events.record(conn, account_id, "account.removed", {"name": account.name}, now=now)
    conn.execute(update(tables.accounts).where(_A.id == account_id).values(status="removed", name=None))


def expire_domain(conn: WriteConn, account_id: AccountId, domain_id: DomainId, now: datetime) -> bool:
    """Remove a domain that nobody approved, with its mailboxes; False when somebody did after all.

    The account that its signup made goes with it, unless it has got another domain since. NotFound
    ``domain_not_found``.
    """
    domain = domains.get(conn, account_id, domain_id)
    if domain.is_approved:
        return False
    is_alone = len(domains.list_domains(conn, account_id)) == 1
    if domain.created_by is not None and is_alone:
        remove_account(conn, account_id, now)
    else:
        domains.remove(conn, account_id, domain_id, now, force=True)
    return True


def list_mailboxes(conn: ReadConn, limit: int) -> list[tuple[AccountId, MailboxId]]:
    """Removed mailboxes of all accounts whose rows are still there (for the standing job)."""
    statement = select(_B.account_id, _B.id).where(_B.status == _REMOVED).order_by(_B.id).limit(limit)
    return [(AccountId(row.account_id), MailboxId(row.id)) for row in conn.execute(statement)]


def list_accounts(conn: ReadConn, limit: int) -> list[AccountId]:
    """Removed accounts whose rows are still there (for the standing job)."""
    statement = select(_A.id).where(_A.status == _REMOVED).order_by(_A.id).limit(limit)
    return [AccountId(row.id) for row in conn.execute(statement)]


def purge_mailbox(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, limit: int, now: datetime) -> bool:
    """Delete about ``limit`` rows of a removed mailbox; False when nothing of it was left.

    Messages first, then the UIDs that left its folders, then folders and mailbox. A mailbox in service is not touched.
    """
    mine = _B.account_id == account_id, _B.id == mailbox_id, _B.status == "removed"
    if conn.execute(select(_B.id).where(*mine)).first() is None:
        return False
    in_it = _F.account_id == account_id, _F.mailbox_id == mailbox_id
    folder_ids = list(conn.execute(select(_F.id).where(*in_it)).scalars())
    held = select(_M.id).where(_M.account_id == account_id, _M.folder_id.in_(folder_ids)).limit(limit)
    gone = [MessageId(found) for found in conn.execute(held).scalars()]
    if gone:
        messages.remove(conn, account_id, mailbox_id, gone, now=now, is_told=False)
        return True
    if days.forget(conn, account_id, mailbox_id, folder_ids, limit):
        return True
    if any(_forget_expunged(conn, account_id, folder_id, limit) for folder_id in folder_ids):
        return True
    conn.execute(delete(tables.folders).where(*in_it))
    conn.execute(delete(tables.mailboxes).where(*mine))
    return True


def purge_account(conn: WriteConn, account_id: AccountId, limit: int, now: datetime) -> bool:
    """Delete about ``limit`` rows of a removed account; False when nothing was left, or nothing may go yet.

    Its submissions go first, as nobody may send for it any more. Then it waits for its mailboxes and for the sweep of
    its bytes: their grace time holds here too. The log of its events goes just before itself. An account in service is
    not touched.
    """
    mine = _A.id == account_id, _A.status == "removed"
    if conn.execute(select(_A.id).where(*mine)).first() is None:
        return False
    if submission.remove_some(conn, account_id, limit, now):
        return True
    for table in (tables.mailboxes, tables.contents):
        if conn.execute(select(table.c.id).where(table.c.account_id == account_id).limit(1)).first() is not None:
            return False
    for table in (tables.idempotency_keys, *retention.TABLES):
        conn.execute(delete(table).where(table.c.account_id == account_id))
    if arrivals.purge(conn, account_id, limit) or statistics.purge(conn, account_id, limit):
        return True
    if any(runs.purge(conn, account_id, limit, now) for runs in (webhook_calls, automation_runs)):
        return True
    e = tables.events.c
    first = conn.execute(select(func.min(e.number)).where(e.account_id == account_id)).scalar_one()
    if first is not None:
        conn.execute(delete(tables.events).where(e.account_id == account_id, e.number < first + limit))
        return True
    conn.execute(delete(tables.accounts).where(*mine))
    return True


def _forget_expunged(conn: WriteConn, account_id: AccountId, folder_id: int, limit: int) -> bool:
    """Delete the oldest expunged UIDs of a folder, about ``limit``; False when there were none."""
    x = tables.expunged.c
    mine = x.account_id == account_id, x.folder_id == folder_id
    oldest = select(x.modseq).where(*mine).order_by(x.modseq, x.uid).limit(limit)
    modseqs = list(conn.execute(oldest).scalars())
    if not modseqs:
        return False
    conn.execute(delete(tables.expunged).where(*mine, x.modseq <= modseqs[-1]))
    return True
