"""Every route, every role, own, granted, foreign and missing things: generated from the route table itself."""

import re

import pytest

from restante.api.mail_api import app as mail_api
from restante.core import permissions
from restante.runtime import Runtime
from tests.api.mail_api.sample import Client, World, grant, put, rich_letter

ROUTES = [(route.method, route.path) for route in mail_api.build().router.routes]
OPEN = {("POST", "/api/v1/auth/signup")}
OPERATOR_ONLY = {
    ("POST", "/api/v1/permissions/bulk"),
    ("GET", "/api/v1/domains/pending"),
    ("POST", "/api/v1/domains/{domain}/approve"),
}
OWN = {("GET", "/api/v1/tokens/me")}
STATISTICS = {("GET", "/api/v1/stats/delivery"), ("GET", "/api/v1/stats/domain/{domain}")}
MAIL = {("POST", "/api/v1/mail/send"), ("GET", "/api/v1/mail/sent"), ("GET", "/api/v1/mail/{message_id}/status")}
OF_A_MAILBOX = [(method, path) for method, path in ROUTES if "{email" in path]

ID = "0190b6d1-0000-7000-8000-000000000000"
BULK = {"email": "bob@red.example", "permissions": ["send_mail"], "domain": "red.example"}


def target(path: str, email: str = "ann@red.example", domain: str = "red.example") -> str:
    named = {"email:path": email, "uid": "1", "index": "0", "domain": domain, "message_id": ID}
    filled = re.sub(r"\{([^}]*)\}", lambda found: named[found[1]], path)
    return filled + ("?q=text" if path.endswith("/search") else "")


async def status(client: Client, method: str, path: str) -> int:
    reply = await client.call(method, path, data=BULK if method == "POST" else None)
    return reply.status


def test_the_table_is_complete() -> None:
    assert len(ROUTES) == 15
    assert {*OPEN, *OPERATOR_ONLY, *OWN, *STATISTICS, *MAIL, *OF_A_MAILBOX} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_token_nothing_but_signup(client: Client, method: str, path: str) -> None:
    for token in (None, "x" * 43):
        found = await status(client.with_token(token), method, target(path))
        assert found == (422 if (method, path) in OPEN else 401)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATOR_ONLY))
async def test_only_the_operator_administers(
    rt: Runtime, world: World, client: Client, admin: Client, method: str, path: str
) -> None:
    for name in permissions.CATALOGUE:
        await rt.db.write(grant, world.red, name, rt.clock.now())
    assert await status(client, method, target(path)) == 403
    assert await status(admin, method, target(path)) in (200, 201, 409)


@pytest.mark.parametrize(("method", "path"), OF_A_MAILBOX)
@pytest.mark.parametrize(
    ("email", "as_user", "as_granted", "as_operator"),
    [
        ("ann@red.example", 200, 200, 200),
        ("bob@red.example", 403, 200, 200),
        ("ann@blue.example", 403, 403, 200),
        ("nobody@red.example", 403, 403, 404),
        ("nobody@nowhere.example", 403, 403, 404),
    ],
)
async def test_mailboxes(
    rt: Runtime, world: World, client: Client, admin: Client, method: str, path: str, email: str, as_user: int,
    as_granted: int, as_operator: int,
) -> None:  # fmt: skip
    for mailbox in (world.red.ann, world.red.bob, world.blue.ann):
        await put(rt, mailbox, rich_letter())
    where = target(path, email)
    assert await status(client, method, where) == as_user
    assert await status(admin, method, where) == as_operator
    await rt.db.write(grant, world.red, permissions.VIEW_MAILBOX, rt.clock.now())
    assert await status(client, method, where) == as_granted


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_bounds_its_body(admin: Client, method: str, path: str) -> None:
    reply = await admin.call(method, target(path), headers={"content-length": str(1 << 40)})
    assert reply.status == 413


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_refuses_other_methods(admin: Client, method: str, path: str) -> None:
    for other in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {method}:
        reply = await admin.call(other, target(path))
        assert (reply.status, reply.json()["error"]) == (405, "METHOD_NOT_ALLOWED")
        assert method in reply.headers["allow"]
