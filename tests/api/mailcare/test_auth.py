"""Who may: tokens and their permissions, members and their passwords, teams, limits, the words of refusals."""

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from restante import errors
from restante.api.mailcare import app as mailcare
from restante.api.mailcare import auth
from restante.api.mailcare import errors as mailcare_errors
from restante.clock import ManualClock
from restante.core import accounts, mailboxes, tokens
from restante.http import problems
from restante.http.front import Front
from restante.runtime import Runtime
from tests.api.mail_api.sample import Reply, Tenant
from tests.api.mailcare.client import REFUSED, Caller, basic, bearer, receive
from tests.api.mailcare.conftest import holder, member
from tests.makers import PASSWORD

ROUTES = [(route.method, route.path) for route in mailcare.build().router.routes]
HOSTED = [(method, path.removeprefix(mailcare.HOSTED)) for method, path in ROUTES if path.startswith(mailcare.HOSTED)]
OLDER = [(method, path.removeprefix(mailcare.OLDER)) for method, path in ROUTES if not path.startswith(mailcare.HOSTED)]
EMAIL = "9bf63f3b-4e4e-46a0-8c7d-2d6d32576a1d"


def at(path: str, email: str = EMAIL) -> str:
    return path.replace("{id}", email).replace("{attachment}", EMAIL)


def assert_refused(reply: Reply, status: int, message: str | None = None) -> None:
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == (REFUSED[status] if message is None else {"message": message})


def test_both_bases_have_the_same_routes() -> None:
    assert HOSTED == OLDER


# --- tokens


@pytest.mark.parametrize("route", HOSTED, ids=" ".join)
async def test_every_route_wants_a_token(
    rt: Runtime, app: Front, team: Caller, red: Tenant, route: tuple[str, str]
) -> None:
    await member(rt, app, red.ann)
    for header in (None, "", "Bearer", "Bearer ", "Bearer 1|x", basic("ann@red.example", PASSWORD), bearer(red.token)):
        caller = replace(team, headers={} if header is None else {"authorization": header})
        reply = await caller.call(route[0], at(route[1]))
        assert_refused(reply, 401)
        assert "www-authenticate" not in reply.headers


@pytest.mark.parametrize("route", HOSTED, ids=" ".join)
async def test_every_route_is_for_the_own_team_alone(team: Caller, blue: Tenant, route: tuple[str, str]) -> None:
    for wanted in (str(blue.account.public_id), str(uuid4()), "1", "x" * 5000, "%00"):
        reply = await team.at(f"/api/teams/{wanted}").call(route[0], at(route[1]))
        assert reply.status == 404
        assert reply.json()["message"].startswith("No query results for model [App\\Team] ")
        assert len(reply.json()["message"]) < 200


@pytest.mark.parametrize("route", [route for route in HOSTED if route[1].startswith("/emails/")], ids=" ".join)
async def test_emails_of_another_team_are_none(
    rt: Runtime, app: Front, team: Caller, red: Tenant, blue: Tenant, route: tuple[str, str]
) -> None:
    await receive(rt, "ann@blue.example")
    others = await holder(rt, app, blue)
    email = await others.newest()
    reply = await team.call(route[0], at(route[1], email["id"]))
    assert_refused(reply, 404, f"No query results for model [App\\Email] {email['id']}")
    assert await others.newest() == email


NEEDED = {
    ("GET", "/emails"): auth.EMAIL_VIEW,
    ("GET", "/emails/{id}"): auth.EMAIL_VIEW,
    ("GET", "/emails/{id}/attachments/{attachment}"): auth.EMAIL_VIEW,
    ("DELETE", "/emails/{id}"): auth.EMAIL_DELETE,
    ("POST", "/emails/{id}/favorites"): auth.EMAIL_FAVORITE,
    ("DELETE", "/emails/{id}/favorites"): auth.EMAIL_FAVORITE,
    ("GET", "/statistics"): auth.STATISTIC_VIEW,
    ("GET", "/automations"): auth.AUTOMATION_VIEW,
    ("POST", "/automations"): auth.AUTOMATION_CREATE,
    ("PUT", "/automations/{id}"): auth.AUTOMATION_UPDATE,
    ("DELETE", "/automations/{id}"): auth.AUTOMATION_DELETE,
}


@pytest.mark.parametrize("route", HOSTED, ids=" ".join)
async def test_every_route_needs_its_permission(rt: Runtime, app: Front, red: Tenant, route: tuple[str, str]) -> None:
    needed = NEEDED[route]
    without = await holder(rt, app, red, *[scope for scope in auth.SCOPES if scope != needed])
    assert_refused(await without.call(route[0], at(route[1])), 403)
    reply = await (await holder(rt, app, red, needed)).call(route[0], at(route[1]))
    assert reply.status in (200, 404, 422)


