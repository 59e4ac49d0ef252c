"""Webhooks over HTTP: shapes, changes, keys, calls, refusals, other tenants, hostile input."""

from dataclasses import replace
from typing import Any

import pytest

from restante.core import events, tokens, webhooks
from restante.core.events import NewEvent
from restante.http.front import Front
from restante.jobs.turns import Turns
from restante.jobs.webhooks import Courier
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from tests.api.mail_api.sample import Reply, Tenant
from tests.api.native.client import Native
from tests.api.native.test_events import assert_problem
from tests.receiver import receiving

URL = "https://hook.example/in"
NEW = {"url": URL, "types": ["message.*"]}
ITEM = [
    "id", "url", "description", "types", "mailbox", "is_ordered", "status", "cursor", "failures", "failing_since",
    "retry_at", "created_at", "updated_at",
]  # fmt: skip


async def added(owner: Native, **more: Any) -> dict[str, Any]:
    reply = await owner.post("/webhooks", data=NEW | more)
    assert reply.status == 201, reply.body
    found: dict[str, Any] = reply.json()
    return found


async def patch(owner: Native, made: dict[str, Any], **data: Any) -> Reply:
    return await owner.call("PATCH", f"/webhooks/{made['webhook']['id']}", data=data)


async def test_create_show_list(owner: Native, red: Tenant) -> None:
    made = await added(owner, description="Orders", mailbox="ann@red.example", is_ordered=True)
    assert list(made) == ["webhook", "secret"]
    assert made["secret"].startswith("whsec_")
    item = made["webhook"]
    assert list(item) == ITEM
    assert (item["url"], item["types"], item["mailbox"]) == (URL, ["message.*"], "ann@red.example")
    assert (item["status"], item["is_ordered"], item["failures"]) == ("active", True, 0)
    assert (await owner.get(f"/webhooks/{item['id']}")).json() == item
    other = (await added(owner))["webhook"]
    assert (await owner.get("/webhooks")).json() == {"webhooks": [item, other]}


async def test_change(owner: Native) -> None:
    made = await added(owner, mailbox="ann@red.example")
    changed = (await patch(owner, made, types=["token.*", "token.created"], mailbox=None, status="disabled")).json()
    assert (changed["types"], changed["mailbox"]) == (["token.*", "token.created"], None)
    assert (changed["status"], changed["url"]) == ("disabled", URL)
    place = f"/webhooks/{made['webhook']['id']}"
    assert_problem(await owner.post(place + "/test"), 409, "webhook_not_active")
    assert_problem(await owner.post(place + "/redeliver", data={"dead": True}), 409, "webhook_not_active")
    assert (await patch(owner, made, status="active")).json()["status"] == "active"
    assert_problem(await patch(owner, made, url="http://user:x@hook.example/"), 422, "invalid_url")
    assert_problem(await patch(owner, made, types=[]), 422, "invalid")
    assert_problem(await patch(owner, made, status="broken"), 422, "invalid")
    assert_problem(await patch(owner, made, mailbox="ann@blue.example"), 404, "mailbox_not_found")


async def test_remove(owner: Native) -> None:
    made = await added(owner)
    place = f"/webhooks/{made['webhook']['id']}"
    assert (await owner.call("DELETE", place)).json() == {"id": made["webhook"]["id"], "removed": True}
    assert_problem(await owner.call("DELETE", place), 404, "webhook_not_found")
    assert (await owner.get("/webhooks")).json() == {"webhooks": []}


async def test_a_repeated_request_has_its_effect_once(owner: Native) -> None:
    key = {"idempotency-key": "one"}
    first = await owner.post("/webhooks", data=NEW, headers=key)
    again = await owner.post("/webhooks", data=NEW, headers=key)
    assert first.json() == again.json()
    assert len((await owner.get("/webhooks")).json()["webhooks"]) == 1
    other = await owner.post("/webhooks", data=NEW | {"description": "x"}, headers=key)
    assert_problem(other, 409, "idempotency_conflict")
    place = f"/webhooks/{first.json()['webhook']['id']}"
    rotated = [(await owner.post(place + "/rotate-secret", headers=key)).json()["secret"] for _ in range(2)]
    assert rotated[0] == rotated[1] != first.json()["secret"]
    tested = [(await owner.post(place + "/test", headers=key)).json()["call"] for _ in range(2)]
    assert tested[0] == tested[1]
    assert_problem(await owner.post("/webhooks", data=NEW, headers={"idempotency-key": ""}), 422, "invalid")


