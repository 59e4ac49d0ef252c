"""Automations through the MailCare API: fields, forms of bodies, the two bases, bad input, other teams."""

import json
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from restante.core import automations
from restante.http.front import Front
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from tests.api.mail_api.sample import Reply, Tenant
from tests.api.mailcare.client import Caller
from tests.api.mailcare.conftest import holder

FULL: dict[str, Any] = {
    "title": "Save pdf invoices",
    "sender": "shop@example.com",
    "inbox": "claire@example.com",
    "subject": "New invoice",
    "has_attachments": True,
    "action_url": "https://example.com/webhooks/save-pdf-invoices",
    "action_secret_token": "SECRET12345$",
    "action_delete_email": False,
    "payload_format": "json",
}
KINDS = {
    "id": str, "title": str, "sender": str, "inbox": str, "subject": str, "has_attachments": bool, "action_url": str,
    "action_secret_token": str, "payload_format": str, "action_delete_email": bool, "emails_received": int,
    "created_at": str, "updated_at": str, "action_email": type(None), "post_raw": bool, "in_error": bool,
}  # fmt: skip
URL = {"action_url": "https://example.com/x"}


async def send(caller: Caller, method: str = "POST", target: str = "/automations", **data: Any) -> Reply:
    return await caller.call(method, target, data=data)


async def shown(caller: Caller) -> list[dict[str, Any]]:
    reply = await caller.get("/automations")
    assert (reply.status, list(reply.json())) == (200, ["data"])
    found: list[dict[str, Any]] = reply.json()["data"]
    return found


async def test_the_seeds_automation(team: Caller) -> None:
    reply = await send(team, **FULL)
    assert (reply.status, list(reply.json())) == (201, ["data"])
    made = reply.json()["data"]
    assert {name: type(value) for name, value in made.items()} == KINDS
    assert list(made) == list(KINDS)
    assert {name: made[name] for name in FULL} == FULL
    assert (made["emails_received"], made["in_error"], made["post_raw"]) == (0, False, False)
    assert await shown(team) == [made]


async def test_a_title_is_enough_at_the_hosted_base(team: Caller) -> None:
    made = (await send(team, title="Count")).json()["data"]
    absent = ("sender", "inbox", "subject", "action_url", "action_secret_token", "action_email")
    assert {made[name] for name in absent} == {None}
    assert (made["has_attachments"], made["action_delete_email"], made["payload_format"]) == (False, False, "json")


async def test_the_older_base_answers_with_nothing(ann: Caller) -> None:
    reply = await send(ann, title="Old", **URL)
    assert (reply.status, reply.body) == (200, b"")
    (made,) = await shown(ann)
    reply = await send(ann, "PUT", f"/automations/{made['id']}", title="New", **URL)
    assert (reply.status, reply.body) == (200, b"")
    assert [one["title"] for one in await shown(ann)] == ["New"]


async def test_the_older_base_wants_an_action(ann: Caller) -> None:
    reply = await send(ann)
    assert (reply.status, reply.json()) == (
        422,
        {
            "message": "The given data was invalid.",
            "errors": {
                "title": ["The title field is required."],
                "action_url": ["The action url field is required when action email is not present."],
            },
        },
    )
    assert (await send(ann, title="Forward", action_email="bob@example.org")).status == 200
    assert [(one["action_email"], one["action_url"]) for one in await shown(ann)] == [("bob@example.org", None)]


async def test_change_replaces_everything(team: Caller) -> None:
    made = (await send(team, **FULL)).json()["data"]
    reply = await send(team, "PUT", f"/automations/{made['id']}", title="Other", payload_format="json_with_bodies")
    changed = reply.json()["data"]
    assert (reply.status, changed["id"], changed["title"]) == (200, made["id"], "Other")
    assert changed["payload_format"] == "json_with_bodies"
    for name in ("sender", "inbox", "subject", "action_url", "action_secret_token"):
        assert changed[name] is None
    assert changed["has_attachments"] is False
    assert await shown(team) == [changed]
    reply = await send(team, "PUT", f"/automations/{made['id']}")
    assert reply.json()["errors"] == {"title": ["The title field is required."]}
    assert await shown(team) == [changed]


async def test_remove(either: Caller) -> None:
    await send(either, title="x", **URL)
    (made,) = await shown(either)
    place = f"/automations/{made['id']}"
    reply = await either.call("DELETE", place)
    assert (reply.status, reply.body) == (200, b"")
    assert await shown(either) == []
    for method, data in (("DELETE", None), ("PUT", {"title": "x", **URL})):
        reply = await either.call(method, place, data=data)
        assert (reply.status, reply.json()) == (
            404, {"message": f"No query results for model [App\\Automation] {made['id']}"},
        )  # fmt: skip


