"""Every route, every role, own, granted, foreign and missing things: generated from the route table itself."""

import re
from typing import Any

import pytest
from sqlalchemy import select

from restante.api.mail_api import app as mail_api
from restante.core import mailboxes, permissions, tokens
from restante.http.front import Front
from restante.ids import AccountId, MailboxId
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from tests.api.mail_api.sample import Client, World, grant, put, rich_letter

ROUTES = [(route.method, route.path) for route in mail_api.build().router.routes]
V1 = "/api/v1"
MAILBOX = V1 + "/mailbox/{email:path}"
USER = V1 + "/users/{email:address}"
GRANT = V1 + "/permissions/{email:address}"

OPEN = {("POST", V1 + "/auth/signup"), ("POST", V1 + "/auth/login")}

SHARED = {("GET", V1 + "/domains"), ("POST", V1 + "/domains")}  # without the header they are TrekMail's

# What a call is made with, beside its path: bodies and queries that are right.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", V1 + "/auth/signup"): {"domain": "a.com", "email": "a@a.com", "password": "correct horse"},
    ("POST", V1 + "/auth/login"): {"email": "{email}", "password": "correct horse"},
    ("POST", MAILBOX + "/folders"): {"name": "Work"},
    ("PUT", MAILBOX + "/folders"): {"name": "Work"},
    ("PATCH", MAILBOX + "/messages/{uid}"): {"add_flags": ["\\Seen"], "remove_flags": [], "move_to": "Archive"},
    ("POST", V1 + "/users"): {"email": "new@{domain}", "password": "correct horse", "name": "New", "quota": None},
    ("PUT", USER): {"name": "Other", "quota": 7},
    ("PUT", USER + "/quota"): {"quota": 7},
    ("PUT", USER + "/password"): {"password": "correct horse"},
    ("PATCH", USER + "/aliases"): {"add": ["alias@{domain}"], "remove": []},
    ("POST", V1 + "/domains"): {"domain": "new.com", "account": None, "force": False},
    ("PUT", V1 + "/domains/{domain}"): {"catch_all": "{email}"},
    ("POST", V1 + "/tokens"): {"name": "x", "email": "{email}", "expires_at": None},
    ("PUT", V1 + "/tokens/{id}"): {"name": "x", "is_active": True, "expires_at": None},
    ("POST", V1 + "/permissions"): {"email": "{email}", "permission": "send_mail", "domain": "{domain}"},
    ("POST", V1 + "/permissions/bulk"): {"email": "{email}", "permissions": ["send_mail"], "domain": "{domain}"},
}
QUERIES = {
    ("GET", MAILBOX + "/search"): "q=text",
    ("GET", V1 + "/stats/inbound"): "domain={domain}",
    ("GET", V1 + "/stats/senders"): "domain={domain}",
    ("PUT", MAILBOX + "/folders"): "folder=Work",
    ("DELETE", MAILBOX + "/folders"): "folder=Work",
    ("GET", V1 + "/users"): "domain={domain}",
    ("GET", V1 + "/tokens"): "email={email}",
    ("GET", V1 + "/permissions"): "domain={domain}",
    ("DELETE", GRANT): "domain={domain}&permission=send_mail",
}

