"""Endpoints 14 and 15: domains that wait for the operator, and their approval."""

from restante.api.mail_api import auth, shapes
from restante.core import access, domains
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.services import domains as service


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
    record = shapes.DkimRecord(approved.dkim.selector, approved.dkim.dns_name, approved.dkim.dns_value)
    return shapes.answer(shapes.Approved(True, message, approved.domain.name, True, record))
