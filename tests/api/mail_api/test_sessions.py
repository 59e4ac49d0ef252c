"""Login, logout, the caller, the permanent key."""

from dataclasses import replace
from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import events, mailboxes
from restante.http.front import Front
from restante.ids import AccountId, EventNumber
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from restante.services import authentication
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, grant

LOGIN, ME = "/api/v1/auth/login", "/api/v1/auth/me"
FORM = {"email": "Ann@red.example", "password": "correct horse"}


@pytest.fixture
async def stranger(rt: Runtime, world: World, app: Front) -> Client:
    """Without a token; Ann has a password."""
    ann, password_hash = world.red.ann, await authentication.hash_password(rt, FORM["password"])
    await rt.db.write(mailboxes.set_password, ann.account_id, ann.id, password_hash, rt.clock.now())
    return Client(app)


async def event_types(rt: Runtime, account_id: AccountId) -> list[str]:
    page = await rt.db.read(events.list_after, account_id, EventNumber(0), 1000)
    return [event.type for event in page.events]


async def test_login_and_logout(rt: Runtime, clock: ManualClock, world: World, stranger: Client) -> None:
    reply = await stranger.post(LOGIN, data=FORM)
    body = reply.json()
    assert reply.status == 200
    assert list(body) == ["success", "token", "token_type", "email", "name", "expires_at"]
    assert (body["success"], body["token_type"], body["email"], body["name"]) == (
        True,
        "user",
        "ann@red.example",
        "Ann",
    )
    assert body["expires_at"] == (clock.now() + timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert reply.headers["cache-control"] == "no-store"
    session = stranger.with_token(body["token"])
    assert (await session.get(f"{ANN}/folders")).status == 200
    assert (await session.post("/api/v1/auth/logout")).json() == {"success": True, "message": "Logged out"}
    assert_refused(await session.get(ME), 401, "INVALID_TOKEN")
    assert (await event_types(rt, world.red.account.id))[-2:] == ["token.created", "token.removed"]


async def test_a_session_is_over_after_its_time(clock: ManualClock, stranger: Client) -> None:
    session = stranger.with_token((await stranger.post(LOGIN, data=FORM)).json()["token"])
    clock.advance(timedelta(hours=12))
    assert_refused(await session.get(ME), 401, "TOKEN_EXPIRED")


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong horse"},
        {"password": ""},
        {"password": "a\0b"},
        {"email": "bob@red.example"},
        {"email": "nobody@red.example"},
        {"email": "nonsense"},
        {"email": "\0"},
    ],
)
async def test_every_failure_looks_the_same(stranger: Client, changes: dict[str, str]) -> None:
    reply = await stranger.post(LOGIN, data=FORM | changes)
    body = assert_refused(reply, 401, "INVALID_CREDENTIALS")
    assert body["message"] == "The user name or the password is wrong."


async def test_disabled_users_do_not_get_in(rt: Runtime, world: World, stranger: Client) -> None:
    ann = world.red.ann
    await rt.db.write(mailboxes.disable, ann.account_id, ann.id, rt.clock.now())
    assert_refused(await stranger.post(LOGIN, data=FORM), 401, "INVALID_CREDENTIALS")


async def test_failures_are_limited(clock: ManualClock, stranger: Client) -> None:
    for number in range(10):
        stranger.peer = f"203.0.113.{number}"
        await stranger.post(LOGIN, data=FORM | {"password": "wrong horse"})
    stranger.peer = "203.0.113.99"
    reply = await stranger.post(LOGIN, data=FORM)
    assert_refused(reply, 429, "RATE_LIMITED")
    assert reply.headers["retry-after"] == "60"
    clock.advance(timedelta(minutes=1))
    assert (await stranger.post(LOGIN, data=FORM)).status == 200


async def test_logins_are_limited(rt: Runtime, stranger: Client) -> None:
    limits = replace(rt.config.limits.mail_api, logins_per_peer_per_minute=2)
    config = replace(rt.config, limits=replace(rt.config.limits, mail_api=limits))
    other = replace(rt, config=config)
    client = Client(asgi.build(other, Metrics(other)))
    for _ in range(2):
        assert (await client.post(LOGIN, data=FORM)).status == 200
    reply = await client.post(LOGIN, data=FORM)
    assert_refused(reply, 429, "RATE_LIMITED")
    assert reply.headers["retry-after"] == "60"


async def test_an_administrators_session_is_the_operators(rt: Runtime, world: World, stranger: Client) -> None:
    ann, now = world.red.ann, rt.clock.now()
    await rt.db.write(mailboxes.set_role, ann.account_id, ann.id, "admin", now)
    body = (await stranger.post(LOGIN, data=FORM)).json()
    assert body["token_type"] == "admin"
    session = stranger.with_token(body["token"])
    assert (await session.get("/api/v1/domains/pending")).status == 200
    await rt.db.write(mailboxes.set_role, ann.account_id, ann.id, "user", now)
    assert_refused(await session.get("/api/v1/domains/pending"), 401, "TOKEN_EXPIRED")


async def test_other_tokens_do_not_log_out(client: Client, admin: Client) -> None:
    for one in (client, admin):
        assert_refused(await one.post("/api/v1/auth/logout"), 409, "NOT_A_SESSION")
        assert (await one.get(ME)).status == 200


async def test_me(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    await rt.db.write(grant, world.red, "view_stats", rt.clock.now())
    body = (await client.get(ME)).json()
    created_at = body["permissions"][0].pop("created_at")
    assert created_at.endswith("Z")
    assert body == {
        "success": True,
        "email": "ann@red.example",
        "name": "Ann",
        "token_type": "user",
        "domain": "red.example",
        "permissions": [{"email": "ann@red.example", "domain": "red.example", "permission": "view_stats"}],
        "api_key_prefix": None,
        "expires_at": None,
    }
    assert (await admin.get(ME)).json() == {
        "success": True, "email": None, "name": "My API Token", "token_type": "admin", "domain": None,
        "permissions": [], "api_key_prefix": None, "expires_at": None,
    }  # fmt: skip


async def test_the_permanent_key(client: Client, admin: Client) -> None:
    for caller, kind in ((client, "user"), (admin, "admin")):
        reply = await caller.post("/api/v1/auth/regenerate-key")
        first = reply.json()
        assert list(first) == ["success", "token", "token_prefix", "message"]
        assert reply.headers["cache-control"] == "no-store"
        holder = caller.with_token(first["token"])
        assert (await holder.get(ME)).json()["api_key_prefix"] == first["token_prefix"] == first["token"][:8]
        second = (await holder.post("/api/v1/auth/regenerate-key")).json()
        assert_refused(await holder.get(ME), 401, "INVALID_TOKEN")
        assert (await caller.with_token(second["token"]).get("/api/v1/tokens/me")).json()["token_type"] == kind
        assert (await caller.get(ME)).json()["api_key_prefix"] == second["token_prefix"]
