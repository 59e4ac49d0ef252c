"""Tokens, rate limits and their headers; the order in which a call is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import accounts, mailboxes, permissions, tokens
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, grant

LIMIT_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-policy")


@pytest.mark.parametrize(
    "header", [{}, {"x-mailapi-token": ""}, {"x-mailapi-token": "  "}, {"authorization": "Bearer x"}]
)
async def test_no_token(client: Client, header: dict[str, str]) -> None:
    assert_refused(await client.with_token(None).get(f"{ANN}/folders", headers=header), 401, "NO_API_TOKEN")


async def test_a_token_in_the_query_is_none(world: World, client: Client) -> None:
    target = f"{ANN}/folders?X-MAILAPI-TOKEN={world.red.token}&token={world.red.token}"
    assert_refused(await client.with_token(None).get(target), 401, "NO_API_TOKEN")


@pytest.mark.parametrize(
    "token", ["x", "x" * 43, "x" * 100_000, "\xff\xfe", "a\tb", "tm_live_abc", "'; DROP TABLE tokens"]
)
async def test_unknown_token(client: Client, token: str) -> None:
    reply = await client.with_token(token).get(f"{ANN}/folders")
    assert_refused(reply, 401, "INVALID_TOKEN")
    assert not [name for name in LIMIT_HEADERS if name in reply.headers]


async def test_a_token_is_compared_exactly(world: World, client: Client) -> None:
    for token in (world.red.token[:-1], world.red.token + "x", world.red.token.swapcase()):
        assert_refused(await client.with_token(token).get(f"{ANN}/folders"), 401, "INVALID_TOKEN")
    assert (await client.with_token(f" {world.red.token} ").get(f"{ANN}/folders")).status == 200


async def test_expired_token(rt: Runtime, clock: ManualClock, world: World, client: Client) -> None:
    ann = world.red.ann
    soon = clock.now() + timedelta(hours=12)
    _, plain = await rt.db.write(
        tokens.create, ann.account_id, "mail-api", "user", "session", clock.now(), ann.id, soon
    )
    caller = client.with_token(plain)
    assert (await caller.get("/api/v1/tokens/me")).json()["expires_at"] == soon.strftime("%Y-%m-%dT%H:%M:%SZ")
    clock.advance(timedelta(hours=12))
    assert_refused(await caller.get("/api/v1/tokens/me"), 401, "TOKEN_EXPIRED")


async def test_revoked_token_is_refused_at_once(rt: Runtime, clock: ManualClock, world: World, client: Client) -> None:
    token = (await rt.db.read(tokens.list_tokens, world.red.account.id))[0]
    assert (await client.get("/api/v1/tokens/me")).status == 200
    await rt.db.write(tokens.revoke, token.account_id, token.id, clock.now())
    assert_refused(await client.get("/api/v1/tokens/me"), 401, "TOKEN_EXPIRED")


async def test_suspended_account_and_disabled_mailbox(
    rt: Runtime, clock: ManualClock, world: World, client: Client
) -> None:
    ann = world.red.ann
    await rt.db.write(mailboxes.disable, ann.account_id, ann.id, clock.now())
    assert_refused(await client.get(f"{ANN}/folders"), 401, "TOKEN_EXPIRED")
    await rt.db.write(mailboxes.enable, ann.account_id, ann.id, clock.now())
    assert (await client.get(f"{ANN}/folders")).status == 200
    await rt.db.write(accounts.suspend, ann.account_id, clock.now())
    assert_refused(await client.get(f"{ANN}/folders"), 401, "TOKEN_EXPIRED")


async def test_limit_headers_and_429(clock: ManualClock, client: Client) -> None:
    first = await client.get(f"{ANN}/folders")
    assert [first.headers[name] for name in LIMIT_HEADERS] == [
        "100", "99", str(int(clock.now().timestamp() + 60 + 0.999)), "100;w=60, 1000;w=3600",
    ]  # fmt: skip
    for _ in range(98):
        await client.get("/api/v1/tokens/me")
    refused_too = await client.get(f"{ANN}/messages?folder=Nowhere")
    assert (refused_too.status, refused_too.headers["x-ratelimit-remaining"]) == (400, "0")
    reply = await client.get(f"{ANN}/folders")
    assert_refused(reply, 429, "RATE_LIMITED")
    assert int(reply.headers["retry-after"]) in (60, 61)
    assert reply.headers["x-ratelimit-remaining"] == "0"
    clock.advance(timedelta(seconds=int(reply.headers["retry-after"])))
    assert (await client.get(f"{ANN}/folders")).status == 200


async def test_the_limit_comes_before_validation_and_access(client: Client) -> None:
    for _ in range(100):
        await client.get("/api/v1/tokens/me")
    assert_refused(await client.get(f"{ANN}/messages?limit=0"), 429, "RATE_LIMITED")
    assert_refused(await client.get("/api/v1/domains/pending"), 429, "RATE_LIMITED")


async def test_each_token_has_limits_of_its_own(rt: Runtime, clock: ManualClock, world: World, client: Client) -> None:
    ann = world.red.ann

    async def make(rate_limit: int) -> Client:
        _, plain = await rt.db.write(
            tokens.create, ann.account_id, "mail-api", "user", "t", clock.now(), ann.id, None, rate_limit
        )
        return client.with_token(plain)

    few, unlimited = await make(2), await make(0)
    assert (await few.get("/api/v1/tokens/me")).headers["x-ratelimit-policy"] == "2;w=60"
    await few.get("/api/v1/tokens/me")
    assert_refused(await few.get("/api/v1/tokens/me"), 429, "RATE_LIMITED")
    for _ in range(150):
        reply = await unlimited.get("/api/v1/tokens/me")
        assert reply.status == 200
    assert not [name for name in LIMIT_HEADERS if name in reply.headers]
    assert (await client.get("/api/v1/tokens/me")).status == 200


async def test_limits_by_setting(rt: Runtime, world: World) -> None:
    limits = replace(rt.config.limits.mail_api, requests_per_minute=0, requests_per_hour=0, failed_auth_per_minute=0)
    config = replace(rt.config, limits=replace(rt.config.limits, mail_api=limits))
    other = replace(rt, config=config)
    client = Client(asgi.build(other, Metrics(other)), world.red.token)
    for _ in range(101):
        assert (await client.get("/api/v1/tokens/me")).status == 200
    for _ in range(25):
        assert_refused(await client.with_token("x").get("/api/v1/tokens/me"), 401, "INVALID_TOKEN")


async def test_failed_authentications_of_a_peer_are_counted(clock: ManualClock, client: Client) -> None:
    stranger = client.with_token("x" * 43)
    for _ in range(20):
        assert_refused(await stranger.get("/api/v1/tokens/me"), 401, "INVALID_TOKEN")
    reply = await stranger.get("/api/v1/tokens/me")
    assert_refused(reply, 429, "RATE_LIMITED")
    assert "retry-after" in reply.headers
    assert (await client.get("/api/v1/tokens/me")).status == 200, "a good token is not shut out by a neighbour"
    stranger.peer = "203.0.113.10"
    assert_refused(await stranger.get("/api/v1/tokens/me"), 401, "INVALID_TOKEN")
    stranger.peer = client.peer
    clock.advance(timedelta(seconds=61))
    assert_refused(await stranger.get("/api/v1/tokens/me"), 401, "INVALID_TOKEN")


async def test_me(rt: Runtime, clock: ManualClock, world: World, client: Client, admin: Client) -> None:
    body = (await admin.get("/api/v1/tokens/me")).json()
    assert list(body) == [
        "id", "token_prefix", "token_type", "email", "name", "is_active", "created_at", "last_used_at", "expires_at",
    ]  # fmt: skip
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert body["token_prefix"] == world.admin_token[:8]
    assert (body["token_type"], body["email"], body["name"], body["is_active"]) == ("admin", None, "My API Token", True)
    assert (body["created_at"], body["last_used_at"], body["expires_at"]) == (now, now, None)
    mine = (await client.get("/api/v1/tokens/me")).json()
    assert (mine["token_type"], mine["email"]) == ("user", "ann@red.example")


async def test_the_last_use_is_noted_once_a_minute(
    rt: Runtime, clock: ManualClock, world: World, client: Client
) -> None:
    async def noted() -> object:
        return (await rt.db.read(tokens.list_tokens, world.red.account.id))[0].last_used_at

    await client.get("/api/v1/tokens/me")
    first = clock.now()
    assert await noted() == first
    clock.advance(timedelta(seconds=59))
    await client.get("/api/v1/tokens/me")
    assert await noted() == first
    clock.advance(timedelta(seconds=1))
    await client.get("/api/v1/tokens/me")
    assert await noted() == clock.now()


async def test_view_mailbox_reaches_the_domain_and_no_further(rt: Runtime, world: World, client: Client) -> None:
    bob, foreign = "/api/v1/mailbox/bob@red.example/folders", "/api/v1/mailbox/ann@blue.example/folders"
    assert_refused(await client.get(bob), 403, "ACCESS_DENIED")
    await rt.db.write(grant, world.red, permissions.VIEW_STATS, rt.clock.now())
    assert_refused(await client.get(bob), 403, "ACCESS_DENIED")
    await rt.db.write(grant, world.red, permissions.VIEW_MAILBOX, rt.clock.now())
    assert (await client.get(bob)).status == 200
    assert_refused(await client.get(foreign), 403, "ACCESS_DENIED")


async def test_missing_and_foreign_mailboxes_look_the_same(client: Client, admin: Client) -> None:
    texts = set()
    for email in (
        "nobody@red.example",
        "bob@red.example",
        "ann@blue.example",
        "x@nowhere.example",
        "7",
        "%00",
        "a" * 9000,
    ):
        body = assert_refused(await client.get(f"/api/v1/mailbox/{email}/folders"), 403, "ACCESS_DENIED")
        texts.add(body["message"])
    assert len(texts) == 1
    for email in ("nobody@red.example", "7", "x@nowhere.example", "%00", "a@", "@b"):
        assert_refused(await admin.get(f"/api/v1/mailbox/{email}/folders"), 404, "MAILBOX_NOT_FOUND")
