"""Automations over HTTP: shapes, changes, keys, runs, refusals, other tenants, hostile input."""

from typing import Any

import pytest

from restante.core import automations, tokens
from restante.http.front import Front
from restante.jobs.automations import Courier, Follower
from restante.jobs.turns import Turns
from restante.runtime import Runtime
from restante.services import automations as service
from tests.api.mail_api.sample import Reply, Tenant
from tests.api.native.client import Native
from tests.api.native.test_events import assert_problem
from tests.makers import arrive

URL = "https://app.example/in"
ITEM = [
    "id", "title", "sender", "inbox", "subject", "has_attachments", "url", "payload_format", "has_secret_token",
    "forward_to", "deletes", "emails_received", "in_error", "last_error", "retry_at", "created_at", "updated_at",
]  # fmt: skip


async def added(owner: Native, **more: Any) -> dict[str, Any]:
    reply = await owner.post("/automations", data={"title": "Orders"} | more)
    assert reply.status == 201, reply.body
    found: dict[str, Any] = reply.json()
    return found


async def patch(owner: Native, made: dict[str, Any], **data: Any) -> Reply:
    return await owner.call("PATCH", f"/automations/{made['automation']['id']}", data=data)


async def test_create_show_list(owner: Native) -> None:
    made = await added(owner, url=URL, subject="^order", has_attachments=True, secret_token="s3cret", deletes=True)
    assert list(made) == ["automation", "secret"]
    assert made["secret"].startswith("whsec_")
    item = made["automation"]
    assert list(item) == ITEM
    assert (item["title"], item["subject"], item["sender"], item["inbox"]) == ("Orders", "^order", None, None)
    assert (item["url"], item["payload_format"], item["has_secret_token"]) == (URL, "json", True)
    assert (item["has_attachments"], item["deletes"], item["forward_to"]) == (True, True, None)
    assert "s3cret" not in str(made)
    assert (await owner.get(f"/automations/{item['id']}")).json() == item
    other = (await added(owner))["automation"]
    assert (await owner.get("/automations")).json() == {"automations": [item, other]}


async def test_change(rt: Runtime, owner: Native, red: Tenant) -> None:
    made = await added(owner, url=URL, secret_token="s3cret", sender="@shop")
    changed = (await patch(owner, made, title="Other", subject="x", sender=None)).json()
    assert (changed["title"], changed["subject"], changed["sender"], changed["url"]) == ("Other", "x", None, URL)
    (kept,) = await rt.db.read(automations.list_automations, red.account.id)
    assert service.find_token(rt, kept) == "s3cret", "what is not named stays"
    assert (await patch(owner, made, secret_token=None)).json()["has_secret_token"] is False
    moved = (await patch(owner, made, url=None, forward_to="carol@far.example")).json()
    assert (moved["url"], moved["forward_to"]) == (None, "carol@far.example")
    assert_problem(await patch(owner, made, url=URL), 422, "invalid")
    assert_problem(await patch(owner, made, title=""), 422, "invalid")
    assert_problem(await patch(owner, made, title=None), 422, "invalid")
    assert_problem(await patch(owner, made, emails_received=1), 422, "invalid")


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({}, "invalid", "title"),
        ({"title": "\r\n"}, "invalid", "title"),
        ({"title": "x" * 256}, "invalid", "title"),
        ({"subject": "("}, "invalid_pattern", "subject"),
        ({"sender": "(?=a)"}, "invalid_pattern", "sender"),
        ({"inbox": "a" * 501}, "invalid", "inbox"),
        ({"inbox": "a\u0000b"}, "invalid_pattern", "inbox"),
        ({"subject": "((((x{9}){9}){9}){9}){9}"}, "invalid_pattern", "subject"),
        ({"secret_token": "a\r\nX-Evil: 1"}, "invalid", "secret_token"),
        ({"secret_token": "é"}, "invalid", "secret_token"),
        ({"url": "file:///etc/passwd"}, "invalid_url", "url"),
        ({"url": "http://u:p@app.example/"}, "invalid_url", "url"),
        ({"forward_to": "nobody"}, "invalid", "forward_to"),
        ({"forward_to": "a@b.example\r\nBcc: c@d.example"}, "invalid", "forward_to"),
        ({"forward_to": "a@b.example", "url": URL}, "invalid", "forward_to"),
        ({"payload_format": "xml"}, "invalid", "payload_format"),
        ({"has_attachments": "maybe"}, "invalid", "has_attachments"),
    ],
)
async def test_what_is_wrong_is_named(owner: Native, data: dict[str, Any], code: str, field: str) -> None:
    reply = await owner.post("/automations", data=({"title": "Orders"} if data else {}) | data)
    assert_problem(reply, 422, code)
    assert field in str(reply.json())
    assert (await owner.get("/automations")).json() == {"automations": []}