OPERATOR_ONLY = {
    ("POST", V1 + "/permissions/bulk"),
    ("POST", V1 + "/permissions"),
    ("GET", V1 + "/permissions"),
    ("DELETE", GRANT),
    ("GET", V1 + "/domains/pending"),
    ("POST", V1 + "/domains/{domain}/approve"),
    ("POST", V1 + "/domains"),
    ("DELETE", V1 + "/domains/{domain}"),
}
# Only about the caller: nothing of anybody else can be named.
OWN = {
    ("GET", V1 + "/tokens/me"),
    ("POST", V1 + "/auth/logout"),
    ("GET", V1 + "/auth/me"),
    ("POST", V1 + "/auth/regenerate-key"),
    ("GET", V1 + "/permissions/catalogue"),
    ("GET", V1 + "/domains"),
    ("GET", V1 + "/stats/delivery"),  # and what view_stats opens: test_statistics
    ("GET", V1 + "/stats/queue"),
    ("GET", V1 + "/stats/summary"),
}
NAMING = [
    route for route in ROUTES if route not in OPEN | OWN | OPERATOR_ONLY and not route[1].startswith(V1 + "/mail/")
]  # what was sent is in test_submission
READING = [(method, path) for method, path in ROUTES if path.startswith(MAILBOX) and method == "GET"]
CHANGING = [(method, path) for method, path in ROUTES if path.startswith(MAILBOX) and method != "GET"]
BY_GRANT = {
    permissions.MANAGE_USERS: [
        route for route in ROUTES if route[1].startswith(V1 + "/users") and route not in OPERATOR_ONLY
    ],
    permissions.MANAGE_DOMAINS: [
        route for route in ROUTES if route[1].startswith(V1 + "/domains/") and route not in OPERATOR_ONLY
    ],
}

RED = {"email": "bob@red.example", "domain": "red.example", "uid": "1", "index": "0"}
NOTHING = {"email": "nobody@nowhere.example", "domain": "nowhere.example", "uid": "1", "index": "0", "id": "999999"}


def fill(template: str, named: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: named.get(found[1], "1"), template)


def filled(value: Any, named: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(one, named) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, named) for one in value]
    return fill(value, named) if isinstance(value, str) else value


def target(route: tuple[str, str], named: dict[str, str]) -> str:
    query = QUERIES.get(route)
    return fill(route[1], named) + ("?" + fill(query, named) if query else "")


async def code(client: Client, route: tuple[str, str], named: dict[str, str]) -> tuple[int, str | None]:
    """The status and the error's code."""
    body = BODIES.get(route)
    reply = await client.call(route[0], target(route, named), data=None if body is None else filled(body, named))
    is_json = reply.status >= 400
    return reply.status, reply.json()["error"] if is_json else None


def snapshot(conn: ReadConn) -> dict[str, list[Any]]:
    """What a refused call must leave alone; the last use of a token may move."""
    names = (
        "accounts",
        "domains",
        "dkim_keys",
        "mailboxes",
        "addresses",
        "permissions",
        "folders",
        "messages",
        "events",
    )
    found = {name: conn.execute(select(tables.metadata.tables[name])).all() for name in (*names, "events")}
    t = tables.tokens.c
    found["tokens"] = conn.execute(select(t.id, t.name, t.is_active, t.expires_at, t.rate_limit)).all()
    return {name: sorted(map(repr, rows)) for name, rows in found.items()}


async def bounded_by_nothing(
    rt: Runtime, app: Front, account_id: AccountId, mailbox_id: MailboxId | None = None
) -> Client:
    """A client whose token has no rate limit."""
    kind = "admin" if mailbox_id is None else "user"
    values = account_id, "mail-api", kind, "x", rt.clock.now(), mailbox_id
    _, plain = await rt.db.write(tokens.create, *values, rate_limit=0)  # type: ignore[arg-type]
    return Client(app, plain)


@pytest.fixture
async def red(rt: Runtime, world: World) -> dict[str, str]:
    """What paths name: things of Bob in red.example, with a message in the INBOX and an empty folder."""
    await put(rt, world.red.bob, rich_letter())
    client_token = world.red.bob.account_id, "mail-api", "user", "bob", rt.clock.now(), world.red.bob.id
    token, _ = await rt.db.write(tokens.create, *client_token)  # type: ignore[arg-type]
    return RED | {"id": str(token.id)}


def test_the_table_is_complete() -> None:
    assert set(BODIES) | set(QUERIES) | OPEN | OPERATOR_ONLY | OWN <= set(ROUTES)
    counts: dict[str, int] = {}
    for _, path in ROUTES:
        counts[path.split("/")[3]] = counts.get(path.split("/")[3], 0) + 1
    expected = {"auth": 5, "mailbox": 12, "users": 10, "domains": 9, "tokens": 6, "permissions": 6}
    assert counts | expected == counts


