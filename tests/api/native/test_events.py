"""The event log over HTTP: pages, filters, refusals, other tenants, limits, the document."""

from dataclasses import replace
from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import events, mailboxes, messages, tokens
from restante.core.event_types import TYPES
from restante.core.messages import Flag
from restante.errors import Invalid
from restante.http.front import Front
from restante.ids import TokenId
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import Client, Reply, Tenant, letter, put
from tests.api.native.client import Native


def assert_problem(reply: Reply, status: int, code: str) -> None:
    body = reply.json()
    assert (reply.status, body["code"], body["status"]) == (status, code, status), body
    assert reply.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:restante:problem:{code}"
    assert body["title"]
    assert body["detail"]


async def test_what_happened_is_told_in_order(rt: Runtime, owner: Native, red: Tenant) -> None:
    one = await put(rt, red.ann, letter())
    await rt.db.write(
        messages.set_flags, red.account.id, red.ann.id, [one.message_id], add=Flag.SEEN, now=rt.clock.now()
    )
    reply = await owner.get("/events?types=message.*")
    assert reply.status == 200
    body = reply.json()
    assert list(body) == ["events", "cursor", "is_last"]
    assert body["is_last"] is True
    received, read, flagged = body["events"]
    assert list(received) == ["id", "type", "version", "created_at", "mailbox", "data"]
    assert (received["type"], received["version"], received["mailbox"]) == ("message.received", 1, "ann@red.example")
    assert received["data"]["id"] == one.public_id
    assert received["created_at"].endswith("Z")
    assert (read["type"], flagged["type"]) == ("message.read", "message.flagged")
    assert flagged["data"]["flags"] == ["\\Seen"]
    assert body["cursor"] == flagged["id"]
    again = (await owner.get(f"/events?after={body['cursor']}")).json()
    assert again == {"events": [], "cursor": body["cursor"], "is_last": True}


async def test_pages_join(rt: Runtime, owner: Native, red: Tenant) -> None:
    for _ in range(5):
        await put(rt, red.ann, letter())
    cursor, seen = 0, []
    while not (page := (await owner.get(f"/events?after={cursor}&limit=2")).json())["is_last"]:
        assert len(page["events"]) == 2
        seen += page["events"]
        cursor = page["cursor"]
    seen += page["events"]
    assert [item["id"] for item in seen] == list(range(1, len(seen) + 1))


async def test_a_mailbox_token_sees_its_mailbox(rt: Runtime, ann: Native, red: Tenant) -> None:
    await put(rt, red.bob, letter())
    await put(rt, red.ann, letter())
    shown = (await ann.get("/events")).json()["events"]
    assert {item["mailbox"] for item in shown} == {"ann@red.example"}
    assert_problem(await ann.get("/events?mailbox=bob@red.example"), 404, "mailbox_not_found")


async def test_an_account_asks_for_one_mailbox(rt: Runtime, owner: Native, red: Tenant, blue: Tenant) -> None:
    await put(rt, red.bob, letter())
    await put(rt, red.ann, letter())
    shown = (await owner.get("/events?types=message.received&mailbox=BOB@red.example")).json()["events"]
    assert [item["mailbox"] for item in shown] == ["bob@red.example"]
    foreign, missing = "/events?mailbox=ann@blue.example", "/events?mailbox=ann@nowhere.example"
    assert (await owner.get(foreign)).json() == (await owner.get(missing)).json()


async def test_another_account_tells_nothing(rt: Runtime, owner: Native, red: Tenant, blue: Tenant) -> None:
    await put(rt, blue.ann, letter())
    shown = (await owner.get("/events")).json()["events"]
    assert shown
    assert not any("blue" in str(item) for item in shown)


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("after=-1", "invalid", "after"),
        ("after=x", "invalid", "after"),
        ("after=99999999999999999999", "invalid", "after"),
        ("after=1000", "invalid_cursor", "after"),
        ("limit=0", "invalid", "limit"),
        ("limit=1001", "invalid", "limit"),
        ("types=nothing", "unknown_event_type", "types"),
        ("types=" + "a" * 1001, "invalid", "types"),
    ],
)
async def test_wrong_fields_are_named(owner: Native, query: str, code: str, field: str) -> None:
    reply = await owner.get(f"/events?{query}")
    assert_problem(reply, 422, code)
    assert [item["field"] for item in reply.json()["errors"]] == [field]


