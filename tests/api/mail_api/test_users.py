"""Users: made, found, changed, disabled, deleted; their passwords, quotas and aliases."""

from typing import Any

import pytest

from restante.clock import ManualClock
from restante.core import events, mailboxes
from restante.http.front import Front
from restante.ids import EventNumber
from restante.runtime import Runtime
from restante.services import authentication
from tests.api.mail_api.sample import Client, World, assert_refused, grant, letter, put

USERS = "/api/v1/users"
BOB = f"{USERS}/bob@red.example"
LOGIN = "/api/v1/auth/login"


@pytest.fixture
async def manager(rt: Runtime, world: World, client: Client) -> Client:
    """Red's Ann, who manages the users of red.example."""
    await rt.db.write(grant, world.red, "manage_users", rt.clock.now())
    return client


async def test_a_user_is_made(manager: Client) -> None:
    data = {"email": "Eve@Red.example", "password": "correct horse", "name": "Eve", "quota": 1000}
    reply = await manager.post(USERS, data=data)
    body = reply.json()
    assert reply.status == 201
    assert list(body) == ["success", "user", "aliases"]
    created_at = body["user"].pop("created_at")
    assert created_at.endswith("Z")
    assert body["user"] == {
        "email": "eve@red.example", "name": "Eve", "domain": "red.example", "role": "user", "active": True,
        "has_password": True, "quota": 1000, "used": 0, "messages": 0,
    }  # fmt: skip
    session = (await manager.post(LOGIN, data={"email": "eve@red.example", "password": "correct horse"})).json()
    own = (await manager.with_token(session["token"]).get(f"{USERS}/eve@red.example")).json()
    assert own["user"]["email"] == "eve@red.example"
    assert_refused(await manager.post(USERS, data=data), 409, "EMAIL_EXISTS")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"email": "nonsense"}, 422, "VALIDATION_ERROR"),
        ({"email": "a b@red.example"}, 422, "VALIDATION_ERROR"),
        ({"email": "a\0@red.example"}, 422, "VALIDATION_ERROR"),
        ({"password": "short"}, 400, "WEAK_PASSWORD"),
        ({"name": "a\0b"}, 422, "VALIDATION_ERROR"),
        ({"name": "x" * 256}, 422, "VALIDATION_ERROR"),
        ({"quota": -1}, 422, "VALIDATION_ERROR"),
        ({"role": "god"}, 422, "VALIDATION_ERROR"),
        ({"role": "admin"}, 403, "ACCESS_DENIED"),
        ({"role": "member"}, 403, "ACCESS_DENIED"),
        ({"email": "eve@blue.example"}, 403, "ACCESS_DENIED"),
        ({"email": "eve@nowhere.example"}, 403, "ACCESS_DENIED"),
        ({"email": "ann@red.example"}, 409, "EMAIL_EXISTS"),
    ],
)
async def test_users_that_cannot_be(manager: Client, changes: dict[str, Any], status: int, code: str) -> None:
    data = {"email": "eve@red.example", "password": "correct horse"} | changes
    body = assert_refused(await manager.post(USERS, data=data), status, code)
    if code == "VALIDATION_ERROR":
        assert list(body["fields"]) == list(changes)


async def test_the_operator_makes_admins_and_hears_of_missing_domains(admin: Client) -> None:
    made = await admin.post(USERS, data={"email": "boss@red.example", "role": "admin"})
    assert (made.json()["user"]["role"], made.json()["user"]["has_password"]) == ("admin", False)
    reply = await admin.post(USERS, data={"email": "eve@nowhere.example"})
    assert_refused(reply, 404, "DOMAIN_NOT_FOUND")


async def test_lists(manager: Client, admin: Client) -> None:
    body = (await manager.get(USERS)).json()
    assert list(body) == ["success", "total", "users"]
    assert [one["email"] for one in body["users"]] == ["ann@red.example", "bob@red.example"]
    assert (await admin.get(USERS)).json()["total"] == 4
    assert [one["email"] for one in (await admin.get(f"{USERS}?limit=1&offset=2")).json()["users"]] == [
        "bob@blue.example"
    ]
    assert (await admin.get(f"{USERS}?domain=BLUE.example")).json()["total"] == 2
    assert (await admin.get(f"{USERS}?q=ANN%40red")).json()["total"] == 1
    assert (await admin.get(f"{USERS}?q=%25")).json()["total"] == 0
    assert (await admin.get(f"{USERS}?q=%00")).json()["total"] == 0
    await manager.post(f"{BOB}/disable")
    assert [one["email"] for one in (await manager.get(f"{USERS}?status=disabled")).json()["users"]] == [
        "bob@red.example"
    ]
    for wrong in ("limit=0", "limit=201", "offset=-1", "status=asleep", "domain=" + "x" * 1001):
        assert_refused(await manager.get(f"{USERS}?{wrong}"), 422, "VALIDATION_ERROR")
    for foreign in ("blue.example", "nowhere.example"):
        assert_refused(await manager.get(f"{USERS}?domain={foreign}"), 403, "ACCESS_DENIED")
    assert_refused(await admin.get(f"{USERS}?domain=nowhere.example"), 404, "DOMAIN_NOT_FOUND")