@pytest.mark.parametrize("route", ROUTES)
async def test_without_a_token_nothing_but_signup_and_login(client: Client, route: tuple[str, str]) -> None:
    for token in (None, "x" * 43):
        found = await code(client.with_token(token), route, NOTHING)
        if route in SHARED and token is None:
            assert found == (404, "not_available")
        elif route in OPEN:
            assert found in {(201, None), (409, "DOMAIN_EXISTS"), (401, "INVALID_CREDENTIALS")}
        else:
            assert found == (401, "NO_API_TOKEN" if token is None else "INVALID_TOKEN")


@pytest.mark.parametrize("route", sorted(OPERATOR_ONLY))
async def test_only_the_operator_administers(
    rt: Runtime, world: World, client: Client, admin: Client, red: dict[str, str], route: tuple[str, str]
) -> None:
    for name in permissions.CATALOGUE:
        await rt.db.write(grant, world.red, name, rt.clock.now())
    assert await code(client, route, red) == (403, "ACCESS_DENIED")
    assert await code(client, route, NOTHING) == (403, "ACCESS_DENIED")
    assert (await code(admin, route, red))[0] in (200, 201, 404, 409)


@pytest.mark.parametrize("route", NAMING)
async def test_another_tenant_learns_and_changes_nothing(
    rt: Runtime, app: Front, world: World, admin: Client, red: dict[str, str], route: tuple[str, str]
) -> None:
    for name in permissions.CATALOGUE:
        await rt.db.write(grant, world.blue, name, rt.clock.now())
    stranger = Client(app, world.blue.token)
    before = await rt.db.read(snapshot)
    foreign = await code(stranger, route, red)
    assert foreign in {(403, "ACCESS_DENIED"), (404, "TOKEN_NOT_FOUND")}
    assert await code(stranger, route, NOTHING) == foreign
    assert await rt.db.read(snapshot) == before
    assert await code(admin, route, NOTHING) in {
        (404, "MAILBOX_NOT_FOUND"), (404, "USER_NOT_FOUND"), (404, "DOMAIN_NOT_FOUND"), (404, "TOKEN_NOT_FOUND"),
    }  # fmt: skip


@pytest.mark.parametrize("route", READING)
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
async def test_reading_mailboxes(
    rt: Runtime, world: World, client: Client, admin: Client, route: tuple[str, str], email: str, as_user: int,
    as_granted: int, as_operator: int,
) -> None:  # fmt: skip
    for mailbox in (world.red.ann, world.red.bob, world.blue.ann):
        await put(rt, mailbox, rich_letter())
    named = RED | {"email": email}
    assert (await code(client, route, named))[0] == as_user
    assert (await code(admin, route, named))[0] == as_operator
    await rt.db.write(grant, world.red, permissions.VIEW_MAILBOX, rt.clock.now())
    assert (await code(client, route, named))[0] == as_granted


@pytest.mark.parametrize("route", CHANGING)
async def test_a_grant_to_read_changes_nothing(
    rt: Runtime, world: World, client: Client, admin: Client, red: dict[str, str], route: tuple[str, str]
) -> None:
    for name in permissions.CATALOGUE:
        await rt.db.write(grant, world.red, name, rt.clock.now())
    before = await rt.db.read(snapshot)
    assert await code(client, route, red) == (403, "ACCESS_DENIED")
    assert await rt.db.read(snapshot) == before
    if route[0] == "DELETE":
        assert (await code(admin, ("POST", MAILBOX + "/folders"), red))[0] == 201
    assert (await code(admin, route, red))[0] in (200, 201, 400)


