"""Operations on the rules of retention."""

from typing import Any

from restante.core.accounts import Account
from restante.core.retention import forecast, rules
from restante.core.retention.forecast import Outlook
from restante.core.retention.rules import Limits, Rule, Scope
from restante.errors import NotFound
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.server.operations import naming
from restante.services import retention as service
from restante.services.retention import Cleaned, Unknown

Json = dict[str, Any]


def _rule_json(rule: Rule) -> Json:
    return {
        "domain": rule.domain,
        "mailbox": rule.mailbox,
        "folder": rule.scope.role or None,
        "days": rule.limits.days,
        "messages": rule.limits.messages,
        "bytes": rule.limits.bytes,
        "updated_at": naming.moment(rule.updated_at),
    }


def _forecast_json(is_enabled: bool, found: Outlook | Unknown) -> Json:
    figures = None if isinstance(found, Unknown) else found
    return {
        "enabled": is_enabled,
        "unknown": found.reason if isinstance(found, Unknown) else None,
        "growth_bytes": None if figures is None else figures.growth_bytes,
        "free_bytes": None if figures is None else figures.free_bytes,
        "excess_bytes": None if figures is None else figures.excess_bytes,
    }


def _cleaned_json(account: Account, done: Cleaned) -> Json:
    return {
        "account": account.name,
        "mailbox": done.mailbox,
        "folder": done.role or None,
        "messages": done.messages,
        "bytes": done.bytes,
    }


def _place(
    conn: ReadConn, account: str | None, domain: str | None, mailbox: str | None, folder: str | None
) -> tuple[Account, Scope]:
    owner = naming.account(conn, account)
    domain_id = mailbox_id = None
    if domain is not None:
        found = naming.domain(conn, domain)
        if found.account_id != owner.id:
            raise NotFound(f"the account {owner.name} has no domain {domain}", code="domain_not_found")
        domain_id = found.id
    if mailbox is not None:
        own = naming.own_mailbox(conn, mailbox)
        if own.account_id != owner.id:
            raise NotFound(f"the account {owner.name} has no mailbox {mailbox}", code="mailbox_not_found")
        mailbox_id = own.id
    return owner, Scope(domain_id, mailbox_id, folder or rules.OTHERS)


def _list(conn: ReadConn, account: str | None) -> tuple[Account, bool, list[Json]]:
    owner = naming.account(conn, account)
    listed = [_rule_json(rule) for rule in rules.list_rules(conn, owner.id)]
    return owner, forecast.is_enabled(conn, owner.id), listed


async def retention_list(rt: Runtime, account: str | None = None) -> Json:
    """The rules of an account, how long Trash keeps mail, and what the next month will bring."""
    owner, is_forecast, listed = await rt.db.read(_list, account)
    return {
        "account": owner.name,
        "trash_days": rt.config.retention.trash_days,
        "rules": listed,
        "forecast": _forecast_json(is_forecast, await service.outlook(rt, owner.id)),
    }


async def retention_forecast(rt: Runtime, is_enabled: bool, account: str | None = None) -> Json:
    """Clean an account's mail, or do not, before the disk is full."""
    owner = await rt.db.read(naming.account, account)
    await rt.db.write(forecast.set_forecast, owner.id, is_enabled, rt.clock.now())
    return _forecast_json(is_enabled, await service.outlook(rt, owner.id))


async def retention_set(
    rt: Runtime,
    account: str | None = None,
    domain: str | None = None,
    mailbox: str | None = None,
    folder: str | None = None,
    days: int | None = None,
    messages: int | None = None,
    bytes: int | None = None,  # noqa: A002 - the name that answers give it too
) -> Json:
    """Give an account, a domain or a mailbox these limits, in the place of those it had."""
    owner, scope = await rt.db.read(_place, account, domain, mailbox, folder)
    limits = Limits(days, messages, bytes)
    return _rule_json(await rt.db.write(rules.set_rule, owner.id, scope, limits, rt.clock.now()))


async def retention_remove(
    rt: Runtime,
    account: str | None = None,
    domain: str | None = None,
    mailbox: str | None = None,
    folder: str | None = None,
) -> Json:
    """Take a rule away."""
    owner, scope = await rt.db.read(_place, account, domain, mailbox, folder)
    await rt.db.write(rules.remove_rule, owner.id, scope, rt.clock.now())
    return {"domain": domain, "mailbox": mailbox, "folder": folder, "removed": True}


async def retention_run(rt: Runtime, account: str | None = None, is_dry: bool = False) -> Json:
    """Apply the rules of an account now, or say what that would take to Trash."""
    owner = await rt.db.read(naming.account, account)
    done = await service.clean(rt, owner.id, is_dry=is_dry)
    return {"dry_run": is_dry, "cleaned": [_cleaned_json(owner, one) for one in done]}
