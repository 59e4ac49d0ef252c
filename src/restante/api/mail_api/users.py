"""Users: mailboxes with their logins. For admins, and for users who were granted ``manage_users`` over the domain.

Such a user reaches no administrator of the instance and makes none. A user may see themselves and change their own
password.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from restante.api.mail_api import auth, shapes
from restante.api.mail_api.shapes import Done
from restante.core import access, mailboxes, permissions
from restante.core.access import Principal
from restante.core.domains import Domain
from restante.core.mailboxes import Alias, Mailbox, Role
from restante.core.messages import Page
from restante.errors import Forbidden, Invalid
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.mail import address as addresses
from restante.schema.connections import ReadConn, scanning
from restante.services import authentication, sessions

MAX_ALIASES = 200  # of one user, as far as this API makes them

RoleName = Annotated[
    Role, Meta(description="admin: operates the instance; member: of the account's team in MailCare. Admins only.")
]
Quota = Annotated[int, Meta(ge=0, lt=2**62, description="Bytes; null: no limit.", examples=[1_073_741_824])]


class UserQuery(Struct, frozen=True):
    """A page of users."""

    domain: Annotated[str, Meta(max_length=1000, description="Only users of this domain.")] | None = None
    q: Annotated[str, Meta(max_length=254, description="Part of the address.")] = ""
    status: Literal["active", "disabled"] | None = None
    limit: shapes.Limit = 50
    offset: shapes.Offset = 0


class UserItem(Struct, frozen=True):
    """A user. ``quota`` (null: no limit) and ``used`` in bytes."""

    email: str
    name: str
    domain: str
    role: str
    active: bool
    has_password: bool
    quota: int | None
    used: int
    messages: int
    created_at: datetime


class UserList(Struct, frozen=True):
    """Users by address."""

    success: bool
    total: int
    users: list[UserItem]


class UserAnswer(Struct, frozen=True):
    """One user with the aliases that lead to them (200 at most)."""

    success: bool
    user: UserItem
    aliases: list[str]


class NewUser(Struct, frozen=True):
    """A user to make, in a domain that is here. Without a password nobody can log in."""

    email: shapes.Email
    password: shapes.Password | None = None
    name: shapes.Name = ""
    role: RoleName = "user"
    quota: Quota | None = None


class UserChanges(Struct, frozen=True):
    """What to change; what is left out stays."""

    name: shapes.Name | UnsetType = UNSET
    role: RoleName | UnsetType = UNSET
    quota: Quota | UnsetType | None = UNSET


class NewQuota(Struct, frozen=True):
    """The limit of stored bytes."""

    quota: Quota | None


class NewPassword(Struct, frozen=True):
    """A new password of 8 characters or more; users who change their own give the current one too."""

    password: shapes.Password
    current_password: shapes.Password | None = None


class AliasChanges(Struct, frozen=True):
    """Addresses that are to lead to the user, and such that no longer are."""

    add: Annotated[list[shapes.Email], Meta(max_length=100)] = []
    remove: Annotated[list[shapes.Email], Meta(max_length=100)] = []


class AliasList(Struct, frozen=True):
    """The aliases that the user has now."""

    success: bool
    email: str
    aliases: list[str]


async def list_users(call: Call) -> Answer:
    """List users by address: an admin all, others those of the domains that they manage."""
    caller = await auth.require(call)
    query = schemas.query(call, UserQuery)
    page = await call.rt.db.read(read_page, caller.principal, query)
    return shapes.answer(UserList(True, page.total, [_item(one) for one in page.items]))


async def create_user(call: Call) -> Answer:
    """Make a user: a mailbox with its login."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewUser)
    address = _address(wanted.email, "email")
    if wanted.password is not None:
        authentication.require_strong(wanted.password)
    _require_role_right(caller.principal, wanted.role)
    domain = await call.rt.db.read(read_domain, caller.principal, address)
    password_hash = None if wanted.password is None else await authentication.hash_password(call.rt, wanted.password)
    made = await call.rt.db.write(
        mailboxes.create, domain.account_id, address, call.rt.clock.now(),
        wanted.name, wanted.role, password_hash, wanted.quota,
    )  # fmt: skip
    return shapes.answer(UserAnswer(True, _item(made), []), status=201)


async def get_user(call: Call) -> Answer:
    """Show a user. Everyone may see themselves."""
    caller = await auth.require(call)
    mailbox = await call.rt.db.read(read_user_or_self, caller.principal, call.params["email"])
    return await _shown(call, mailbox)


async def update_user(call: Call) -> Answer:
    """Change a user's name, quota or (admins only) role."""
    caller = await auth.require(call)
    changes = await schemas.body(call, UserChanges)
    if changes.role is not UNSET:
        _require_role_right(caller.principal, "admin")
    mailbox = await call.rt.db.read(access.require_user, caller.principal, call.params["email"])
    changed = await call.rt.db.write(
        mailboxes.update_properties, mailbox.account_id, mailbox.id, call.rt.clock.now(),
        name=mailbox.name if changes.name is UNSET else changes.name,
        role=mailbox.role if changes.role is UNSET else changes.role,
        quota_bytes=mailbox.quota_bytes if changes.quota is UNSET else changes.quota,
    )  # fmt: skip
    return await _shown(call, changed)


async def delete_user(call: Call) -> Answer:
    """Delete a user: the address is free and the tokens are gone at once, the mail is deleted soon after."""
    caller = await auth.require(call)
    query = schemas.query(call, shapes.RemoveQuery)
    mailbox = await call.rt.db.read(access.require_user, caller.principal, call.params["email"])
    now = call.rt.clock.now()
    await call.rt.db.write(mailboxes.remove, mailbox.account_id, mailbox.id, now, query.with_mail)
    return shapes.answer(Done(True, f"User {mailbox.address} has been deleted"))