async def test_tokens_that_do_not_hold(rt: Runtime, app: Front, clock: ManualClock, red: Tenant) -> None:
    team, now = await holder(rt, app, red), rt.clock.now()
    account, write = red.account.id, rt.db.write
    _, of_mailbox = await write(tokens.create, account, "mailcare", "user", "x", now, mailbox_id=red.ann.id)
    _, of_operator = await write(tokens.create, account, "mailcare", "admin", "x", now)
    ends = now + timedelta(hours=1)
    _, short = await write(tokens.create, account, "mailcare", "user", "x", now, expires_at=ends)
    short_lived = replace(team, headers={"authorization": bearer(short)})
    assert (await short_lived.get("/emails")).status == 200
    clock.advance(timedelta(hours=2))
    for plain in (of_mailbox, of_operator, short):
        assert_refused(await replace(team, headers={"authorization": bearer(plain)}).get("/emails"), 401)
    await rt.db.write(accounts.suspend, red.account.id, rt.clock.now())
    assert_refused(await team.get("/emails"), 401)


async def test_the_form_of_tokens(rt: Runtime, team: Caller, red: Tenant) -> None:
    number, bar, secret = team.headers["authorization"].removeprefix("Bearer ").partition("|")
    assert (number.isdigit(), bar, len(secret), secret.isalnum()) == (True, "|", 40, True)
    await team.get("/emails")
    (token,) = [one for one in await rt.db.read(tokens.list_tokens, red.account.id) if one.dialect == "mailcare"]
    assert token.last_used_at == rt.clock.now()
    for path in ("/restante/v1/events", "/api/v1/tokens/me", "/api/emails"):
        assert (await team.at(path).get("")).status == 401


