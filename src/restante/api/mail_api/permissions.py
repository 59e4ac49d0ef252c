"""Endpoint 13: grant permissions to a user."""

from typing import NamedTuple

from restante.api.mail_api import auth, shapes
from restante.core import access, domains, mailboxes, permissions
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.errors import Invalid, NotFound
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.schema.connections import ReadConn


class Target(NamedTuple):
    """Who is granted something, and over what."""

    user: Mailbox
    domain: Domain


async def grant_bulk(call: Call) -> Answer:
    """Grant several permissions over a domain to a user. Admin only; what is there already is skipped."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, shapes.BulkGrant)
    _require_names(wanted.permissions)
    access.require_operator(caller.principal)
    user, domain = await call.rt.db.read(read_target, wanted.email, wanted.domain)
    granted, skipped = await call.rt.db.write(
        permissions.grant_bulk,
        user.account_id, user.id, domain.id, wanted.permissions, call.rt.clock.now(), domain.account_id,
    )  # fmt: skip
    message = f"Granted {len(granted)} permissions, skipped {len(skipped)} already existing"
    return shapes.answer(shapes.Granted(True, message, granted, skipped), status=201)


def read_target(conn: ReadConn, email: str, domain_name: str) -> Target:
    """The user of exactly that address, and the domain. NotFound ``user_not_found``, ``domain_not_found``."""
    found = mailboxes.targets(conn, email)
    if not found:
        raise NotFound(f"There is no user {email[:200]}.", code="user_not_found")
    domain = domains.find_by_name(conn, domain_name)
    if domain is None:
        raise NotFound(f"There is no domain {domain_name[:200]}.", code="domain_not_found")
    return Target(found[0], domain)


def _require_names(names: list[str]) -> None:
    unknown = [name for name in names if name not in permissions.CATALOGUE]
    if unknown:
        raise Invalid(f"There is no permission {unknown[0]!r}.", code="invalid_permission")