async def test_remove(owner: Native) -> None:
    made = await added(owner)
    place = f"/automations/{made['automation']['id']}"
    assert (await owner.call("DELETE", place)).json() == {"id": made["automation"]["id"], "removed": True}
    assert_problem(await owner.call("DELETE", place), 404, "automation_not_found")
    assert (await owner.get("/automations")).json() == {"automations": []}


async def test_a_repeated_request_has_its_effect_once(owner: Native) -> None:
    key = {"idempotency-key": "one"}
    new = {"title": "Orders", "url": URL, "secret_token": "s3cret"}
    first = await owner.post("/automations", data=new, headers=key)
    again = await owner.post("/automations", data=new, headers=key)
    assert first.json() == again.json()
    assert len((await owner.get("/automations")).json()["automations"]) == 1
    other = await owner.post("/automations", data=new | {"title": "x"}, headers=key)
    assert_problem(other, 409, "idempotency_conflict")
    place = f"/automations/{first.json()['automation']['id']}"
    rotated = [(await owner.post(place + "/rotate-secret", headers=key)).json()["secret"] for _ in range(2)]
    assert rotated[0] == rotated[1] != first.json()["secret"]


async def test_runs(rt: Runtime, owner: Native, red: Tenant) -> None:
    made = await added(owner, subject="hello")
    stored = [await arrive(rt, red.ann) for _ in range(3)]
    await Follower(rt, Turns(rt.pressure)).run_due()
    courier = Courier(rt, Turns(rt.pressure))
    await courier.run_due()
    await courier.close()
    place = f"/automations/{made['automation']['id']}"
    assert (await owner.get(place)).json()["emails_received"] == 3
    page = (await owner.get(place + "/runs?limit=2")).json()
    assert list(page) == ["runs", "cursor", "is_last"]
    assert [one["message"] for one in page["runs"]] == [one.public_id for one in stored[:2]]
    assert list(page["runs"][0]) == [
        "run", "message", "status", "attempts", "http_status", "error", "answer", "created_at", "next_attempt_at",
        "finished_at",
    ]  # fmt: skip
    assert (page["runs"][0]["status"], page["is_last"]) == ("done", False)
    rest = (await owner.get(f"{place}/runs?limit=2&after={page['cursor']}")).json()
    assert ([one["message"] for one in rest["runs"]], rest["is_last"]) == ([stored[2].public_id], True)
    assert (await owner.get(place + "/runs?status=failed")).json()["runs"] == []
    assert_problem(await owner.get(place + "/runs?status=lost"), 422, "invalid")


async def test_an_account_has_so_many(owner: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automations, "MAX_AUTOMATIONS", 2)
    await added(owner)
    made = await added(owner)
    assert_problem(await owner.post("/automations", data={"title": "x"}), 422, "too_many_automations")
    await owner.call("DELETE", f"/automations/{made['automation']['id']}")
    await added(owner)


async def test_what_is_not_there(owner: Native) -> None:
    for name in ("x", "0" * 40, "00000000-0000-0000-0000-000000000000"):
        assert_problem(await owner.get(f"/automations/{name}"), 404, "automation_not_found")
        assert_problem(await owner.get(f"/automations/{name}/runs"), 404, "automation_not_found")


ROUTES = [
    ("GET", "", None), ("PATCH", "", {"title": "x"}), ("DELETE", "", None), ("POST", "/rotate-secret", None),
    ("GET", "/runs", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "rest", "data"), ROUTES)
async def test_others_have_no_part_in_it(
    rt: Runtime, app: Front, owner: Native, ann: Native, blue: Tenant, red: Tenant, method: str, rest: str, data: Any
) -> None:
    """Another account's token, a mailbox's token, one without the scope, none."""
    made = await added(owner)
    target = f"/automations/{made['automation']['id']}{rest}"
    before = await rt.db.read(automations.list_automations, red.account.id)
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, blue.account.id, "native", "user", "x", now)
    assert_problem(await Native(app, plain).call(method, target, data=data), 404, "automation_not_found")
    assert_problem(await ann.call(method, target, data=data), 403, "access_denied")
    wrong = "automations:write" if method == "GET" else "automations:read"
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "x", now, scopes=[wrong])
    assert_problem(await Native(app, plain).call(method, target, data=data), 403, "scope_missing")
    assert_problem(await Native(app, None).call(method, target, data=data), 401, "no_token")
    assert await rt.db.read(automations.list_automations, red.account.id) == before