@pytest.mark.parametrize(("permission", "route"), [(name, one) for name, found in BY_GRANT.items() for one in found])
async def test_a_grant_opens_its_routes_and_no_others(
    rt: Runtime, world: World, client: Client, red: dict[str, str], permission: str, route: tuple[str, str]
) -> None:
    for name in set(permissions.CATALOGUE) - {permission}:
        await rt.db.write(grant, world.red, name, rt.clock.now())
    assert await code(client, route, red) == (403, "ACCESS_DENIED")
    await rt.db.write(grant, world.red, permission, rt.clock.now())
    assert (await code(client, route, red))[0] in (200, 201, 409)


@pytest.mark.parametrize("route", [one for one in BY_GRANT[permissions.MANAGE_USERS] if one[1] != V1 + "/users"])
async def test_no_grant_reaches_an_administrator(
    rt: Runtime, world: World, client: Client, red: dict[str, str], route: tuple[str, str]
) -> None:
    bob, now = world.red.bob, rt.clock.now()
    await rt.db.write(mailboxes.set_role, bob.account_id, bob.id, "admin", now)
    await rt.db.write(grant, world.red, permissions.MANAGE_USERS, now)
    before = await rt.db.read(snapshot)
    assert await code(client, route, red) == (403, "ACCESS_DENIED")
    assert await rt.db.read(snapshot) == before


HOSTILE = [
    "%00",
    "7",
    "-1",
    "9" * 30,
    "a%20b",
    "%F0%9F%92%A9",
    "x" * 100_000,
    "..",
    "%2e%2e%2f",
    "a%0d%0ab",
    "@",
    "%25",
]


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route[1]])
async def test_hostile_names_in_paths_are_refused(
    rt: Runtime, app: Front, world: World, route: tuple[str, str]
) -> None:
    operator = await bounded_by_nothing(rt, app, world.red.account.id)
    user = await bounded_by_nothing(rt, app, world.red.account.id, world.red.ann.id)
    before = await rt.db.read(snapshot)
    for name in HOSTILE:
        named = dict.fromkeys(("email", "domain", "id", "index", "uid"), name)
        for client, expected in ((operator, {404, 405}), (user, {403, 404, 405})):
            body = BODIES.get(route)
            where = fill(route[1], named) + ("?" + fill(QUERIES[route], RED) if route in QUERIES else "")
            reply = await client.call(route[0], where, data=None if body is None else filled(body, RED))
            assert reply.status in expected, (name[:20], reply.body)
            if not (name.isdigit() and "/domains/" in route[1]):  # a number there is TrekMail's
                assert reply.json()["success"] is False
    assert await rt.db.read(snapshot) == before


WRONG: list[Any] = [
    7,
    -1,
    1.5,
    True,
    None,
    "",
    "x" * 100_000,
    "a\0b",
    "a\r\nb",
    [],
    {},
    [[]],
    ["x" * 100_000],
    ["a\0b"],
]


@pytest.mark.parametrize("route", BODIES)
async def test_wrong_values_in_bodies_change_nothing(
    rt: Runtime, app: Front, world: World, red: dict[str, str], route: tuple[str, str]
) -> None:
    client = await bounded_by_nothing(rt, app, world.red.account.id)
    for field in BODIES[route]:
        for value in WRONG:
            data = filled(BODIES[route], red) | {field: value}
            before = await rt.db.read(snapshot)
            reply = await client.call(route[0], target(route, red), data=data)
            assert reply.status < 500, (field, value, reply.body)
            if reply.status >= 400:
                assert reply.json()["success"] is False
                assert await rt.db.read(snapshot) == before, (field, value)


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_bounds_its_body(admin: Client, route: tuple[str, str]) -> None:
    reply = await admin.call(route[0], target(route, RED), headers={"content-length": str(1 << 40)})
    assert reply.status == 413


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
async def test_every_path_refuses_other_methods(admin: Client, path: str) -> None:
    there = {method for method, other in ROUTES if other == path}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - there:
        reply = await admin.call(method, fill(path, RED))
        assert (reply.status, reply.json()["error"]) == (405, "METHOD_NOT_ALLOWED")
        assert there <= set(reply.headers["allow"].split(", "))