async def test_automations_of_another_team_are_none(rt: Runtime, app: Front, team: Caller, blue: Tenant) -> None:
    others = await holder(rt, app, blue)
    made = (await send(others, **FULL)).json()["data"]
    for wanted in (made["id"], str(uuid4()), "7", "x" * 5000, "%00"):
        for method, data in (("DELETE", None), ("PUT", FULL)):
            reply = await team.call(method, f"/automations/{wanted}", data=data)
            assert reply.status == 404
            assert reply.json()["message"].startswith("No query results for model [App\\Automation] ")
    assert await shown(team) == []
    assert await shown(others) == [made]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/vnd.mailcare.v1+json", "application/json; charset=utf-8"]
)
async def test_bodies_in_json(team: Caller, kind: str) -> None:
    reply = await team.call("POST", "/automations", body=json.dumps(FULL).encode(), headers={"content-type": kind})
    assert reply.status == 201


async def test_bodies_of_forms(either: Caller) -> None:
    fields = {name: value for name, value in FULL.items() if not isinstance(value, bool)} | {
        "has_attachments": "1", "action_delete_email": "0", "inbox": "", "payload_format": "", "post_raw": "true",
    }  # fmt: skip
    kind = {"content-type": "application/x-www-form-urlencoded"}
    reply = await either.call("POST", "/automations", body=urlencode(fields).encode(), headers=kind)
    assert reply.status in (200, 201)
    (made,) = await shown(either)
    assert (made["has_attachments"], made["action_delete_email"], made["inbox"]) == (True, False, None)
    assert (made["payload_format"], made["post_raw"]) == ("raw", True)


TRUTHS = {True: (True, 1, "1", "true"), False: (False, 0, "0", "false", "", None)}


@pytest.mark.parametrize(("value", "truth"), [(value, truth) for truth, values in TRUTHS.items() for value in values])
async def test_truth_values(team: Caller, value: Any, truth: bool) -> None:
    made = (await send(team, title="x", has_attachments=value, action_delete_email=value)).json()["data"]
    assert made["has_attachments"] is made["action_delete_email"] is truth


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": ""}, "title"),
        ({"title": 7}, "title"),
        ({"title": "x" * 256}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": None}, "title"),
        ({"sender": ["x"]}, "sender"),
        ({"subject": "("}, "subject"),
        ({"subject": "x" * 60_000}, "subject"),
        ({"inbox": "a{1000}{1000}{1000}"}, "inbox"),
        ({"sender": "a\0b"}, "sender"),
        ({"has_attachments": "maybe"}, "has_attachments"),
        ({"has_attachments": []}, "has_attachments"),
        ({"action_delete_email": {}}, "action_delete_email"),
        ({"action_url": "no url"}, "action_url"),
        ({"action_url": "ftp://example.com/"}, "action_url"),
        ({"action_url": "http://user:x@example.com/"}, "action_url"),
        ({"action_secret_token": "a\r\nX-Evil: 1"}, "action_secret_token"),
        ({"action_secret_token": "x" * 10_000}, "action_secret_token"),
        ({"payload_format": "xml"}, "payload_format"),
        ({"action_email": "nobody"}, "action_email"),
        ({"action_email": "a@b.example", "action_url": "https://example.com/"}, "action_email"),
    ],
)
async def test_wrong_fields_are_named_and_change_nothing(
    rt: Runtime, team: Caller, red: Tenant, fields: dict[str, Any], named: str
) -> None:
    reply = await send(team, **({"title": "x"} | fields))
    assert reply.status == 422, reply.body
    assert reply.json()["message"] == "The given data was invalid."
    assert list(reply.json()["errors"]) == [named]
    assert await rt.db.read(count, red) == 0


def count(conn: ReadConn, tenant: Tenant) -> int:
    return len(automations.list_automations(conn, tenant.account.id))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"7", "application/json", 422),
        (b"title=x", "text/plain", 415),
        (b"&".join(b"a%d=1" % one for one in range(200)), "application/x-www-form-urlencoded", 422),
        (b"title=" + b"x" * 65_536, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_bodies_that_are_none(team: Caller, body: bytes, kind: str, status: int) -> None:
    reply = await team.call("POST", "/automations", body=body, headers={"content-type": kind})
    assert reply.status == status
    assert "message" in reply.json()
    assert await shown(team) == []


async def test_titles_lose_line_ends(team: Caller) -> None:
    made = (await send(team, title="Save\r\nX-Evil: 1")).json()["data"]
    assert not {"\r", "\n"} & set(made["title"])


async def test_too_many(team: Caller) -> None:
    for number in range(automations.MAX_AUTOMATIONS):
        assert (await send(team, title=f"number {number}")).status == 201
    reply = await send(team, title="one more")
    assert (reply.status, reply.json()["errors"]) == (422, {})
    assert "50" in reply.json()["message"]
