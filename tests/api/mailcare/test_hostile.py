"""A thousand requests made of junk: each is answered in the dialect's shape, and none touches another team."""

import random
from dataclasses import replace
from urllib.parse import quote

from restante.http.front import Front
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import Tenant, rich_letter
from tests.api.mailcare.client import Caller, receive
from tests.api.mailcare.conftest import holder

REQUESTS = 1000
METHODS = ["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]
FIELDS = ["page", "limit", "inbox", "sender", "subject", "since", "until", "search", "unread", "favorite", "page[]"]
JUNK = [
    "0", "-1", "\0", "\r\n", "%", "*", "'", '"', "\ud800", "💌", "x" * 2000, "9" * 40, "true", "[]", "2018-01-19",
    "Fri", "../..", "a@b", "ann@red.example", "*" * 999, "\\", "1e9", "+",
]  # fmt: skip
HEADERS = {
    "accept": ["*/*", "text/html", "application/json", "a/b;q=x", "text/*;q=0.1,*/*;q=0", "\xff", ",;=", ""],
    "content-type": ["application/json", "application/x-www-form-urlencoded", "text/plain", "\xff", ""],
    "authorization": ["Basic \xff", "Bearer \xff", "Basic Og==", "Bearer " + "x" * 600, "Digest x", "Basic ////"],
    "host": ["\xff", "a" * 300, "x:1"],
}
BODIES = [
    b"", b"{}", b'{"title":1}', b'{"title":"\\ud800"}', b'{"title":"x","sender":"(a+)+$","action_url":"http://[::1"}',
    b"title=%ff&sender=%00", b"\xff\xfe", b'{"title":"x","has_attachments":1e999}', b"[[[[", b'{"title":"x","inbox":7}',
    b'{"title":"\xe2\x80\xa8","inbox":"[[:a:]]","action_email":"a@b\\r\\nc"}',
    b'{"title":"x","action_secret_token":"\\u00ff","payload_format":7}', b'{"title":"x","subject":"\\\\p{L}{1,99999}"}',
]  # fmt: skip


async def test_junk(rt: Runtime, blue: Tenant, red: Tenant, app: Front, team: Caller, ann: Caller) -> None:
    limits = replace(
        rt.config.limits.mailcare, requests_per_minute=0, member_requests_per_minute=0, failed_auth_per_minute=0
    )
    config = replace(rt.config, limits=replace(rt.config.limits, mailcare=limits))
    unlimited = replace(rt, config=config)
    front = asgi.build(unlimited, Metrics(unlimited))
    for number in range(3):
        await receive(rt, "ann@red.example", "ann@blue.example", raw=rich_letter(), subject=str(number))
    others = await holder(rt, app, blue)
    before = (await others.get("/emails")).json()
    ids = [email["id"] for page in (before, (await team.get("/emails")).json()) for email in page["data"]]
    names = ids + [quote(text.encode("utf-8", "surrogatepass")) for text in JUNK]
    chance = random.Random(7)
    for _ in range(REQUESTS):
        caller = replace(chance.choice((team, ann)), app=front)
        rest = chance.choice(["", "/favorites", f"/attachments/{chance.choice(names)}", "/x"])
        one = f"/emails/{chance.choice(names)}{rest}"
        path = chance.choice(["/emails", "/statistics", "/automations", one, f"/automations/{chance.choice(names)}"])
        query = "&".join(f"{chance.choice(FIELDS)}={chance.choice(names)}" for _ in range(chance.randrange(4)))
        headers = {name: chance.choice(values) for name, values in HEADERS.items() if chance.random() < 0.2}
        method, body = chance.choice(METHODS), chance.choice(BODIES)
        reply = await caller.call(method, f"{path}?{query}", headers=headers, body=body)
        assert reply.status < 500, (method, path, query, headers, body, reply.body)
        if reply.status >= 400 and method != "HEAD":
            assert set(reply.json()) <= {"message", "errors", "error"}
        assert not any("\r" in value or "\n" in value for value in reply.headers.values())
    assert (await others.get("/emails")).json() == before