async def test_who_is_nobody_learns_nothing(app: Front, red: Tenant) -> None:
    reply = await Native(app, None).get("/events")
    assert_problem(reply, 401, "no_token")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert_problem(await Native(app, "rst_unknown").get("/events"), 401, "invalid_token")
    assert_problem(await Native(app, red.token).get("/events"), 401, "invalid_token")  # of another dialect
    assert_problem(await Native(app, None).get("/nothing"), 404, "not_found")


async def test_a_revoked_token_ends(rt: Runtime, app: Front, owner: Native, red: Tenant) -> None:
    held = await rt.db.read(tokens.list_tokens, red.account.id)
    native = next(token for token in held if token.dialect == "native")
    await rt.db.write(tokens.revoke, red.account.id, TokenId(native.id), rt.clock.now())
    assert_problem(await owner.get("/events"), 401, "token_expired")


async def test_the_last_use_is_noted_once_a_minute(rt: Runtime, owner: Native, red: Tenant, clock: ManualClock) -> None:
    async def noted() -> object:
        held = await rt.db.read(tokens.list_tokens, red.account.id)
        return next(token.last_used_at for token in held if token.dialect == "native")

    assert await noted() is None
    await owner.get("/events")
    first = clock.now()
    assert await noted() == first
    clock.advance(timedelta(seconds=59))
    await owner.get("/events")
    assert await noted() == first
    clock.advance(timedelta(seconds=1))
    await owner.get("/events")
    assert await noted() == clock.now()


async def test_a_token_is_held_to_its_scopes(rt: Runtime, app: Front, red: Tenant) -> None:
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "", now, scopes=["messages:read"])
    narrow = Native(app, plain)
    refused = await narrow.get("/events")
    assert_problem(refused, 403, "scope_missing")
    assert refused.json()["errors"] == [{"field": "scope", "reason": "events:read"}]
    assert (await narrow.post("/mailboxes/ann@red.example/wait", data={"timeout_seconds": 0})).status == 200


@pytest.mark.parametrize("scopes", [["a b"], ["x:" + "y" * 99], [f"a:b{'c' * n}" for n in range(1, 60)], [""]])
async def test_scopes_are_names(rt: Runtime, red: Tenant, scopes: list[str]) -> None:
    with pytest.raises(Invalid):
        await rt.db.write(tokens.create, red.account.id, "native", "user", "", rt.clock.now(), scopes=scopes)


async def test_the_minute_is_counted(rt: Runtime, red: Tenant) -> None:
    limits = replace(rt.config.limits, native=replace(rt.config.limits.native, requests_per_minute=2))
    config = replace(rt.config, limits=limits)
    strict = replace(rt, config=config)
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "", rt.clock.now())
    client = Native(asgi.build(strict, Metrics(strict)), plain)
    first = await client.get("/events")
    assert first.headers["ratelimit-policy"] == '"minute";q=2;w=60'
    assert first.headers["ratelimit"] == '"minute";r=1;t=60'
    await client.get("/events")
    third = await client.get("/events")
    assert_problem(third, 429, "rate_limited")
    assert third.headers["retry-after"] == "60"


async def test_a_cursor_of_the_past_is_told(rt: Runtime, owner: Native, red: Tenant, clock: ManualClock) -> None:
    clock.advance(timedelta(days=60))
    await rt.db.write(events.prune, red.account.id, clock.now() - timedelta(days=30), 1000, 1000)
    assert_problem(await owner.get("/events?after=1"), 410, "events_pruned")


async def test_a_removed_mailbox_has_no_address(rt: Runtime, owner: Native, red: Tenant) -> None:
    await rt.db.write(mailboxes.remove, red.account.id, red.bob.id, rt.clock.now())
    shown = (await owner.get("/events?types=mailbox.*")).json()["events"]
    assert [(item["type"], item["mailbox"]) for item in shown if item["data"].get("address") == "bob@red.example"] == [
        ("mailbox.created", None),
        ("mailbox.removed", None),
    ]


async def test_the_document_tells_every_body(app: Front) -> None:
    document = (await Client(app).get("/openapi/native.json")).json()
    paths = {
        "/restante/v1/events",
        "/restante/v1/mailboxes/{address}/wait",
        "/restante/v1/messages/{id}/explain",
    }
    assert paths <= set(document["paths"])
    assert {kind.body.__name__ for kind in TYPES.values()} <= set(document["components"]["schemas"])
