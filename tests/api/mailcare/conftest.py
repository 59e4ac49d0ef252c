"""Two teams on a real store, and callers of every kind."""

import pytest

from restante.core import mailboxes, tokens
from restante.core.mailboxes import Mailbox, Role
from restante.http.front import Front
from restante.runtime import Runtime
from restante.services import authentication
from tests.api.mail_api.sample import Tenant
from tests.api.mailcare.client import Caller, basic, bearer
from tests.makers import PASSWORD


async def holder(rt: Runtime, app: Front, tenant: Tenant, *scopes: str) -> Caller:
    """Who holds a token of a team, with all permissions or these."""
    account = tenant.account
    _, plain = await rt.db.write(
        tokens.create, account.id, "mailcare", "user", "test", rt.clock.now(), scopes=scopes or None
    )
    return Caller(app, f"/api/teams/{account.public_id}", {"authorization": bearer(plain)})


async def member(rt: Runtime, app: Front, mailbox: Mailbox, role: Role = "member") -> Caller:
    """Who logs in with the password of a mailbox."""
    hashed = await authentication.hash_password(rt, PASSWORD)
    await rt.db.write(mailboxes.set_password, mailbox.account_id, mailbox.id, hashed, rt.clock.now())
    await rt.db.write(mailboxes.set_role, mailbox.account_id, mailbox.id, role, rt.clock.now())
    return Caller(app, "/api", {"authorization": basic(mailbox.address, PASSWORD)})


@pytest.fixture
async def team(rt: Runtime, app: Front, red: Tenant) -> Caller:
    """Red's token."""
    return await holder(rt, app, red)


@pytest.fixture
async def ann(rt: Runtime, app: Front, red: Tenant) -> Caller:
    """Red's Ann, at the older base."""
    return await member(rt, app, red.ann)


@pytest.fixture(params=["hosted", "older"])
async def either(request: pytest.FixtureRequest, rt: Runtime, app: Front, red: Tenant) -> Caller:
    """Red's team at each of the two bases."""
    return await (holder(rt, app, red) if request.param == "hosted" else member(rt, app, red.ann))
