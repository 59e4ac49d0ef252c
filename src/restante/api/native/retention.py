"""Retention: an account's rules, and whether its mail is cleaned before the disk is full."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from restante.api.native import auth, shapes
from restante.core import access, domains
from restante.core.access import Principal
from restante.core.retention import forecast, rules
from restante.core.retention.rules import Limits, Rule, Scope
from restante.errors import NotFound
from restante.http import calls, schemas
from restante.http.answers import Reply
from restante.schema.connections import ReadConn
from restante.services import retention as service
from restante.services.retention import Unknown

READ = "retention:read"
WRITE = "retention:write"

_Folder = Literal["inbox", "sent", "drafts", "junk", "archive"]
_Days = Annotated[int, Meta(ge=0, le=rules.MAX_DAYS)] | None
_Number = Annotated[int, Meta(ge=0, le=rules.MAX_NUMBER)] | None
_Domain = Annotated[str, Meta(max_length=320, description="For the mailboxes of this domain.")] | None
_Mailbox = Annotated[str, Meta(max_length=320, description="For this mailbox.")] | None


class NewRule(msgspec.Struct, forbid_unknown_fields=True):
    """Limits for a domain, a mailbox, or (with neither) the account; for one folder, or all that no rule names.

    A limit is of each mailbox; 0: no limit; null: as the rule of a wider scope says.
    """

    domain: _Domain = None
    mailbox: _Mailbox = None
    folder: _Folder | None = None
    days: _Days = None
    messages: _Number = None
    bytes: _Number = None


class RuleItem(msgspec.Struct):
    """A rule."""

    domain: str | None
    mailbox: str | None
    folder: str | None
    days: int | None
    messages: int | None
    bytes: int | None
    updated_at: str


class RuleQuery(msgspec.Struct):
    """Which rule."""

    domain: _Domain = None
    mailbox: _Mailbox = None
    folder: _Folder | None = None


class RuleRemoved(msgspec.Struct):
    """There is no such rule any more."""

    removed: bool = True


class ForecastSwitch(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the account's oldest mail goes to Trash before the disk is full."""

    enabled: bool


class ForecastItem(msgspec.Struct):
    """The next month. ``unknown`` says why there are no figures, null where there are.

    ``growth_bytes``: by how much the account is to grow; ``excess_bytes``: its share of what the disk has no room for.
    """

    enabled: bool
    unknown: str | None
    growth_bytes: int | None
    excess_bytes: int | None


class Retention(msgspec.Struct):
    """An account's rules, the widest scope first. ``trash_days``: after so many Trash is emptied; 0: never."""

    trash_days: int
    rules: list[RuleItem]
    forecast: ForecastItem


async def show(call: calls.Call) -> Reply:
    """Show the rules of the account."""
    principal = await auth.require_account(call, READ)
    listed, is_enabled = await call.rt.db.read(_read, principal)
    days = call.rt.config.retention.trash_days
    return shapes.answer(Retention(days, [item(one) for one in listed], await _forecast(call, principal, is_enabled)))


async def set_rule(call: calls.Call) -> Reply:
    """Set the limits of a scope, in the place of those it had."""
    principal = await auth.require_account(call, WRITE)
    wanted = await schemas.body(call, NewRule)
    scope = await call.rt.db.read(_scope, principal, wanted.domain, wanted.mailbox, wanted.folder)
    limits = Limits(wanted.days, wanted.messages, wanted.bytes)
    made = await call.rt.db.write(rules.set_rule, principal.account_id, scope, limits, call.rt.clock.now())
    return shapes.answer(item(made))


async def remove_rule(call: calls.Call) -> Reply:
    """Take a rule away."""
    principal = await auth.require_account(call, WRITE)
    which = schemas.query(call, RuleQuery)
    scope = await call.rt.db.read(_scope, principal, which.domain, which.mailbox, which.folder)
    await call.rt.db.write(rules.remove_rule, principal.account_id, scope, call.rt.clock.now())
    return shapes.answer(RuleRemoved())


async def set_forecast(call: calls.Call) -> Reply:
    """Have the account's mail cleaned by forecast, or not."""
    principal = await auth.require_account(call, WRITE)
    wanted = await schemas.body(call, ForecastSwitch)
    await call.rt.db.write(forecast.set_forecast, principal.account_id, wanted.enabled, call.rt.clock.now())
    return shapes.answer(await _forecast(call, principal, wanted.enabled))


def _read(conn: ReadConn, principal: Principal) -> tuple[list[Rule], bool]:
    account_id = principal.account_id
    return rules.list_rules(conn, account_id), forecast.is_enabled(conn, account_id)


def _scope(conn: ReadConn, principal: Principal, domain: str | None, mailbox: str | None, folder: str | None) -> Scope:
    domain_id = mailbox_id = None
    if domain is not None:
        found = domains.find(conn, principal.account_id, domain)
        if found is None:
            raise NotFound("There is no such domain.", code="domain_not_found")
        domain_id = found.id
    if mailbox is not None:
        mailbox_id = access.require_own_mailbox(conn, principal, mailbox).id
    return Scope(domain_id, mailbox_id, folder or rules.OTHERS)


async def _forecast(call: calls.Call, principal: Principal, is_enabled: bool) -> ForecastItem:
    found = await service.outlook(call.rt, principal.account_id)
    if isinstance(found, Unknown):
        return ForecastItem(is_enabled, found.reason, None, None)
    return ForecastItem(is_enabled, None, found.growth_bytes, found.excess_bytes)


def item(rule: Rule) -> RuleItem:
    """A rule as it is shown."""
    limits = rule.limits
    return RuleItem(
        rule.domain,
        rule.mailbox,
        rule.scope.role or None,
        limits.days,
        limits.messages,
        limits.bytes,
        shapes.moment(rule.updated_at),
    )