async def enable_user(call: Call) -> Answer:
    """Let a disabled user log in and receive mail again."""
    caller = await auth.require(call)
    mailbox = await call.rt.db.read(access.require_user, caller.principal, call.params["email"])
    place = mailbox.account_id, mailbox.id
    return await _shown(call, await call.rt.db.write(mailboxes.enable, *place, call.rt.clock.now()))


async def disable_user(call: Call) -> Answer:
    """Stop a user's logins, tokens and incoming mail. The stored mail stays."""
    caller = await auth.require(call)
    mailbox = await call.rt.db.read(access.require_user, caller.principal, call.params["email"])
    place = mailbox.account_id, mailbox.id
    return await _shown(call, await call.rt.db.write(mailboxes.disable, *place, call.rt.clock.now()))


async def set_quota(call: Call) -> Answer:
    """Limit the bytes that a user may store."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewQuota)
    mailbox = await call.rt.db.read(access.require_user, caller.principal, call.params["email"])
    place = mailbox.account_id, mailbox.id
    changed = await call.rt.db.write(mailboxes.set_quota, *place, wanted.quota, call.rt.clock.now())
    return await _shown(call, changed)


async def set_password(call: Call) -> Answer:
    """Set a password and end the user's other sessions. One's own password needs ``current_password``."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewPassword)
    authentication.require_strong(wanted.password)
    mailbox = await call.rt.db.read(read_user_or_self, caller.principal, call.params["email"])
    if caller.principal.kind == "user" and mailbox.id == caller.principal.mailbox_id:
        await authentication.login(call.rt, mailbox.address, wanted.current_password or "", call.client)
    await sessions.set_password(call.rt, mailbox, wanted.password, caller.token.id)
    return shapes.answer(Done(True, f"The password of {mailbox.address} has been changed"))


async def change_aliases(call: Call) -> Answer:
    """Add and remove addresses that lead to a user, all or nothing. Their domains must be managed by the caller too."""
    caller = await auth.require(call)
    changes = await schemas.body(call, AliasChanges)
    add = list(dict.fromkeys(_address(one, "add") for one in changes.add))
    remove = list(dict.fromkeys(_address(one, "remove") for one in changes.remove))
    mailbox = await call.rt.db.read(read_aliased, caller.principal, call.params["email"], add)
    aliases = await call.rt.db.write(
        mailboxes.change_aliases, mailbox.account_id, mailbox.id, add, remove, call.rt.clock.now(), MAX_ALIASES
    )
    return shapes.answer(AliasList(True, mailbox.address, _names(aliases)))


@scanning
def read_page(conn: ReadConn, principal: Principal, query: UserQuery) -> Page[Mailbox]:
    """The users that the principal manages. Errors: Forbidden, NotFound (an admin's unknown domain)."""
    if query.domain is None:
        wanted = access.list_domain_ids(conn, principal, permissions.MANAGE_USERS)
    else:
        wanted = [access.require_domain(conn, principal, query.domain, permissions.MANAGE_USERS).id]
    if not query.q.isprintable():
        return Page(0, [])
    return mailboxes.list_page(conn, wanted, text=query.q, status=query.status, limit=query.limit, offset=query.offset)


def read_domain(conn: ReadConn, principal: Principal, address: str) -> Domain:
    """The domain of an address, if the principal manages its users. Errors: Forbidden, NotFound."""
    return access.require_domain(conn, principal, addresses.split(address)[1], permissions.MANAGE_USERS)


def read_user_or_self(conn: ReadConn, principal: Principal, address: str) -> Mailbox:
    """A user that the principal manages, or is. Errors: Forbidden, NotFound."""
    found = mailboxes.find_exact(conn, address)
    if found is not None and found.id == principal.mailbox_id:
        return found
    return access.require_user(conn, principal, address)


def read_aliased(conn: ReadConn, principal: Principal, address: str, aliases: list[str]) -> Mailbox:
    """A user that the principal manages, as it does the domains of the aliases. Errors: Forbidden, NotFound."""
    for alias in aliases:
        read_domain(conn, principal, alias)
    return access.require_user(conn, principal, address)


def _read_aliases(conn: ReadConn, mailbox: Mailbox) -> list[Alias]:
    return mailboxes.list_aliases(conn, mailbox.account_id, mailbox.id)


async def _shown(call: Call, mailbox: Mailbox) -> Answer:
    aliases = await call.rt.db.read(_read_aliases, mailbox)
    return shapes.answer(UserAnswer(True, _item(mailbox), _names(aliases)))


def _names(aliases: list[Alias]) -> list[str]:
    return [alias.address for alias in aliases[:MAX_ALIASES]]


def _address(text: str, field: str) -> str:
    try:
        return addresses.normalise(text)
    except Invalid as error:
        raise Invalid(f"{field}: {error.message}", details={field: error.message}) from error


def _require_role_right(principal: Principal, role: Role) -> None:
    if role != "user" and principal.kind != "operator":
        raise Forbidden("Only an admin gives roles.", code="access_denied")


def _item(mailbox: Mailbox) -> UserItem:
    return UserItem(
        email=mailbox.address,
        name=mailbox.name,
        domain=addresses.split(mailbox.address)[1],
        role=mailbox.role,
        active=mailbox.status == "active",
        has_password=mailbox.has_password,
        quota=mailbox.quota_bytes,
        used=mailbox.used_bytes,
        messages=mailbox.messages,
        created_at=shapes.moment(mailbox.created_at),
    )
