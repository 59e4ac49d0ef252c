"""Endpoints 12 to 15: signup, permissions, pending domains, approval."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from restante.clock import ManualClock
from restante.core import domains
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import Client, World, assert_refused

SIGNUP = "/api/v1/auth/signup"
BULK = "/api/v1/permissions/bulk"
ALL = ["manage_users", "manage_domains", "view_mailbox", "view_stats", "send_mail"]


def form(domain: str = "yourdomain.com", **changes: Any) -> dict[str, Any]:
    wanted = {"domain": domain, "email": f"admin@{domain}", "password": "SecurePassword123", "name": "Your Name"}
    return {key: value for key, value in (wanted | changes).items() if value is not None}


async def test_signup(clock: ManualClock, client: Client) -> None:
    reply = await client.with_token(None).post(SIGNUP, data=form())
    body = reply.json()
    assert reply.status == 201, body
    assert list(body) == [
        "success", "token", "token_type", "email", "name", "domain", "domain_status", "expires_at", "message",
    ]  # fmt: skip
    assert body["success"] is True
    assert (body["token_type"], body["domain_status"]) == ("user", "pending")
    assert (body["email"], body["name"], body["domain"]) == ("admin@yourdomain.com", "Your Name", "yourdomain.com")
    assert body["expires_at"] == (clock.now() + timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert body["message"] == "Account created! Your domain 'yourdomain.com' is pending admin approval."
    assert len(body["token"]) == 43
    own = client.with_token(body["token"])
    assert (await own.get("/api/v1/mailbox/admin@yourdomain.com/folders")).status == 200
    assert (await own.get("/api/v1/tokens/me")).json()["token_prefix"] == body["token"][:8]
    assert reply.headers["cache-control"] == "no-store"


async def test_signup_without_a_name(client: Client) -> None:
    assert (await client.post(SIGNUP, data=form(name=None))).json()["name"] == "admin"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"email": "admin@other.com"}, 400, "EMAIL_DOMAIN_MISMATCH"),
        ({"email": "admin"}, 400, "EMAIL_DOMAIN_MISMATCH"),
        ({"password": "1234567"}, 400, "WEAK_PASSWORD"),
        ({"domain": "localhost", "email": "a@localhost"}, 400, "INVALID_DOMAIN"),
        ({"domain": "a b.com", "email": "a@a b.com"}, 400, "INVALID_DOMAIN"),
        ({"domain": "", "email": "a@"}, 400, "INVALID_DOMAIN"),
        ({"domain": "red.example", "email": "a@red.example"}, 409, "DOMAIN_EXISTS"),
        ({"domain": "RED.example.", "email": "a@red.example"}, 409, "DOMAIN_EXISTS"),
        ({"name": "x" * 256}, 422, "VALIDATION_ERROR"),
        ({"name": ""}, 422, "VALIDATION_ERROR"),
        ({"name": "a\r\nb"}, 422, "VALIDATION_ERROR"),
        ({"domain": None}, 422, "VALIDATION_ERROR"),
        ({"email": None}, 422, "VALIDATION_ERROR"),
        ({"password": None}, 422, "VALIDATION_ERROR"),
        ({"domain": 7}, 422, "VALIDATION_ERROR"),
        ({"password": ["x"]}, 422, "VALIDATION_ERROR"),
    ],
)
async def test_refused_signups(client: Client, changes: dict[str, Any], status: int, code: str) -> None:
    wanted = form() | changes
    body = assert_refused(
        await client.post(SIGNUP, data={k: v for k, v in wanted.items() if v is not None}), status, code
    )
    if code == "VALIDATION_ERROR":
        assert list(body["fields"]) == list(changes)


async def test_signup_limits(clock: ManualClock, client: Client) -> None:
    for number in range(3):
        client.peer = f"203.0.113.{number}"
        await client.post(SIGNUP, data=form("one.com", password="short"))
    client.peer = "203.0.113.99"
    reply = await client.post(SIGNUP, data=form("ONE.com."))
    assert_refused(reply, 429, "RATE_LIMITED")
    assert reply.headers["retry-after"] == "3600"
    for number, spelling in enumerate(("bücher.com", "BÜCHER.com", "xn--bcher-kva.com.")):
        client.peer = f"203.0.113.{number}"
        await client.post(SIGNUP, data=form(spelling, password="short"))
    client.peer = "203.0.113.99"
    assert_refused(await client.post(SIGNUP, data=form("Bücher.com")), 429, "RATE_LIMITED")
    client.peer = "198.51.100.1"
    for number in range(10):
        assert (await client.post(SIGNUP, data=form(f"d{number}.com", password="short"))).status == 400
    assert_refused(await client.post(SIGNUP, data=form("d11.com")), 429, "RATE_LIMITED")
    clock.advance(timedelta(hours=1))
    assert (await client.post(SIGNUP, data=form("one.com"))).status == 201


async def test_signup_switched_off(rt: Runtime, world: World) -> None:
    config = replace(rt.config, mail_api=replace(rt.config.mail_api, signup_enabled=False))
    other = replace(rt, config=config)
    client = Client(asgi.build(other, Metrics(other)))
    assert_refused(await client.post(SIGNUP, data=form()), 403, "SIGNUP_DISABLED")


async def test_pending_and_approve(clock: ManualClock, client: Client, admin: Client) -> None:
    empty = (await admin.get("/api/v1/domains/pending")).json()
    assert empty == {"success": True, "total": 0, "domains": []}
    created = []
    for name in ("newdomain.com", "another.com"):
        created.append(clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        assert (await client.post(SIGNUP, data=form(name))).status == 201
        clock.advance(timedelta(minutes=1))
    body = (await admin.get("/api/v1/domains/pending")).json()
    assert list(body) == ["success", "total", "domains"]
    assert body["total"] == 2
    assert [list(item) for item in body["domains"]] == [["domain", "active", "created", "creator_email"]] * 2
    assert body["domains"][0] == {
        "domain": "newdomain.com", "active": False, "created": created[0], "creator_email": "admin@newdomain.com",
    }  # fmt: skip
    reply = await admin.post("/api/v1/domains/newdomain.com/approve")
    approved = reply.json()
    assert reply.status == 200
    assert list(approved) == ["success", "message", "domain", "active", "dkim"]
    assert approved["message"] == "Domain newdomain.com has been approved and activated"
    assert (approved["domain"], approved["active"]) == ("newdomain.com", True)
    assert list(approved["dkim"]) == ["selector", "dns_name", "dns_value"]
    assert approved["dkim"]["dns_name"] == f"mail{clock.now():%Y%m}._domainkey.newdomain.com"
    assert approved["dkim"]["dns_value"].startswith("v=DKIM1; k=rsa; p=MII")
    left = (await admin.get("/api/v1/domains/pending")).json()
    assert [item["domain"] for item in left["domains"]] == ["another.com"]
    assert_refused(await admin.post("/api/v1/domains/newdomain.com/approve"), 409, "DOMAIN_ALREADY_ACTIVE")
    assert_refused(await admin.post("/api/v1/domains/red.example/approve"), 409, "DOMAIN_ALREADY_ACTIVE")


@pytest.mark.parametrize("name", ["unknown.com", "7", "%00", "a%20b", "x" * 5000, "%F0%9F%92%A9.example"])
async def test_approve_unknown(admin: Client, name: str) -> None:
    assert_refused(await admin.post(f"/api/v1/domains/{name}/approve"), 404, "DOMAIN_NOT_FOUND")


async def test_bulk(rt: Runtime, admin: Client, client: Client) -> None:
    first = await admin.post(
        BULK, data={"email": "ann@red.example", "permissions": ["manage_domains"], "domain": "red.example"}
    )
    assert first.status == 201
    reply = await admin.post(BULK, data={"email": "ann@red.example", "permissions": ALL, "domain": "red.example"})
    body = reply.json()
    assert reply.status == 201
    assert list(body) == ["success", "message", "granted", "skipped"]
    assert body == {
        "success": True,
        "message": "Granted 4 permissions, skipped 1 already existing",
        "granted": ["manage_users", "view_mailbox", "view_stats", "send_mail"],
        "skipped": ["manage_domains"],
    }
    again = await admin.post(
        BULK, data={"email": "ANN@red.example", "permissions": ["send_mail", "send_mail"], "domain": "Red.Example"}
    )
    assert (again.status, again.json()["skipped"], again.json()["granted"]) == (201, ["send_mail"], [])
    assert (await client.get("/api/v1/mailbox/bob@red.example/folders")).status == 200


async def test_bulk_across_domains(admin: Client, client: Client) -> None:
    foreign = "/api/v1/mailbox/ann@blue.example/folders"
    assert (await client.get(foreign)).status == 403
    data = {"email": "ann@red.example", "permissions": ["view_mailbox"], "domain": "blue.example"}
    assert (await admin.post(BULK, data=data)).status == 201
    assert (await client.get(foreign)).status == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"permissions": ["send_mail", "fly"]}, 400, "INVALID_PERMISSION"),
        ({"permissions": []}, 422, "VALIDATION_ERROR"),
        ({"permissions": "send_mail"}, 422, "VALIDATION_ERROR"),
        ({"permissions": [1]}, 422, "VALIDATION_ERROR"),
        ({"permissions": ["send_mail"] * 101}, 422, "VALIDATION_ERROR"),
        ({"permissions": None}, 422, "VALIDATION_ERROR"),
        ({"email": "nobody@red.example"}, 404, "USER_NOT_FOUND"),
        ({"email": ""}, 404, "USER_NOT_FOUND"),
        ({"domain": "unknown.com"}, 404, "DOMAIN_NOT_FOUND"),
        ({"domain": "not a domain"}, 404, "DOMAIN_NOT_FOUND"),
        ({"domain": None}, 422, "VALIDATION_ERROR"),
    ],
)
async def test_refused_bulk(admin: Client, changes: dict[str, Any], status: int, code: str) -> None:
    data = {"email": "ann@red.example", "permissions": ["send_mail"], "domain": "red.example"} | changes
    assert_refused(await admin.post(BULK, data={k: v for k, v in data.items() if v is not None}), status, code)


async def test_a_refused_bulk_grants_nothing(admin: Client) -> None:
    data = {"email": "ann@red.example", "permissions": ["send_mail", "fly"], "domain": "red.example"}
    assert_refused(await admin.post(BULK, data=data), 400, "INVALID_PERMISSION")
    again = await admin.post(BULK, data=data | {"permissions": ["send_mail"]})
    assert again.json()["granted"] == ["send_mail"]


async def test_users_administer_nothing(rt: Runtime, world: World, client: Client) -> None:
    data = {"email": "ann@red.example", "permissions": ["send_mail"], "domain": "red.example"}
    assert_refused(await client.post(BULK, data=data), 403, "ACCESS_DENIED")
    assert_refused(await client.get("/api/v1/domains/pending"), 403, "ACCESS_DENIED")
    for name in ("red.example", "unknown.com"):
        assert_refused(await client.post(f"/api/v1/domains/{name}/approve"), 403, "ACCESS_DENIED")
    assert_refused(await client.post(BULK, data={}), 422, "VALIDATION_ERROR")
    assert_refused(await client.post(BULK, body=b"{"), 400, "INVALID_JSON")


async def test_an_expired_signup_leaves_the_token_useless(rt: Runtime, clock: ManualClock, client: Client) -> None:
    token = (await client.post(SIGNUP, data=form())).json()["token"]
    await rt.db.write(drop, "yourdomain.com", clock.now())
    assert_refused(await client.with_token(token).get("/api/v1/tokens/me"), 401, "INVALID_TOKEN")


def drop(conn: Any, name: str, now: datetime) -> None:
    domain = domains.find_by_name(conn, name)
    assert domain is not None
    domains.remove(conn, domain.account_id, domain.id, now, True)
