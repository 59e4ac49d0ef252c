"""Tokens: made, listed, changed, deleted; by their users and by the operator."""

from datetime import timedelta
from typing import Any

import pytest

from restante.clock import ManualClock
from restante.core import tokens
from restante.runtime import Runtime
from tests.api.mail_api.sample import Client, World, assert_refused

TOKENS = "/api/v1/tokens"
ITEM = [
    "id", "token_prefix", "token_type", "email", "name", "is_active", "rate_limit", "created_at", "last_used_at",
    "expires_at",
]  # fmt: skip


async def test_a_token_is_made_and_shown_once(clock: ManualClock, client: Client) -> None:
    expires_at = (clock.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    reply = await client.post(TOKENS, data={"name": "newsletter", "expires_at": expires_at})
    body = reply.json()
    assert reply.status == 201
    assert list(body) == ["success", "token", "info"]
    assert list(body["info"]) == ITEM
    assert len(body["token"]) == 43
    assert reply.headers["cache-control"] == "no-store"
    info = body["info"]
    assert (info["token_type"], info["email"], info["name"]) == ("user", "ann@red.example", "newsletter")
    assert (info["is_active"], info["last_used_at"], info["expires_at"]) == (True, None, expires_at)
    shown = await client.get(f"{TOKENS}/{info['id']}")
    assert shown.json() == {"success": True, "token": info}
    assert body["token"] not in shown.body.decode()
    used = client.with_token(body["token"])
    assert (await used.get(f"{TOKENS}/me")).json()["id"] == info["id"]
    clock.advance(timedelta(days=2))
    assert_refused(await used.get(f"{TOKENS}/me"), 401, "TOKEN_EXPIRED")


async def test_lists(world: World, client: Client, admin: Client) -> None:
    await admin.post(TOKENS, data={"name": "bob", "email": "bob@red.example"})
    own = (await client.get(TOKENS)).json()
    assert list(own) == ["success", "total", "tokens"]
    assert [(one["email"], one["name"]) for one in own["tokens"]] == [("ann@red.example", "red token")]
    assert (await client.get(f"{TOKENS}?email=ANN@red.example")).json()["total"] == 1
    assert_refused(await client.get(f"{TOKENS}?email=bob@red.example"), 403, "ACCESS_DENIED")
    every = (await admin.get(f"{TOKENS}?limit=2&offset=1")).json()
    assert (every["total"], len(every["tokens"])) == (4, 2)
    assert (await admin.get(f"{TOKENS}?email=bob@red.example")).json()["total"] == 1
    assert_refused(await admin.get(f"{TOKENS}?email=nobody@red.example"), 404, "MAILBOX_NOT_FOUND")


async def test_an_admin_makes_both_kinds(client: Client, admin: Client) -> None:
    made = (await admin.post(TOKENS, data={"email": "ann@red.example", "rate_limit": 5})).json()
    assert (made["info"]["token_type"], made["info"]["email"], made["info"]["rate_limit"]) == (
        "user", "ann@red.example", 5,
    )  # fmt: skip
    made = (await admin.post(TOKENS, data={})).json()
    assert (made["info"]["token_type"], made["info"]["email"]) == ("admin", None)
    assert (await admin.with_token(made["token"]).get("/api/v1/domains/pending")).status == 200
    mine = (await client.post(TOKENS, data={})).json()["info"]
    assert (mine["token_type"], mine["email"]) == ("user", "ann@red.example")


async def test_a_token_is_switched_off_and_on(client: Client) -> None:
    made = (await client.post(TOKENS, data={"name": "x"})).json()
    where, used = f"{TOKENS}/{made['info']['id']}", client.with_token(made["token"])
    changed = await client.call("PUT", where, data={"is_active": False})
    assert changed.json()["token"] == made["info"] | {"is_active": False}
    assert_refused(await used.get(f"{TOKENS}/me"), 401, "TOKEN_EXPIRED")
    changed = await client.call("PUT", where, data={"is_active": True, "name": "y"})
    assert changed.json()["token"] == made["info"] | {"name": "y"}
    assert (await used.get(f"{TOKENS}/me")).status == 200
    gone = await used.call("DELETE", where)
    assert gone.json()["message"] == f"Token {made['token'][:8]} has been deleted"
    assert_refused(await used.get(f"{TOKENS}/me"), 401, "INVALID_TOKEN")
    for method in ("GET", "DELETE"):
        assert_refused(await client.call(method, where), 404, "TOKEN_NOT_FOUND")


async def test_expiry_is_set_and_taken_away(clock: ManualClock, client: Client) -> None:
    made = (await client.post(TOKENS, data={})).json()["info"]
    where = f"{TOKENS}/{made['id']}"
    moment = (clock.now() + timedelta(hours=1)).replace(microsecond=0)
    changed = await client.call("PUT", where, data={"expires_at": moment.isoformat()})
    assert changed.json()["token"]["expires_at"] == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await client.call("PUT", where, data={"expires_at": None})).json()["token"]["expires_at"] is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2040-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"rate_limit": -1}, "rate_limit"),
        ({"email": 7}, "email"),
    ],
)
async def test_what_cannot_be(admin: Client, data: dict[str, Any], field: str) -> None:
    body = assert_refused(await admin.post(TOKENS, data=data), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == [field]


async def test_users_set_no_rate_limits(client: Client) -> None:
    assert_refused(await client.post(TOKENS, data={"rate_limit": 0}), 403, "ACCESS_DENIED")
    made = (await client.post(TOKENS, data={})).json()["info"]
    for limit in (0, 7, None):
        reply = await client.call("PUT", f"{TOKENS}/{made['id']}", data={"rate_limit": limit})
        assert_refused(reply, 403, "ACCESS_DENIED")


async def test_too_many(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_OF_MAILBOX", 2)
    assert (await client.post(TOKENS, data={})).status == 201
    assert_refused(await client.post(TOKENS, data={}), 422, "LIMIT_EXCEEDED")


async def test_tokens_of_other_dialects_are_not_here(
    rt: Runtime, world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tokens._MAKERS, "trekmail", lambda: "tm_live_x")
    token, _ = await rt.db.write(tokens.create, world.red.account.id, "trekmail", "admin", "other", rt.clock.now())
    assert_refused(await admin.get(f"{TOKENS}/{token.id}"), 404, "TOKEN_NOT_FOUND")
    assert (await admin.get(TOKENS)).json()["total"] == 3