async def test_without_a_grant_one_sees_oneself_alone(client: Client) -> None:
    assert (await client.get(f"{USERS}/ann@red.example")).json()["user"]["name"] == "Ann"
    assert_refused(await client.get(USERS), 403, "ACCESS_DENIED")
    assert_refused(await client.get(BOB), 403, "ACCESS_DENIED")


async def test_who_sees_all_mail_is_for_admins_alone(rt: Runtime, world: World, manager: Client, admin: Client) -> None:
    """Whoever sets a member's password reads all mail of the account."""
    assert (await admin.call("PUT", BOB, data={"role": "member"})).json()["user"]["role"] == "member"
    for method, path in (("PUT", "/password"), ("PUT", ""), ("POST", "/enable"), ("DELETE", "")):
        reply = await manager.call(method, BOB + path, data={"password": "a password of theirs"} if path else {})
        assert_refused(reply, 403, "ACCESS_DENIED")
    assert (await admin.call("PUT", BOB, data={"role": "user"})).status == 200
    assert (await manager.call("PUT", f"{BOB}/password", data={"password": "a password of theirs"})).status == 200


async def test_an_address_with_a_slash(rt: Runtime, world: World, admin: Client) -> None:
    assert (await admin.post(USERS, data={"email": "a/b@red.example"})).status == 201
    assert (await admin.get(f"{USERS}/a/b@red.example")).json()["user"]["email"] == "a/b@red.example"
    assert (await admin.post(f"{USERS}/a%2Fb@red.example/disable")).json()["user"]["active"] is False


async def test_changes_and_their_events(rt: Runtime, world: World, manager: Client, admin: Client) -> None:
    changed = await manager.call("PUT", BOB, data={"name": "Robert", "quota": 5})
    assert (changed.json()["user"]["name"], changed.json()["user"]["quota"]) == ("Robert", 5)
    assert (await manager.call("PUT", BOB, data={})).json() == changed.json()
    assert (await manager.call("PUT", f"{BOB}/quota", data={"quota": None})).json()["user"]["quota"] is None
    assert_refused(await manager.call("PUT", f"{BOB}/quota", data={}), 422, "VALIDATION_ERROR")
    for role in ("user", "member", "admin"):
        assert_refused(await manager.call("PUT", BOB, data={"role": role}), 403, "ACCESS_DENIED")
    assert (await admin.call("PUT", BOB, data={"role": "admin"})).json()["user"]["role"] == "admin"
    assert_refused(await manager.call("PUT", BOB, data={"name": "x"}), 403, "ACCESS_DENIED")
    page = await rt.db.read(events.list_after, world.red.account.id, EventNumber(0), 100)
    assert [event.type for event in page.events][-4:] == [
        "mailbox.name_set", "mailbox.quota_set", "mailbox.quota_set", "mailbox.role_set",
    ]  # fmt: skip


async def test_disable_and_enable(rt: Runtime, world: World, app: Front, manager: Client) -> None:
    token = (await manager.post("/api/v1/auth/regenerate-key")).json()["token"]
    assert (await manager.with_token(token).post(f"{USERS}/ann@red.example/disable")).json()["user"]["active"] is False
    assert_refused(await manager.with_token(token).get("/api/v1/auth/me"), 401, "TOKEN_EXPIRED")
    ann = world.red.ann
    await rt.db.write(mailboxes.enable, ann.account_id, ann.id, rt.clock.now())
    for action, is_active in (("disable", False), ("disable", False), ("enable", True)):
        assert (await manager.post(f"{BOB}/{action}")).json()["user"]["active"] is is_active


async def test_a_manager_sets_passwords_and_sessions_end(manager: Client) -> None:
    for password in ("correct horse", "another horse"):
        reply = await manager.call("PUT", f"{BOB}/password", data={"password": password})
        assert reply.json() == {"success": True, "message": "The password of bob@red.example has been changed"}
        session = (await manager.post(LOGIN, data={"email": "bob@red.example", "password": password})).json()["token"]
    assert (await manager.with_token(session).get("/api/v1/auth/me")).status == 200
    await manager.call("PUT", f"{BOB}/password", data={"password": "third horse"})
    assert_refused(await manager.with_token(session).get("/api/v1/auth/me"), 401, "INVALID_TOKEN")
    assert_refused(await manager.call("PUT", f"{BOB}/password", data={"password": "short"}), 400, "WEAK_PASSWORD")


