"""Permissions: granted one by one, listed, revoked (bulk: test_administration)."""

from restante.core import events
from restante.ids import EventNumber
from restante.runtime import Runtime
from tests.api.mail_api.sample import Client, World, assert_refused

PERMISSIONS = "/api/v1/permissions"
GRANT = {"email": "ann@red.example", "permission": "view_mailbox", "domain": "blue.example"}


async def test_granted_used_and_revoked(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    first = await admin.post(PERMISSIONS, data=GRANT)
    assert (first.status, first.json()["granted"], first.json()["skipped"]) == (201, ["view_mailbox"], [])
    again = await admin.post(PERMISSIONS, data=GRANT)
    assert (again.status, again.json()["granted"], again.json()["skipped"]) == (201, [], ["view_mailbox"])
    assert (await client.get("/api/v1/mailbox/ann@blue.example/folders")).status == 200
    where = f"{PERMISSIONS}/ANN@red.example?domain=Blue.example&permission=view_mailbox"
    gone = await admin.call("DELETE", where)
    assert gone.json() == {
        "success": True, "message": "view_mailbox over blue.example has been taken from ann@red.example",
    }  # fmt: skip
    assert_refused(await client.get("/api/v1/mailbox/ann@blue.example/folders"), 403, "ACCESS_DENIED")
    assert_refused(await admin.call("DELETE", where), 404, "PERMISSION_NOT_FOUND")
    page = await rt.db.read(events.list_after, world.red.account.id, EventNumber(0), 100)
    assert [event.type for event in page.events][-2:] == ["permission.granted", "permission.revoked"]


async def test_lists(client: Client, admin: Client) -> None:
    for email, domain in (("bob@red.example", "red.example"), ("ann@red.example", "blue.example")):
        await admin.post(PERMISSIONS, data=GRANT | {"email": email, "domain": domain})
    body = (await admin.get(PERMISSIONS)).json()
    assert list(body) == ["success", "total", "permissions"]
    assert [list(one) for one in body["permissions"]] == [["email", "domain", "permission", "created_at"]] * 2
    assert [one["email"] for one in body["permissions"]] == ["ann@red.example", "bob@red.example"]
    assert (await admin.get(f"{PERMISSIONS}?limit=1&offset=1")).json()["permissions"] == body["permissions"][1:]
    assert (await admin.get(f"{PERMISSIONS}?domain=blue.example")).json()["total"] == 1
    assert_refused(await admin.get(f"{PERMISSIONS}?domain=nowhere.example"), 404, "DOMAIN_NOT_FOUND")
    own = (await client.get(f"{PERMISSIONS}/ann@red.example")).json()
    assert own == {"success": True, "total": 1, "permissions": body["permissions"][:1]}
    assert_refused(await client.get(f"{PERMISSIONS}/bob@red.example"), 403, "ACCESS_DENIED")
    assert (await admin.get(f"{PERMISSIONS}/bob@red.example")).json()["total"] == 1


async def test_catalogue(client: Client) -> None:
    body = (await client.get(f"{PERMISSIONS}/catalogue")).json()
    assert [one["permission"] for one in body["permissions"]] == [
        "manage_users", "manage_domains", "view_mailbox", "view_stats", "send_mail",
    ]  # fmt: skip
    assert all(one["description"] for one in body["permissions"])


async def test_what_is_refused(admin: Client) -> None:
    for changes, status, code in (
        ({"permission": "fly"}, 400, "INVALID_PERMISSION"),
        ({"email": "nobody@red.example"}, 404, "USER_NOT_FOUND"),
        ({"domain": "nowhere.example"}, 404, "DOMAIN_NOT_FOUND"),
        ({"permission": ["view_mailbox"]}, 422, "VALIDATION_ERROR"),
    ):
        assert_refused(await admin.post(PERMISSIONS, data=GRANT | changes), status, code)
    where = f"{PERMISSIONS}/ann@red.example"
    assert_refused(await admin.call("DELETE", where), 422, "VALIDATION_ERROR")
    assert_refused(await admin.call("DELETE", f"{where}?domain=red.example&permission=fly"), 400, "INVALID_PERMISSION")
