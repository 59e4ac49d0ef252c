"""Domains: what is here, what waits for the operator (endpoints 14 and 15), what DNS has to say.

Admins see and change all. A user sees those over which they were granted ``manage_domains``: records, verification,
catch-all; adding, approving and deleting domains is the operator's.
"""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from restante.api.mail_api import auth, shapes
from restante.api.mail_api.auth import Caller
from restante.api.mail_api.shapes import Done
from restante.core import access, accounts, domains, mailboxes, permissions
from restante.core.access import Principal
from restante.core.domains import Domain
from restante.core.messages import Page
from restante.errors import NotFound
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.ids import AccountId, MailboxId
from restante.schema.connections import ReadConn
from restante.services import domains as service

CatchAll = Annotated[
    str,
    Meta(max_length=1000, description="A mailbox of the same account; null: none.", examples=["ann@example.test"]),
]
AccountName = Annotated[str, Meta(max_length=200, examples=["default"])]


class DomainQuery(Struct, frozen=True):
    """A page of domains."""

    limit: shapes.Limit = 50
    offset: shapes.Offset = 0


class DomainItem(Struct, frozen=True):
    """A domain. ``active``: the operator approved it. ``dns_status``: pending, verified, or forced by the operator."""

    domain: str
    active: bool
    dns_status: str
    created: datetime
    creator_email: str | None


class DomainList(Struct, frozen=True):
    """Domains by name."""

    success: bool
    total: int
    domains: list[DomainItem]


class DomainAnswer(Struct, frozen=True):
    """One domain; ``catch_all`` takes mail for addresses that nobody has."""

    success: bool
    domain: str
    active: bool
    dns_status: str
    dns_checked_at: datetime | None
    created: datetime
    creator_email: str | None
    catch_all: str | None


class NewDomain(Struct, frozen=True):
    """A domain to add. ``account`` is the name of a customer's account, by default the token's own."""

    domain: shapes.DomainName
    account: AccountName | None = None
    force: Annotated[bool, Meta(description="Take mail for it without a proof in DNS.")] = False


class DomainChanges(Struct, frozen=True):
    """What to change; what is left out stays."""

    catch_all: CatchAll | UnsetType | None = UNSET


class DnsItem(Struct, frozen=True):
    """A record to publish; ``purpose``: proof, reception, spf, dkim, dmarc."""

    purpose: str
    type: str
    name: str
    value: str


class DnsRecords(Struct, frozen=True):
    """The records that the domain needs."""

    success: bool
    domain: str
    records: list[DnsItem]


class CheckedItem(Struct, frozen=True):
    """A record as DNS shows it. ``status``: ok, different, missing, unanswered; ``found``: what stands there."""

    purpose: str
    type: str
    name: str
    value: str
    status: str
    found: tuple[str, ...]


class Verified(Struct, frozen=True):
    """What DNS says. ``verified``: every record is ok; ``dns_status`` verified: the proof of ownership was seen."""

    success: bool
    domain: str
    active: bool
    dns_status: str
    verified: bool
    records: list[CheckedItem]


async def list_domains(call: Call) -> Answer:
    """List domains by name: an admin all, others those that they manage."""
    caller = await auth.require(call)
    query = schemas.query(call, DomainQuery)
    page = await call.rt.db.read(read_page, caller.principal, query)
    return shapes.answer(DomainList(True, page.total, [_item(one) for one in page.items]))


async def create_domain(call: Call) -> Answer:
    """Add an approved domain with its DKIM key. Admin only. Mail for it is taken once DNS proves it."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewDomain)
    domains.normalise_name(wanted.domain)
    access.require_operator(caller.principal)
    account_id = await call.rt.db.read(read_account, caller.principal, wanted.account)
    made = await service.add(call.rt, account_id, wanted.domain, wanted.force)
    return shapes.answer(_shown(made, None), status=201)


async def get_domain(call: Call) -> Answer:
    """Show a domain."""
    caller = await auth.require(call)
    domain, catch_all = await _domain(call, caller)
    return shapes.answer(_shown(domain, catch_all))


async def update_domain(call: Call) -> Answer:
    """Set or end a domain's catch-all."""
    caller = await auth.require(call)
    changes = await schemas.body(call, DomainChanges)
    domain, catch_all = await _domain(call, caller)
    if changes.catch_all is not UNSET:
        wanted = changes.catch_all
        target = None if wanted is None else await call.rt.db.read(read_catch_all, domain, wanted)
        await call.rt.db.write(domains.set_catch_all, domain.account_id, domain.id, target, call.rt.clock.now())
        domain, catch_all = await _domain(call, caller)
    return shapes.answer(_shown(domain, catch_all))


