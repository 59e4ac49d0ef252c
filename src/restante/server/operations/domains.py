"""Operations on domains."""

from datetime import datetime
from typing import Any

from restante.core import accounts, domains, mailboxes
from restante.core.domains import Domain
from restante.errors import NotFound
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming
from restante.services import domains as domain_service

Json = dict[str, Any]


def _domain_json(conn: ReadConn, domain: Domain) -> Json:
    catch_all = domain.catch_all_mailbox_id
    return {
        "name": domain.name,
        "account": accounts.get(conn, domain.account_id).name,
        "approved": domain.is_approved,
        "approved_at": naming.moment(domain.approved_at),
        "dns_status": domain.dns_status,
        "dns_checked_at": naming.moment(domain.dns_checked_at),
        "dns_missing_since": naming.moment(domain.dns_missing_since),
        "dns_record": _proof(domain),
        "local": domain.is_local,
        "catch_all": None if catch_all is None else mailboxes.get(conn, domain.account_id, catch_all).address,
        "created_by": domain.created_by,
        "created_at": naming.moment(domain.created_at),
    }


def _proof(domain: Domain) -> str:
    return f"{domain_service.PROOF_LABEL}.{domain.name}. TXT {domain_service.PROOF_PREFIX}{domain.dns_token}"


def _read_domain(conn: ReadConn, name: str) -> Json:
    return _domain_json(conn, naming.domain(conn, name))


def _list_domains(conn: ReadConn, account: str | None) -> list[Json]:
    every = domains.list_all(conn)
    if account is not None:
        every = domains.list_domains(conn, naming.account(conn, account).id)
    return [_domain_json(conn, one) for one in every]


def _add_domain(
    conn: WriteConn, name: str, account: str | None, force: bool, catch_all: str | None, now: datetime
) -> Json:
    owner = naming.ensured_account(conn, account, now)
    made = domains.add(conn, owner.id, name, now, dns_status="forced" if force else "pending")
    if catch_all is not None:
        mailbox = mailboxes.find(conn, owner.id, catch_all)
        if mailbox is None:
            raise NotFound(f"there is no mailbox {catch_all} in the account {owner.name}", code="mailbox_not_found")
        made = domains.set_catch_all(conn, owner.id, made.id, mailbox.id, now)
    return _domain_json(conn, made)


async def domain_add(
    rt: Runtime, name: str, account: str | None = None, force: bool = False, catch_all: str | None = None
) -> Json:
    """Add an approved domain, forced or to be proved by DNS."""
    return await rt.db.write(_add_domain, name, account, force, catch_all, rt.clock.now())


async def domain_list(rt: Runtime, account: str | None = None) -> Json:
    """The domains of one account or of all."""
    return {"domains": await rt.db.read(_list_domains, account)}


async def domain_approve(rt: Runtime, name: str) -> Json:
    """Agree to a domain that came by a signup; makes its signing key."""
    approval = await domain_service.approve(rt, name)
    dkim = {
        "selector": approval.dkim.selector,
        "dns_name": approval.dkim.dns_name,
        "dns_value": approval.dkim.dns_value,
    }
    return await rt.db.read(_read_domain, name) | {"dkim": dkim}


async def domain_verify(rt: Runtime, name: str, force: bool = False) -> Json:
    """Look for the domain's proof in DNS now, or force it."""
    domain = await rt.db.read(naming.domain, name)
    if force:
        await rt.db.write(domains.set_dns_status, domain.account_id, domain.id, "forced", rt.clock.now())
    else:
        await domain_service.check_proof(rt, domain.account_id, domain.id)
    return await rt.db.read(_read_domain, name)


async def domain_remove(rt: Runtime, name: str, with_mail: bool = False) -> Json:
    """Remove a domain with its mailboxes and aliases."""
    domain = await rt.db.read(naming.domain, name)
    await rt.db.write(domains.remove, domain.account_id, domain.id, rt.clock.now(), with_mail)
    return {"name": domain.name, "removed": True}
