"""Domains: added, shown, verified, deleted; their catch-all and their DNS records."""

import pytest

from restante.http.front import Front
from restante.runtime import Runtime
from tests.api.mail_api.sample import Client, World, assert_refused, grant, letter, put
from tests.fakes import FakeResolver

DOMAINS = "/api/v1/domains"
RED = f"{DOMAINS}/red.example"


@pytest.fixture
async def manager(rt: Runtime, world: World, client: Client) -> Client:
    """Red's Ann, who manages red.example."""
    await rt.db.write(grant, world.red, "manage_domains", rt.clock.now())
    return client


async def test_a_domain_is_added_with_its_key(admin: Client) -> None:
    reply = await admin.post(DOMAINS, data={"domain": "New.example.", "account": "blue"})
    body = reply.json()
    assert reply.status == 201
    assert list(body) == [
        "success", "domain", "active", "dns_status", "dns_checked_at", "created", "creator_email", "catch_all",
    ]  # fmt: skip
    assert (body["domain"], body["active"], body["dns_status"]) == ("new.example", True, "pending")
    records = (await admin.get(f"{DOMAINS}/new.example/dns")).json()["records"]
    assert [one["purpose"] for one in records] == ["proof", "reception", "spf", "dkim", "dmarc"]
    assert [list(one) for one in records] == [["purpose", "type", "name", "value"]] * 5
    assert (await admin.post("/api/v1/users", data={"email": "a@new.example"})).status == 201
    forced = (await admin.post(DOMAINS, data={"domain": "forced.example", "force": True})).json()
    assert forced["dns_status"] == "forced"
    assert_refused(await admin.post(DOMAINS, data={"domain": "NEW.example"}), 409, "DOMAIN_EXISTS")
    for wrong in ("", "a b", "1.2.3.4", "x" * 500, "a\0.example"):
        assert_refused(await admin.post(DOMAINS, data={"domain": wrong}), 400, "INVALID_DOMAIN")
    for unknown in ("green", "a\0b", ""):
        reply = await admin.post(DOMAINS, data={"domain": "other.example", "account": unknown})
        assert_refused(reply, 404, "NOT_FOUND")


async def test_lists(manager: Client, admin: Client) -> None:
    body = (await manager.get(DOMAINS)).json()
    assert list(body) == ["success", "total", "domains"]
    created = body["domains"][0].pop("created")
    assert created.endswith("Z")
    assert body["domains"] == [{"domain": "red.example", "active": True, "dns_status": "forced", "creator_email": None}]
    assert [one["domain"] for one in (await admin.get(f"{DOMAINS}?limit=1")).json()["domains"]] == ["blue.example"]
    assert (await admin.get(f"{DOMAINS}?offset=5")).json() == {"success": True, "total": 2, "domains": []}
    assert_refused(await admin.get(f"{DOMAINS}?limit=201"), 422, "VALIDATION_ERROR")


async def test_without_a_grant_there_is_nothing(client: Client) -> None:
    assert_refused(await client.get(DOMAINS), 403, "ACCESS_DENIED")
    for name in ("red.example", "blue.example", "nowhere.example"):
        assert_refused(await client.get(f"{DOMAINS}/{name}"), 403, "ACCESS_DENIED")


async def test_whoever_signed_up_sees_the_records_before_the_approval(client: Client) -> None:
    form = {"domain": "yourdomain.com", "email": "admin@yourdomain.com", "password": "correct horse"}
    own = client.with_token((await client.post("/api/v1/auth/signup", data=form)).json()["token"])
    shown = (await own.get(f"{DOMAINS}/yourdomain.com")).json()
    assert (shown["active"], shown["creator_email"]) == (False, "admin@yourdomain.com")
    records = (await own.get(f"{DOMAINS}/yourdomain.com/dns")).json()["records"]
    assert [one["purpose"] for one in records] == ["proof", "reception", "spf", "dmarc"]