async def delete_domain(call: Call) -> Answer:
    """Delete a domain with its users, aliases and grants; with their mail only when `with_mail=true`. Admin only."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.RemoveQuery)
    access.require_operator(caller.principal)
    domain, _ = await _domain(call, caller)
    await call.rt.db.write(domains.remove, domain.account_id, domain.id, call.rt.clock.now(), query.with_mail)
    return shapes.answer(Done(True, f"Domain {domain.name} has been deleted"))


async def list_records(call: Call) -> Answer:
    """List the DNS records to publish: proof of ownership, MX, SPF, DKIM, DMARC."""
    caller = await auth.require(call)
    domain, _ = await _domain(call, caller)
    found = await service.list_records(call.rt, domain.account_id, domain.id)
    items = [DnsItem(one.purpose, one.type, one.name, one.value) for one in found]
    return shapes.answer(DnsRecords(True, domain.name, items))


async def verify(call: Call) -> Answer:
    """Look the records up in DNS now, and note whether the proof of ownership is there."""
    caller = await auth.require(call)
    domain, _ = await _domain(call, caller)
    place = domain.account_id, domain.id
    checks = await service.check_records(call.rt, *place)
    if all(check.status != "unanswered" for check in checks if check.record.purpose == "proof"):
        domain = await service.check_proof(call.rt, *place)
    items = [
        CheckedItem(one.record.purpose, one.record.type, one.record.name, one.record.value, one.status, one.found)
        for one in checks
    ]
    is_verified = all(check.status == "ok" for check in checks)
    shown = Verified(True, domain.name, domain.is_approved, domain.dns_status, is_verified, items)
    return shapes.answer(shown)


async def list_pending(call: Call) -> Answer:
    """List the domains that wait for approval, oldest first. Admin only."""
    caller = await auth.require(call)
    access.require_operator(caller.principal)
    found = await call.rt.db.read(domains.list_pending)
    items = [shapes.PendingDomain(d.name, False, shapes.moment(d.created_at), d.created_by) for d in found]
    return shapes.answer(shapes.PendingDomains(True, len(items), items))


async def approve(call: Call) -> Answer:
    """Approve a domain: make its DKIM key and activate it. Admin only; what DNS says does not matter."""
    caller = await auth.require(call)
    access.require_operator(caller.principal)
    approved = await service.approve(call.rt, call.params["domain"])
    message = f"Domain {approved.domain.name} has been approved and activated"
    dkim = shapes.DkimRecord(approved.dkim.selector, approved.dkim.dns_name, approved.dkim.dns_value)
    return shapes.answer(shapes.Approved(True, message, approved.domain.name, True, dkim))


def read_page(conn: ReadConn, principal: Principal, query: DomainQuery) -> Page[Domain]:
    """The domains that the principal manages. Forbidden when there are none."""
    wanted = access.list_domain_ids(conn, principal, permissions.MANAGE_DOMAINS)
    return domains.list_page(conn, wanted, limit=query.limit, offset=query.offset)


def read_domain(conn: ReadConn, principal: Principal, name: str) -> tuple[Domain, str | None]:
    """A domain that the principal manages, with the address of its catch-all. Errors: Forbidden, NotFound."""
    domain = access.require_domain(conn, principal, name, permissions.MANAGE_DOMAINS)
    if domain.catch_all_mailbox_id is None:
        return domain, None
    return domain, mailboxes.get(conn, domain.account_id, domain.catch_all_mailbox_id).address


def read_account(conn: ReadConn, principal: Principal, name: str | None) -> AccountId:
    """The account of that name, or the principal's own. NotFound ``account_not_found``."""
    found = accounts.get(conn, principal.account_id) if name is None else accounts.find(conn, name)
    if found is None:
        raise NotFound("There is no such account.", code="account_not_found")
    return found.id


def read_catch_all(conn: ReadConn, domain: Domain, address: str) -> MailboxId:
    """A mailbox of the domain's account. NotFound ``user_not_found``, also for another account's."""
    found = mailboxes.find(conn, domain.account_id, address)
    if found is None:
        raise NotFound("There is no such user.", code="user_not_found")
    return found.id


async def _domain(call: Call, caller: Caller) -> tuple[Domain, str | None]:
    return await call.rt.db.read(read_domain, caller.principal, call.params["domain"])


def _item(domain: Domain) -> DomainItem:
    created = shapes.moment(domain.created_at)
    return DomainItem(domain.name, domain.is_approved, domain.dns_status, created, domain.created_by)


def _shown(domain: Domain, catch_all: str | None) -> DomainAnswer:
    return DomainAnswer(
        success=True,
        domain=domain.name,
        active=domain.is_approved,
        dns_status=domain.dns_status,
        dns_checked_at=None if domain.dns_checked_at is None else shapes.moment(domain.dns_checked_at),
        created=shapes.moment(domain.created_at),
        creator_email=domain.created_by,
        catch_all=catch_all,
    )