async def test_calls_and_calling_again(rt: Runtime, owner: Native, red: Tenant) -> None:
    rt = replace(rt, config=replace(rt.config, egress=replace(rt.config.egress, allow=("127.0.0.0/8",))))
    courier = Courier(rt, Turns(rt.pressure))
    async with receiving() as receiver:
        made = await added(owner, url=receiver.url, types=["mailbox.quota_set"])
        place = f"/webhooks/{made['webhook']['id']}"
        facts = [NewEvent("mailbox.quota_set", {"quota_bytes": n}, red.ann.id) for n in range(5)]
        last = await rt.db.write(events.record_all, red.account.id, facts, now=rt.clock.now())
        reply = await owner.post(place + "/test")
        assert (reply.status, reply.json()) == (202, {"call": last + 1})
        await courier.run_due()
        page = (await owner.get(place + "/calls?limit=4")).json()
        assert list(page) == ["calls", "cursor", "is_last"]
        assert [one["call"] for one in page["calls"]] == list(range(last - 4, last))
        assert list(page["calls"][0]) == [
            "call", "type", "status", "attempts", "created_at", "next_attempt_at", "finished_at",
        ]  # fmt: skip
        assert (page["calls"][0]["type"], page["calls"][0]["status"]) == ("mailbox.quota_set", "delivered")
        rest = (await owner.get(f"{place}/calls?limit=4&after={page['cursor']}")).json()
        assert [one["type"] for one in rest["calls"]] == ["mailbox.quota_set", "webhook.tested"]
        assert rest["is_last"] is True
        assert (await owner.get(place + "/calls?status=dead")).json()["calls"] == []
        shown = (await owner.get(f"{place}/calls/{last}")).json()
        assert list(shown["attempts"][0]) == ["attempt", "attempted_at", "duration_ms", "status", "error", "answer"]
        again = await owner.post(place + "/redeliver", data={"call": last})
        assert (again.status, again.json()) == (202, {"calls": 1})
        assert (await owner.post(place + "/redeliver", data={"from": 1, "to": last - 1})).json() == {"calls": 4}
        assert (await owner.post(place + "/redeliver", data={"dead": True})).json() == {"calls": 0}
        await courier.run_due()
        assert sorted(receiver.numbers) == sorted([*range(last - 4, last + 1)] * 2 + [last + 1])
        assert len((await owner.get(f"{place}/calls/{last}")).json()["attempts"]) == 2
    await courier.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://x.example/"},
        {"url": "http://x.example/\r\nX: y"},
        {"url": "http://x.example/" + "x" * 2000},
        {"url": 7},
        {"types": []},
        {"types": ["message.gone"]},
        {"types": ["message.*"] * 51},
        {"types": ["message.*\0"]},
        {"description": "x" * 201},
        {"description": "a\r\nb"},
        {"description": "a\0b"},
        {"is_ordered": 1},
        {"mailbox": "ann@red.example", "more": 1},
    ],
)
async def test_a_wrong_webhook_is_refused(rt: Runtime, owner: Native, wrong: dict[str, Any]) -> None:
    reply = await owner.post("/webhooks", data=NEW | wrong)
    assert reply.status == 422, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert (await owner.get("/webhooks")).json() == {"webhooks": []}


@pytest.mark.parametrize(
    "wrong",
    [{}, {"call": 0}, {"call": 1, "dead": True}, {"from": 1}, {"from": 2, "to": 1}, {"call": 2**63}, {"call": "1"}],
)
async def test_wrong_calls_are_refused(owner: Native, wrong: dict[str, Any]) -> None:
    made = await added(owner)
    reply = await owner.post(f"/webhooks/{made['webhook']['id']}/redeliver", data=wrong)
    assert_problem(reply, 422, "invalid")


async def test_what_is_not_there(owner: Native) -> None:
    made = await added(owner)
    place = f"/webhooks/{made['webhook']['id']}"
    for call in ("1", "x", "-1", "9" * 30, "%00"):
        assert_problem(await owner.get(f"{place}/calls/{call}"), 404, "call_not_found")
    assert_problem(await owner.post(place + "/redeliver", data={"call": 1}), 404, "call_not_found")
    assert_problem(await owner.get(place + "/calls?status=gone"), 422, "invalid")
    assert_problem(await owner.get(place + "/calls?limit=1001"), 422, "invalid")
    for name in ("x", "0" * 40, "00000000-0000-0000-0000-000000000000"):
        assert_problem(await owner.get(f"/webhooks/{name}"), 404, "webhook_not_found")


ROUTES = [
    ("GET", "", None), ("PATCH", "", {"description": "x"}), ("DELETE", "", None), ("POST", "/rotate-secret", None),
    ("POST", "/test", None), ("POST", "/redeliver", {"dead": True}), ("GET", "/calls", None), ("GET", "/calls/1", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "rest", "data"), ROUTES)
async def test_others_have_no_part_in_it(
    rt: Runtime, app: Front, owner: Native, ann: Native, blue: Tenant, red: Tenant, method: str, rest: str, data: Any
) -> None:
    """Another account's token, a mailbox's token, one without the scope, none."""
    made = await added(owner)
    target = f"/webhooks/{made['webhook']['id']}{rest}"
    before = await rt.db.read(_rows, red)
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, blue.account.id, "native", "user", "x", now)
    assert_problem(await Native(app, plain).call(method, target, data=data), 404, "webhook_not_found")
    assert_problem(await ann.call(method, target, data=data), 403, "access_denied")
    wrong = "webhooks:write" if method == "GET" else "webhooks:read"
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "x", now, scopes=[wrong])
    assert_problem(await Native(app, plain).call(method, target, data=data), 403, "scope_missing")
    assert_problem(await Native(app, None).call(method, target, data=data), 401, "no_token")
    assert await rt.db.read(_rows, red) == before


def _rows(conn: ReadConn, tenant: Tenant) -> list[webhooks.Webhook]:
    return webhooks.list_webhooks(conn, tenant.account.id)


async def test_an_account_has_so_many(owner: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_WEBHOOKS", 2)
    await added(owner)
    made = await added(owner)
    assert_problem(await owner.post("/webhooks", data=NEW), 422, "too_many_webhooks")
    await owner.call("DELETE", f"/webhooks/{made['webhook']['id']}")
    await added(owner)


async def test_what_happens_to_webhooks_is_told(owner: Native) -> None:
    made = await added(owner)
    await patch(owner, made, description="x")
    place = f"/webhooks/{made['webhook']['id']}"
    await owner.post(place + "/rotate-secret")
    await owner.post(place + "/test")
    await owner.call("DELETE", place)
    told = (await owner.get("/events?types=webhook.*")).json()["events"]
    assert [one["type"] for one in told] == [
        "webhook.created", "webhook.updated", "webhook.secret_rotated", "webhook.tested", "webhook.removed",
    ]  # fmt: skip
    assert made["secret"] not in str(told)