async def test_ones_own_password_needs_the_current_one(rt: Runtime, world: World, client: Client) -> None:
    ann, password_hash = world.red.ann, await authentication.hash_password(rt, "correct horse")
    await rt.db.write(mailboxes.set_password, ann.account_id, ann.id, password_hash, rt.clock.now())
    where, form = f"{USERS}/ann@red.example/password", {"email": "ann@red.example", "password": "correct horse"}
    other = (await client.post(LOGIN, data=form)).json()["token"]
    session = client.with_token((await client.post(LOGIN, data=form)).json()["token"])
    for given in ({}, {"current_password": "wrong horse"}):
        reply = await session.call("PUT", where, data={"password": "another horse"} | given)
        assert_refused(reply, 401, "INVALID_CREDENTIALS")
    data = {"password": "another horse", "current_password": "correct horse"}
    assert (await session.call("PUT", where, data=data)).status == 200
    assert (await session.get("/api/v1/auth/me")).status == 200
    assert_refused(await client.with_token(other).get("/api/v1/auth/me"), 401, "INVALID_TOKEN")
    assert_refused(await client.post(LOGIN, data=form), 401, "INVALID_CREDENTIALS")


async def test_aliases(rt: Runtime, world: World, manager: Client, clock: ManualClock) -> None:
    where = f"{BOB}/aliases"
    reply = await manager.call("PATCH", where, data={"add": ["Sales@red.example", "info@red.example"]})
    assert reply.json() == {
        "success": True, "email": "bob@red.example", "aliases": ["info@red.example", "sales@red.example"],
    }  # fmt: skip
    assert (await manager.get(BOB)).json()["aliases"] == ["info@red.example", "sales@red.example"]
    for wrong, status, code in (
        ({"add": ["new@red.example", "info@red.example"]}, 409, "EMAIL_EXISTS"),
        ({"add": ["new@red.example"], "remove": ["gone@red.example"]}, 404, "ALIAS_NOT_FOUND"),
        ({"remove": ["bob@red.example"]}, 404, "ALIAS_NOT_FOUND"),
        ({"add": ["new@blue.example"]}, 403, "ACCESS_DENIED"),
        ({"add": ["new@nowhere.example"]}, 403, "ACCESS_DENIED"),
        ({"add": ["nonsense"]}, 422, "VALIDATION_ERROR"),
        ({"add": ["x@red.example"] * 101}, 422, "VALIDATION_ERROR"),
    ):
        assert_refused(await manager.call("PATCH", where, data=wrong), status, code)
    kept = await manager.call("PATCH", where, data={"remove": ["sales@red.example"]})
    assert kept.json()["aliases"] == ["info@red.example"]
    assert_refused(await manager.get(f"{USERS}/info@red.example"), 403, "ACCESS_DENIED")


async def test_an_alias_of_somebody_else_stays(rt: Runtime, world: World, manager: Client) -> None:
    ann = world.red.ann
    await rt.db.write(mailboxes.add_alias, ann.account_id, "ann2@red.example", ann.id, rt.clock.now())
    reply = await manager.call("PATCH", f"{BOB}/aliases", data={"remove": ["ann2@red.example"]})
    assert_refused(reply, 404, "ALIAS_NOT_FOUND")
    assert (await manager.get(f"{USERS}/ann@red.example")).json()["aliases"] == ["ann2@red.example"]


async def test_too_many_aliases(manager: Client) -> None:
    for start in (0, 100):
        names = [f"a{start + number}@red.example" for number in range(100)]
        assert (await manager.call("PATCH", f"{BOB}/aliases", data={"add": names})).status == 200
    reply = await manager.call("PATCH", f"{BOB}/aliases", data={"add": ["more@red.example"]})
    assert_refused(reply, 422, "LIMIT_EXCEEDED")
    assert len((await manager.get(BOB)).json()["aliases"]) == 200


async def test_deletion(rt: Runtime, world: World, manager: Client, admin: Client) -> None:
    await put(rt, world.red.bob, letter())
    assert_refused(await manager.call("DELETE", BOB), 409, "MAILBOX_NOT_EMPTY")
    assert_refused(await manager.call("DELETE", f"{BOB}?with_mail=maybe"), 422, "VALIDATION_ERROR")
    gone = await manager.call("DELETE", f"{BOB}?with_mail=true")
    assert gone.json() == {"success": True, "message": "User bob@red.example has been deleted"}
    assert_refused(await manager.call("DELETE", BOB), 403, "ACCESS_DENIED")
    assert_refused(await admin.call("DELETE", BOB), 404, "USER_NOT_FOUND")
