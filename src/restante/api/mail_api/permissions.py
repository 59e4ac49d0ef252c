"""Permissions: what users may do over domains (endpoint 13 and its neighbours). Admins hold all of them implicitly."""

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from restante.api.mail_api import auth, shapes
from restante.api.mail_api.shapes import Done, GrantItem
from restante.core import access, domains, mailboxes, permissions
from restante.core.access import Principal
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.core.messages import Page
from restante.core.permissions import Grant
from restante.errors import Forbidden, Invalid, NotFound
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.schema.connections import ReadConn


class Target(NamedTuple):
    """Who is granted something, and over what."""

    user: Mailbox
    domain: Domain


class GrantQuery(Struct, frozen=True):
    """A page of grants."""

    domain: Annotated[str, Meta(max_length=1000, description="Only grants over this domain.")] | None = None
    limit: shapes.Limit = 50
    offset: shapes.Offset = 0


class GrantList(Struct, frozen=True):
    """Grants by user, domain and permission."""

    success: bool
    total: int
    permissions: list[GrantItem]


class OneGrant(Struct, frozen=True):
    """One permission of one user over one domain."""

    email: shapes.Email
    permission: shapes.PermissionName
    domain: shapes.DomainName


class RevokeQuery(Struct, frozen=True):
    """Which permission over which domain."""

    domain: shapes.DomainName
    permission: shapes.PermissionName


class PermissionItem(Struct, frozen=True):
    """A permission that there is."""

    permission: str
    description: str


class Catalogue(Struct, frozen=True):
    """All permissions that there are."""

    success: bool
    permissions: list[PermissionItem]


async def grant_bulk(call: Call) -> Answer:
    """Grant several permissions over a domain to a user. Admin only; what is there already is skipped."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, shapes.BulkGrant)
    return await _grant(call, caller.principal, wanted)


async def grant(call: Call) -> Answer:
    """Grant a permission over a domain to a user. Admin only; what is there already is skipped."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, OneGrant)
    return await _grant(call, caller.principal, shapes.BulkGrant(wanted.email, [wanted.permission], wanted.domain))


async def list_grants(call: Call) -> Answer:
    """List who was granted what. Admin only."""
    caller = await auth.require(call)
    query = schemas.query(call, GrantQuery)
    access.require_operator(caller.principal)
    page = await call.rt.db.read(read_page, query)
    return shapes.answer(GrantList(True, page.total, [shapes.grant_item(one) for one in page.items]))


async def list_of_user(call: Call) -> Answer:
    """List what a user was granted. Everyone may see their own grants, an admin those of all."""
    caller = await auth.require(call)
    granted = await call.rt.db.read(read_of_user, caller.principal, call.params["email"])
    return shapes.answer(GrantList(True, len(granted), [shapes.grant_item(one) for one in granted]))


async def revoke(call: Call) -> Answer:
    """Take a permission over a domain away from a user. Admin only."""
    caller = await auth.require(call)
    query = schemas.query(call, RevokeQuery)
    _require_names([query.permission])
    access.require_operator(caller.principal)
    user, domain = await call.rt.db.read(read_target, call.params["email"], query.domain)
    place = user.account_id, user.id, domain.id
    if not await call.rt.db.write(permissions.revoke, *place, query.permission, call.rt.clock.now()):
        message = f"{user.address} has no permission {query.permission} over {domain.name}."
        raise NotFound(message, code="permission_not_found")
    return shapes.answer(Done(True, f"{query.permission} over {domain.name} has been taken from {user.address}"))


async def catalogue(call: Call) -> Answer:
    """List the permissions that there are."""
    await auth.require(call)
    items = [PermissionItem(name, text) for name, text in permissions.CATALOGUE.items()]
    return shapes.answer(Catalogue(True, items))


async def _grant(call: Call, principal: Principal, wanted: shapes.BulkGrant) -> Answer:
    _require_names(wanted.permissions)
    access.require_operator(principal)
    user, domain = await call.rt.db.read(read_target, wanted.email, wanted.domain)
    granted, skipped = await call.rt.db.write(
        permissions.grant_bulk,
        user.account_id, user.id, domain.id, wanted.permissions, call.rt.clock.now(), domain.account_id,
    )  # fmt: skip
    message = f"Granted {len(granted)} permissions, skipped {len(skipped)} already existing"
    return shapes.answer(shapes.Granted(True, message, granted, skipped), status=201)


def read_page(conn: ReadConn, query: GrantQuery) -> Page[Grant]:
    """Grants for the operator. NotFound ``domain_not_found``."""
    wanted = None if query.domain is None else _domain(conn, query.domain).id
    return permissions.list_page(conn, wanted, limit=query.limit, offset=query.offset)


def read_of_user(conn: ReadConn, principal: Principal, email: str) -> list[Grant]:
    """What a user was granted: one's own, an admin anybody's. Errors: Forbidden, NotFound ``user_not_found``."""
    user = mailboxes.find_exact(conn, email)
    is_self = user is not None and user.id == principal.mailbox_id
    if principal.kind != "operator" and not is_self:
        raise Forbidden("Access denied.", code="access_denied")
    if user is None:
        raise NotFound(f"There is no user {email[:200]}.", code="user_not_found")
    return permissions.list_grants(conn, user.account_id, user.id)


def read_target(conn: ReadConn, email: str, domain_name: str) -> Target:
    """The user of exactly that address, and the domain. NotFound ``user_not_found``, ``domain_not_found``."""
    user = mailboxes.find_exact(conn, email)
    if user is None:
        raise NotFound(f"There is no user {email[:200]}.", code="user_not_found")
    return Target(user, _domain(conn, domain_name))


def _domain(conn: ReadConn, name: str) -> Domain:
    domain = domains.find_by_name(conn, name)
    if domain is None:
        raise NotFound(f"There is no domain {name[:200]}.", code="domain_not_found")
    return domain


def _require_names(names: list[str]) -> None:
    unknown = [name for name in names if name not in permissions.CATALOGUE]
    if unknown:
        raise Invalid(f"There is no permission {unknown[0]!r}.", code="invalid_permission")
