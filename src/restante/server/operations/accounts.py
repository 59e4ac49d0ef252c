"""Operations on accounts."""

from typing import Any

from restante.core import accounts
from restante.core.accounts import Account
from restante.runtime import Runtime
from restante.server.operations import naming

Json = dict[str, Any]


def _account_json(account: Account) -> Json:
    return {
        "id": account.id,
        "public_id": str(account.public_id),
        "name": account.name,
        "status": account.status,
        "quota_bytes": account.quota_bytes,
        "used_bytes": account.used_bytes,
        "created_at": naming.moment(account.created_at),
    }


async def account_add(rt: Runtime, name: str, quota_bytes: int | None = None) -> Json:
    """Make an account."""
    return _account_json(await rt.db.write(accounts.create, name, rt.clock.now(), quota_bytes))


async def account_list(rt: Runtime) -> Json:
    """Every account."""
    return {"accounts": [_account_json(one) for one in await rt.db.read(accounts.list_accounts)]}


async def account_suspend(rt: Runtime, name: str) -> Json:
    """Stop an account's logins, tokens and delivery."""
    account = await rt.db.read(naming.account, name)
    return _account_json(await rt.db.write(accounts.suspend, account.id, rt.clock.now()))


async def account_resume(rt: Runtime, name: str) -> Json:
    """End a suspension."""
    account = await rt.db.read(naming.account, name)
    return _account_json(await rt.db.write(accounts.resume, account.id, rt.clock.now()))


async def account_quota(rt: Runtime, name: str, quota_bytes: int | None) -> Json:
    """Limit an account's bytes; None for no limit."""
    account = await rt.db.read(naming.account, name)
    return _account_json(await rt.db.write(accounts.set_quota, account.id, quota_bytes, rt.clock.now()))