async def test_the_limit_of_a_token(rt: Runtime, clock: ManualClock, team: Caller, red: Tenant) -> None:
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, red.account.id, "mailcare", "user", "x", now, rate_limit=3)
    few = replace(team, headers={"authorization": bearer(plain)})
    for left in (2, 1, 0):
        reply = await few.get("/emails")
        assert (reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"]) == ("3", str(left))
        assert "retry-after" not in reply.headers
    clock.advance(timedelta(seconds=20))
    reply = await few.get("/emails")
    assert_refused(reply, 429)
    assert (reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"]) == ("3", "0")
    wait = int(reply.headers["retry-after"])
    assert wait in (40, 41)
    assert int(reply.headers["x-ratelimit-reset"]) == int(clock.now().timestamp()) + wait
    clock.advance(timedelta(seconds=wait))
    assert (await few.get("/emails")).status == 200
    assert (await team.get("/emails")).headers["x-ratelimit-limit"] == "600"


async def test_guessing_tokens_is_bounded(rt: Runtime, team: Caller) -> None:
    guess = replace(team, headers={"authorization": "Bearer 1|x"})
    for _ in range(20):
        assert_refused(await guess.get("/emails"), 401)
    assert_refused(await guess.get("/emails"), 429)
    assert (await team.get("/emails")).status == 200


# --- members


@pytest.mark.parametrize("route", OLDER, ids=" ".join)
async def test_every_route_wants_a_login(app: Front, team: Caller, ann: Caller, route: tuple[str, str]) -> None:
    for header in (
        None, "Basic", "Basic !!", "Basic eA==", basic("ann@red.example", "wrong"), basic("", ""),
        basic("nobody@red.example", PASSWORD), team.headers["authorization"], "Basic " + "A" * 8000,
    ):  # fmt: skip
        caller = replace(ann, headers={} if header is None else {"authorization": header})
        reply = await caller.call(route[0], at(route[1]))
        assert_refused(reply, 401, "Invalid credentials.")
        assert reply.headers["www-authenticate"] == "Basic"


async def test_members_see_their_team(rt: Runtime, app: Front, ann: Caller, red: Tenant, blue: Tenant) -> None:
    await receive(rt, "bob@red.example", subject="for Bob")
    await receive(rt, "ann@blue.example", subject="for blue")
    assert await ann.found() == ["for Bob"]
    assert (await ann.call("POST", f"/emails/{(await ann.newest())['id']}/favorites")).status == 200


@pytest.mark.parametrize("role", ["member", "admin"])
async def test_only_members_do(rt: Runtime, app: Front, blue: Tenant, role: mailboxes.Role) -> None:
    """Users with that role, and operators, from the next request on."""
    stranger = await member(rt, app, blue.bob, "user")
    assert_refused(await stranger.get("/emails"), 403)
    await rt.db.write(mailboxes.set_role, blue.account.id, blue.bob.id, role, rt.clock.now())
    assert await stranger.found() == []
    await rt.db.write(mailboxes.set_role, blue.account.id, blue.bob.id, "user", rt.clock.now())
    assert_refused(await stranger.get("/emails"), 403)
    await rt.db.write(mailboxes.set_role, blue.account.id, blue.bob.id, role, rt.clock.now())
    await rt.db.write(mailboxes.disable, blue.account.id, blue.bob.id, rt.clock.now())
    assert_refused(await stranger.get("/emails"), 401, "Invalid credentials.")


async def test_a_member_may_make_sixty_requests_a_minute(rt: Runtime, clock: ManualClock, ann: Caller) -> None:
    for left in range(59, -1, -1):
        reply = await ann.get("/statistics")
        assert (reply.status, reply.headers["x-ratelimit-remaining"]) == (200, str(left))
    reply = await ann.get("/statistics")
    assert_refused(reply, 429)
    assert reply.headers["retry-after"] == "60"
    clock.advance(timedelta(seconds=61))
    assert (await ann.get("/statistics")).status == 200


async def test_guessing_passwords_is_bounded(ann: Caller) -> None:
    guess = replace(ann, headers={"authorization": basic("ann@red.example", "wrong")})
    for _ in range(10):
        assert (await guess.get("/emails")).status == 401
    reply = await guess.get("/emails")
    assert_refused(reply, 429)
    assert reply.headers["retry-after"] == "60"
    assert int(reply.headers["x-ratelimit-reset"]) > 0


async def test_pages_of_other_sites_are_refused(rt: Runtime, ann: Caller) -> None:
    """A browser sends the password that it remembers with whatever form another site has it send."""
    await receive(rt, "ann@red.example")
    place = f"/emails/{(await ann.newest())['id']}"
    for origin in ("https://evil.example", "null", "", "http://mail.example.test.evil.example", "http://[", "\xff"):
        for method, path in (("POST", place + "/favorites"), ("POST", "/automations"), ("DELETE", place)):
            reply = await ann.call(method, path, headers={"origin": origin, "host": "mail.example.test"})
            assert_refused(reply, 403)
    own = {"origin": "https://mail.example.test", "host": "mail.example.test"}
    assert (await ann.call("POST", place + "/favorites", headers=own)).status == 200


async def test_passwords_of_other_charsets(rt: Runtime, ann: Caller) -> None:
    encoded = base64.b64encode("ann@red.example:pässword".encode("latin-1")).decode()
    assert_refused(
        await replace(ann, headers={"authorization": f"Basic {encoded}"}).get("/emails"), 401, "Invalid credentials."
    )


# --- words


@pytest.mark.parametrize("kind", errors.walk(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_words(kind: type[errors.RestanteError]) -> None:
    extra: dict[str, Any] = {"retry_after_seconds": 7} if issubclass(kind, errors.RateLimited) else {}
    extra |= {"host": "x.example"} if issubclass(kind, errors.RemoteUnavailable) else {}
    extra |= {"submission": "7a9b"} if issubclass(kind, errors.SendFailed) else {}
    problem = mailcare_errors.explain(kind("what happened", **extra))
    answer = mailcare_errors.render(problem)
    body = Reply(answer.status, {}, answer.body).json()
    told = problems.AWAY if kind is errors.Unavailable else "what happened"
    assert body["message"] == REFUSED.get(problem.status, {"message": told})["message"]
    assert list(body) == (["message", "errors"] if problem.status == 422 else ["message"])
    assert (b"retry-after", b"7") in answer.headers or not issubclass(kind, errors.RateLimited)


def test_an_email_that_goes_while_it_is_read() -> None:
    problem = mailcare_errors.explain(errors.NotFound("no such message", code="message_not_found"))
    assert (problem.status, problem.message) == (404, "No query results for model [App\\Email].")


async def test_refusals_of_the_framework_have_its_shape(either: Caller) -> None:
    for method, target, status in (
        ("GET", "/emails/1/2/3", 404), ("PUT", "/emails", 405), ("POST", "/emails/1", 405), ("BREW", "/emails", 501),
    ):  # fmt: skip
        reply = await either.call(method, target)
        assert reply.status == status
        assert list(reply.json()) == ["message"]
    reply = await either.call("POST", "/emails/1/favorites", headers={"content-length": str(1 << 40)})
    assert (reply.status, list(reply.json())) == (413, ["message"])


async def test_unknown_teams_and_paths_without_one(app: Front) -> None:
    nobody = Caller(app, "/api/teams", {})
    assert (await nobody.get("")).status == 404
    assert list((await nobody.get("/x")).json()) == ["message"]


async def test_the_document(team: Caller) -> None:
    document = (await team.at("/openapi/mailcare.json").get("")).json()
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert operations == set(ROUTES)
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            assert {"401", "403", "429"} <= set(operation["responses"])
            assert operation["security"] == [{"token" if path.startswith("/api/teams") else "member": []}]
    forms = document["paths"]["/api/teams/{team}/emails/{id}"]["get"]["responses"]["200"]["content"]
    assert list(forms) == [
        "application/json", "application/vnd.mailcare.v1+json", "text/html", "text/plain", "message/rfc2822",
    ]  # fmt: skip