async def test_catch_all(manager: Client, admin: Client) -> None:
    body = (await manager.call("PUT", RED, data={"catch_all": "BOB@red.example"})).json()
    assert body["catch_all"] == "bob@red.example"
    assert (await manager.call("PUT", RED, data={})).json() == body == (await manager.get(RED)).json()
    for caller in (manager, admin):
        for foreign in ("ann@blue.example", "nobody@red.example", "nonsense", "a\0b@red.example"):
            reply = await caller.call("PUT", RED, data={"catch_all": foreign})
            assert_refused(reply, 404, "USER_NOT_FOUND")
    assert (await manager.call("PUT", RED, data={"catch_all": None})).json()["catch_all"] is None


async def test_verification(rt: Runtime, resolver: FakeResolver, admin: Client) -> None:
    await admin.post(DOMAINS, data={"domain": "new.example"})
    where = f"{DOMAINS}/new.example/verify"
    wanted = {one["purpose"]: one for one in (await admin.get(f"{DOMAINS}/new.example/dns")).json()["records"]}
    body = (await admin.post(where)).json()
    assert list(body) == ["success", "domain", "active", "dns_status", "verified", "records"]
    assert (body["active"], body["dns_status"], body["verified"]) == (True, "pending", False)
    assert [(one["status"], one["found"]) for one in body["records"]] == [("missing", [])] * 5

    dkim = wanted["dkim"]
    resolver.zone |= {
        ("new.example", "MX"): ["20 MAIL.example.test"],
        ("new.example", "TXT"): ["hello", "v=spf1 include:other.example -all"],
        (dkim["name"], "TXT"): [dkim["value"].replace("p=", " p = ")],
        ("_dmarc.new.example", "TXT"): ["v=DMARC1; p=reject"],
        ("_restante.new.example", "TXT"): None,
    }
    body = (await admin.post(where)).json()
    assert body["dns_status"] == "pending"
    assert {one["purpose"]: one["status"] for one in body["records"]} == {
        "proof": "unanswered", "reception": "ok", "spf": "different", "dkim": "ok", "dmarc": "ok",
    }  # fmt: skip
    assert body["records"][2]["found"] == ["v=spf1 include:other.example -all"]

    resolver.zone[("_restante.new.example", "TXT")] = [wanted["proof"]["value"]]
    resolver.zone[("new.example", "TXT")] = [wanted["spf"]["value"]]
    body = (await admin.post(where)).json()
    assert (body["dns_status"], body["verified"]) == ("verified", True)

    resolver.zone[("new.example", "TXT")] = [wanted["spf"]["value"], "v=spf1 -all"]
    resolver.zone[(dkim["name"], "TXT")] = ["v=DKIM1; k=rsa; p=AAAA"]
    resolver.zone[("new.example", "MX")] = ["10 elsewhere.example"]
    resolver.zone[("_restante.new.example", "TXT")] = ["restante-verify=another"]
    body = (await admin.post(where)).json()
    assert {one["status"] for one in body["records"][:4]} == {"different"}
    assert body["dns_status"] == "verified"


async def test_the_proof_may_stand_at_the_domain_itself(resolver: FakeResolver, admin: Client) -> None:
    await admin.post(DOMAINS, data={"domain": "new.example"})
    proof = (await admin.get(f"{DOMAINS}/new.example/dns")).json()["records"][0]
    resolver.zone[("new.example", "TXT")] = [proof["value"]]
    body = (await admin.post(f"{DOMAINS}/new.example/verify")).json()
    assert (body["dns_status"], body["records"][0]["status"]) == ("verified", "ok")


async def test_deletion(rt: Runtime, world: World, app: Front, manager: Client, admin: Client) -> None:
    await put(rt, world.blue.ann, letter())
    assert_refused(await manager.call("DELETE", RED), 403, "ACCESS_DENIED")
    assert_refused(await admin.call("DELETE", f"{DOMAINS}/blue.example"), 409, "DOMAIN_NOT_EMPTY")
    gone = await admin.call("DELETE", f"{DOMAINS}/blue.example?with_mail=true")
    assert gone.json() == {"success": True, "message": "Domain blue.example has been deleted"}
    assert_refused(await admin.get(f"{DOMAINS}/blue.example"), 404, "DOMAIN_NOT_FOUND")
    assert_refused(await Client(app, world.blue.token).get("/api/v1/auth/me"), 401, "INVALID_TOKEN")
