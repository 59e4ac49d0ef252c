"""Operations on mailboxes and aliases."""

import dataclasses
from datetime import datetime
from typing import Any

from restante import ids
from restante.core import accounts, domains, mailboxes
from restante.core.mailboxes import Mailbox, Role
from restante.errors import Conflict, NotFound
from restante.mail import address as addresses
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming
from restante.services import authentication, sessions

Json = dict[str, Any]


def _mailbox_json(conn: ReadConn, mailbox: Mailbox) -> Json:
    return {
        "id": str(mailbox.public_id),
        "address": mailbox.address,
        "account": accounts.get(conn, mailbox.account_id).name,
        "name": mailbox.name,
        "role": mailbox.role,
        "status": mailbox.status,
        "has_password": mailbox.has_password,
        "quota_bytes": mailbox.quota_bytes,
        "used_bytes": mailbox.used_bytes,
        "messages": mailbox.messages,
        "created_at": naming.moment(mailbox.created_at),
    }


def _read_mailbox(conn: ReadConn, address: str) -> Json:
    return _mailbox_json(conn, naming.own_mailbox(conn, address))


def _list_mailboxes(conn: ReadConn, account: str | None, domain: str | None) -> list[Json]:
    if domain is not None:
        place = naming.domain(conn, domain)
        found = mailboxes.list_mailboxes(conn, place.account_id, place.id)
    elif account is not None:
        found = mailboxes.list_mailboxes(conn, naming.account(conn, account).id)
    else:
        found = mailboxes.list_all(conn)
    return [_mailbox_json(conn, one) for one in found]


@dataclasses.dataclass(frozen=True, slots=True)
class _NewMailbox:
    address: str
    password_hash: str
    name: str
    admin: bool
    quota_bytes: int | None
    account: str | None


def _add_mailbox(conn: WriteConn, new: _NewMailbox, now: datetime) -> Json:
    wanted = addresses.normalise(new.address)
    name = addresses.split(wanted)[1]
    domain = domains.find_by_name(conn, name)
    if domain is None:
        owner = naming.ensured_account(conn, new.account, now)
        domain = domains.add(conn, owner.id, name, now, dns_status="forced")
    elif new.account is not None and naming.account(conn, new.account).id != domain.account_id:
        raise Conflict(f"the domain {domain.name} belongs to another account", code="domain_exists")
    made = mailboxes.create(
        conn,
        domain.account_id,
        wanted,
        now,
        name=new.name,
        role="admin" if new.admin else "user",
        password_hash=new.password_hash,
        quota_bytes=new.quota_bytes,
    )
    return _mailbox_json(conn, made)


async def mailbox_add(
    rt: Runtime,
    address: str,
    password: str | None = None,
    name: str = "",
    admin: bool = False,
    quota_bytes: int | None = None,
    account: str | None = None,
) -> Json:
    """Make a mailbox with the account and the forced domain that it needs; shows the password that it made."""
    plain = ids.new_password() if password is None else password
    password_hash = await authentication.hash_password(rt, plain)
    new = _NewMailbox(address, password_hash, name, admin, quota_bytes, account)
    made = await rt.db.write(_add_mailbox, new, rt.clock.now())
    return made | {"password": plain if password is None else None}


async def mailbox_list(rt: Runtime, account: str | None = None, domain: str | None = None) -> Json:
    """The mailboxes of a domain, of an account, or all."""
    return {"mailboxes": await rt.db.read(_list_mailboxes, account, domain)}


async def mailbox_password(rt: Runtime, address: str, password: str | None = None) -> Json:
    """Set a mailbox's password; shows the one that it made."""
    mailbox = await rt.db.read(naming.own_mailbox, address)
    plain = ids.new_password() if password is None else password
    await sessions.set_password(rt, mailbox, plain)
    return await rt.db.read(_read_mailbox, mailbox.address) | {"password": plain if password is None else None}


async def mailbox_quota(rt: Runtime, address: str, quota_bytes: int | None) -> Json:
    """Limit a mailbox's bytes; None for no limit."""
    mailbox = await rt.db.read(naming.own_mailbox, address)
    await rt.db.write(mailboxes.set_quota, mailbox.account_id, mailbox.id, quota_bytes, rt.clock.now())
    return await rt.db.read(_read_mailbox, mailbox.address)


async def mailbox_role(rt: Runtime, address: str, role: Role) -> Json:
    """Say what a mailbox's user is besides: nothing, a member of the account's team, or an operator."""
    mailbox = await rt.db.read(naming.own_mailbox, address)
    await rt.db.write(mailboxes.set_role, mailbox.account_id, mailbox.id, role, rt.clock.now())
    return await rt.db.read(_read_mailbox, mailbox.address)


async def mailbox_remove(rt: Runtime, address: str, with_mail: bool = False) -> Json:
    """Remove a mailbox."""
    mailbox = await rt.db.read(naming.own_mailbox, address)
    await rt.db.write(mailboxes.remove, mailbox.account_id, mailbox.id, rt.clock.now(), with_mail)
    return {"address": mailbox.address, "removed": True}


def _alias_json(alias: mailboxes.Alias) -> Json:
    return {
        "address": alias.address,
        "mailbox": alias.mailbox_address,
        "may_send": alias.may_send,
        "created_at": naming.moment(alias.created_at),
    }


def _list_aliases(conn: ReadConn, mailbox: str | None) -> list[Json]:
    if mailbox is not None:
        one = naming.mailbox(conn, mailbox)
        return [_alias_json(alias) for alias in mailboxes.list_aliases(conn, one.account_id, one.id)]
    every = accounts.list_accounts(conn)
    return [_alias_json(alias) for account in every for alias in mailboxes.list_aliases(conn, account.id)]


def _owner_of_alias(conn: ReadConn, address: str) -> Mailbox:
    found = mailboxes.targets(conn, address)
    if not found:
        raise NotFound(f"there is no alias {address}", code="alias_not_found")
    return found[0]


async def alias_add(rt: Runtime, address: str, mailbox: str, may_send: bool = True) -> Json:
    """Let an address lead to a mailbox too."""
    target = await rt.db.read(naming.own_mailbox, mailbox)
    place = target.account_id, address, target.id
    return _alias_json(await rt.db.write(mailboxes.add_alias, *place, rt.clock.now(), may_send))


async def alias_list(rt: Runtime, mailbox: str | None = None) -> Json:
    """The aliases of one mailbox or of all."""
    return {"aliases": await rt.db.read(_list_aliases, mailbox)}


async def alias_remove(rt: Runtime, address: str, mailbox: str | None = None) -> Json:
    """Take an alias away, from one mailbox or from all."""
    owner = await rt.db.read(_owner_of_alias, address)
    target = None if mailbox is None else (await rt.db.read(naming.own_mailbox, mailbox)).id
    await rt.db.write(mailboxes.remove_alias, owner.account_id, address, rt.clock.now(), target)
    return {"address": addresses.normalise(address), "removed": True}
