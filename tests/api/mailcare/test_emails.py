"""The emails of a team: fields and their order, lists and their filters, forms, what is done with them."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from restante.api.mailcare import emails
from restante.clock import ManualClock
from restante.core import folders, messages
from restante.core.messages import Flag
from restante.http.front import Front
from restante.mail import message as mail
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from restante.services import email_form
from tests.api.mail_api.sample import Tenant, rich_letter
from tests.api.mailcare.client import Caller, receive

EMAIL: dict[str, Any] = {
    "id": str, "sender": dict, "inbox": dict, "carbon_copies": list, "subject": str, "created_at": str,
    "read": (str, type(None)), "favorite": bool, "has_html": bool, "has_text": bool, "size_in_bytes": int,
    "attachments": list,
}  # fmt: skip
CORRESPONDENT = ["id", "display_name", "email", "created_at", "updated_at"]
ATTACHMENT = [
    "id", "email_id", "headers_hashed", "file_name", "content_type", "size_in_bytes", "created_at", "updated_at",
    "size_for_human",
]  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
VND = "application/vnd.mailcare.v1+json; charset=UTF-8"
NOT_ACCEPTABLE = (
    "Not acceptable 'Accept' header. Please use this list: application/vnd.mailcare.v1+json,application/json,"
    "text/html,text/plain,message/rfc2822."
)
ANN = "ann@red.example"


def assert_email(email: dict[str, Any]) -> None:
    assert list(email) == list(EMAIL)
    for name, kind in EMAIL.items():
        assert isinstance(email[name], kind), name
    assert list(email["sender"]) == list(email["inbox"]) == CORRESPONDENT
    assert TIME.fullmatch(email["created_at"])
    assert TIME.fullmatch(email["sender"]["updated_at"])


async def test_an_email_has_the_fields_of_the_contract(rt: Runtime, either: Caller) -> None:
    await receive(rt, ANN, raw=rich_letter())
    reply = await either.get("/emails")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    page = reply.json()
    assert list(page) == ["data", "links", "meta"]
    (email,) = page["data"]
    assert_email(email)
    assert email["sender"]["display_name"] == "Jörg"
    assert (email["sender"]["email"], email["inbox"]["email"]) == ("joerg@x.example", ANN)
    assert email["inbox"]["display_name"] == "Ann"
    assert email["carbon_copies"] == [{"display_name": "Bob", "email": "bob@red.example"}]
    assert (email["subject"], email["read"], email["favorite"]) == ("Invoice", None, False)
    assert (email["has_html"], email["has_text"]) == (True, True)
    assert [list(one) for one in email["attachments"]] == [ATTACHMENT] * 3
    shown = await either.get(f"/emails/{email['id']}", headers={"accept": "application/json"})
    assert list(shown.json()) == ["data"]
    assert shown.json()["data"] | {"read": None} == email


async def test_an_empty_team(either: Caller) -> None:
    path = f"http://mail.example.test{either.base}/emails"
    assert (await either.get("/emails?page=", headers={"host": "mail.example.test"})).json() == {
        "data": [],
        "links": {"first": f"{path}?page=1", "last": f"{path}?page=1", "prev": None, "next": None},
        "meta": {
            "current_page": 1, "from": None, "last_page": 1, "path": path, "per_page": 25, "to": None, "total": 0,
        },
    }  # fmt: skip


async def test_pages(rt: Runtime, clock: ManualClock, team: Caller) -> None:
    for number in range(7):
        clock.advance(timedelta(seconds=1))
        await receive(rt, ANN, subject=f"number {number}")
    page = (await team.get("/emails?limit=3&page=2&subject=number*")).json()
    assert [email["subject"] for email in page["data"]] == ["number 3", "number 2", "number 1"]
    path = f"http://127.0.0.1:8025{team.base}/emails"
    assert page["links"] == {
        "first": f"{path}?page=1", "last": f"{path}?page=3", "prev": f"{path}?page=1", "next": f"{path}?page=3",
    }  # fmt: skip
    assert list(page["links"]) == ["first", "last", "prev", "next"]
    assert list(page["meta"].items()) == [
        ("current_page", 2), ("from", 4), ("last_page", 3), ("path", path), ("per_page", 3), ("to", 6), ("total", 7),
    ]  # fmt: skip
    last = (await team.get("/emails?limit=3&page=3")).json()
    assert (last["meta"]["from"], last["meta"]["to"], last["links"]["next"]) == (7, 7, None)
    assert (await team.get("/emails?limit=3")).json()["links"]["prev"] is None


@pytest.mark.parametrize("page", ["1000000000", "9" * 18, "9" * 5000])
async def test_pages_beyond_the_end_are_empty(rt: Runtime, team: Caller, page: str) -> None:
    await receive(rt, ANN)
    found = (await team.get(f"/emails?page={page}")).json()
    assert (found["data"], found["meta"]["total"], found["links"]["next"]) == ([], 1, None)
    assert found["meta"]["from"] is found["meta"]["to"] is None


@pytest.mark.parametrize("page", ["0", "-1", "x", "1.5", "", "٣", "1e9", "+0"])
async def test_a_page_that_is_no_number_is_the_first(rt: Runtime, team: Caller, page: str) -> None:
    await receive(rt, ANN)
    assert (await team.get(f"/emails?page={quote(page)}&limit={quote(page)}")).json()["meta"] | {"path": ""} == {
        "current_page": 1, "from": 1, "last_page": 1, "path": "", "per_page": 25, "to": 1, "total": 1,
    }  # fmt: skip


async def test_limits_are_capped(team: Caller) -> None:
    assert (await team.get("/emails?limit=100000")).json()["meta"]["per_page"] == 1000


async def test_links_lead_where_the_client_came_from(team: Caller) -> None:
    for host in ("evil.example/x", "a b", "", "x" * 300, 'a"b'):
        meta = (await team.get("/emails", headers={"host": host})).json()["meta"]
        assert meta["path"] == f"http://127.0.0.1:8025{team.base}/emails"
    page = (await team.get("/emails/", headers={"host": "[::1]:80"})).json()
    assert page["meta"]["path"] == f"http://[::1]:80{team.base}/emails"


async def test_links_lead_where_the_operator_says(rt: Runtime, team: Caller) -> None:
    config = replace(rt.config, http=replace(rt.config.http, public_url="https://mail.example.com/x/"))
    named = replace(rt, config=config)
    elsewhere = replace(team, app=asgi.build(named, Metrics(named)))
    page = (await elsewhere.get("/emails", headers={"host": "other.example"})).json()
    assert page["links"]["first"] == f"https://mail.example.com/x{team.base}/emails?page=1"


# --- filters


@pytest.fixture
async def mixed(rt: Runtime, clock: ManualClock, red: Tenant) -> None:
    clock.advance(-timedelta(microseconds=clock.now().microsecond))
    for subject, inbox, sender in (
        ("Welcome", ANN, "shop@a.example"),
        ("welcome!", ANN, "Shop <SHOP@a.example>"),
        ("50% off_today", "bob@red.example", "shop@a.example"),
        ("Your code", "bob@red.example", "other@b.example"),
    ):
        raw = f"From: {sender}\r\nTo: x@red.example\r\nSubject: {subject}\r\n\r\nText\r\n".encode()
        await receive(rt, inbox, raw=raw)
        clock.advance(timedelta(seconds=10))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "Your code|50% off_today|welcome!|Welcome"),
        ({"inbox": ANN}, "welcome!|Welcome"),
        ({"inbox": "ANN@Red.example"}, "welcome!|Welcome"),
        ({"inbox": "ann"}, ""),
        ({"sender": "Shop@A.example"}, "50% off_today|welcome!|Welcome"),
        ({"subject": "welcome"}, "Welcome"),
        ({"subject": "WELCOME*"}, "welcome!|Welcome"),
        ({"subject": "*o*e*"}, "Your code|welcome!|Welcome"),
        ({"subject": "50%*"}, "50% off_today"),
        ({"subject": "%"}, ""),
        ({"subject": "Your_code"}, ""),
        ({"subject": "*_*"}, "50% off_today"),
        ({"search": "b.example"}, "Your code"),
        ({"search": "BOB@"}, "Your code|50% off_today"),
        ({"search": "elcom"}, "welcome!|Welcome"),
        ({"search": "*"}, ""),
        ({"inbox": "bob@red.example", "sender": "shop@a.example", "subject": "50*"}, "50% off_today"),
        ({"unread": "1", "favorite": "0"}, "Your code|50% off_today|welcome!|Welcome"),
        ({"favorite": "true"}, ""),
    ],
)
async def test_filters(team: Caller, mixed: None, query: dict[str, str], found: str) -> None:
    assert "|".join(await team.found(urlencode(query))) == found


async def test_an_address_never_seen(ann: Caller, team: Caller, mixed: None) -> None:
    """Who polls for a first mail at the hosted base gets an empty list."""
    for field, model in (("inbox", "Inbox"), ("sender", "Sender")):
        assert await team.found(f"{field}=nobody@red.example") == []
        reply = await ann.get(f"/emails?{field}=nobody@red.example")
        assert (reply.status, reply.json()) == (404, {"message": f"No query results for model [App\\{model}]."})
    assert await ann.found(f"inbox={ANN.upper()}&sender=other@b.example") == []


async def test_parameters_that_are_empty_are_none(either: Caller, mixed: None) -> None:
    """The vendor's client sends all of them, always."""
    names = ("page", "limit", "inbox", "sender", "subject", "since", "until", "search", "unread", "favorite")
    query = "&".join(f"{name}=" for name in names)
    assert await either.found(query) == await either.found() != []
    assert await either.found(query + "&subject=welcome") == ["Welcome"]
    reply = await either.get("/emails?" + query, headers={"content-type": "application/x-www-form-urlencoded"})
    assert reply.status == 200


async def test_read_and_favorite(either: Caller, mixed: None) -> None:
    email = await either.newest()
    assert (await either.call("POST", f"/emails/{email['id']}/favorites")).status == 200
    assert await either.found("favorite=true") == ["Your code"]
    await either.get(f"/emails/{email['id']}")
    assert await either.found("unread=true") == ["50% off_today", "welcome!", "Welcome"]
    assert await either.found("unread=false&favorite=0") == await either.found()


SINCE = [
    "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%S+0000", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dt%H:%M:%Sz",
    "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S 00:00", "%Y-%m-%dT%H:%M:%S 0000",
    "%Y-%m-%d %H:%M:%S 0000", "%Y-%m-%dT%H:%M:%S.000Z", "%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%S-00:00",
]  # fmt: skip


@pytest.mark.parametrize("form", SINCE)
async def test_dates_in_every_form(clock: ManualClock, team: Caller, mixed: None, form: str) -> None:
    second = clock.now() - timedelta(seconds=30)  # when the second of four came
    text = quote(second.strftime(form))
    assert await team.found(f"since={text}") == ["Your code", "50% off_today"]
    assert await team.found(f"until={text}") == ["Welcome"]
    unescaped = text.replace("%2B", "+").replace("%20", "+")  # which decodes to a space
    assert await team.found(f"since={unescaped}") == ["Your code", "50% off_today"]


async def test_dates_with_zones_and_without_a_time(clock: ManualClock, team: Caller, mixed: None) -> None:
    second = (clock.now() - timedelta(seconds=30) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S")
    assert len(await team.found(f"since={second}%2B02:00")) == 2
    assert len(await team.found(f"since={second} 0200")) == 2
    today = clock.now() - timedelta(days=1)
    assert len(await team.found(f"since={today:%Y-%m-%d}")) == 4
    assert await team.found(f"until={today:%Y-%m-%d}") == []


async def test_since_the_time_shown_leaves_the_email_out(
    rt: Runtime, clock: ManualClock, team: Caller, red: Tenant
) -> None:
    """And since the second in which a test began misses nothing of that second."""
    clock.advance(timedelta(microseconds=300_000 - clock.now().microsecond))
    began = f"{clock.now():%Y-%m-%dT%H:%M:%S}"
    await receive(rt, ANN, subject="first")
    shown = quote((await team.newest())["created_at"])
    assert await team.found(f"since={began}") == ["first"]
    assert await team.found(f"since={shown}") == []
    assert await team.found(f"until={shown}") == []
    assert await team.found(f"until={began}") == []
    exact = quote(clock.now().isoformat())
    assert await team.found(f"since={exact}") == await team.found(f"until={exact}") == []


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("since=yesterday", "since", "The since is not a valid date."),
        ("until=2018-13-01", "until", "The until is not a valid date."),
        ("since=99999-01-01", "since", "The since is not a valid date."),
        ("since=0001-01-01T00:00:00%2B14:00", "since", "The since is not a valid date."),
        ("since=" + "1" * 100_000, "since", "The since may not be greater than 1000 characters."),
        ("subject=" + "*" * 100_000, "subject", "The subject may not be greater than 1000 characters."),
        ("search=" + "x" * 100_000, "search", "The search may not be greater than 1000 characters."),
        ("inbox=a%00b", "inbox", "The inbox format is invalid."),
        ("unread=maybe", "unread", "The unread field must be true or false."),
    ],
)
async def test_wrong_parameters(either: Caller, query: str, field: str, reason: str) -> None:
    reply = await either.get(f"/emails?{query}")
    assert (reply.status, reply.json()) == (
        422, {"message": "The given data was invalid.", "errors": {field: [reason]}},
    )  # fmt: skip


async def test_all_wrong_parameters_are_named(either: Caller) -> None:
    assert list((await either.get("/emails?since=x&until=y&favorite=z")).json()["errors"]) == [
        "until", "since", "favorite",
    ]  # fmt: skip
    reply = await either.get("/emails?" + "&".join(f"a{number}=1" for number in range(200)))
    assert (reply.status, reply.json()["errors"]) == (422, {})


@pytest.mark.parametrize(
    "text", ["*" * 1000, "%" * 1000, "\\" * 1000, "a\r\nb", "\ud7ff", "💌", "' OR 1=1 --", "[[(*+?"]
)
async def test_hostile_filters_find_nothing(rt: Runtime, team: Caller, text: str) -> None:
    await receive(rt, ANN, subject="Welcome")
    everything = ["Welcome"] if set(text) == {"*"} else []
    assert await team.found(urlencode({"subject": text})) == everything
    for field in ("search", "inbox", "sender"):
        assert await team.found(urlencode({field: text})) == []


# --- one of them


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/vnd.mailcare.v1+json", VND),
        ("*/*", VND),
        (None, VND),
        ("application/ld+json", VND),
    ],
)
async def test_json_marks_as_read(
    rt: Runtime, clock: ManualClock, either: Caller, accept: str | None, kind: str
) -> None:
    await receive(rt, ANN)
    email = await either.newest()
    clock.advance(timedelta(minutes=1))
    headers = {} if accept is None else {"accept": accept}
    reply = await either.get(f"/emails/{email['id']}", headers=headers)
    assert (reply.status, reply.headers["content-type"], reply.headers["vary"]) == (200, kind, "Accept")
    assert reply.json() == {"data": email | {"read": email_form.moment(clock.now())}}
    clock.advance(timedelta(minutes=1))
    assert (await either.get(f"/emails/{email['id']}", headers=headers)).json() == reply.json()
    assert await either.newest() == reply.json()["data"]


@pytest.mark.parametrize("accept", ["text/plain", "text/html", "message/rfc2822", "text/csv"])
async def test_other_forms_do_not(rt: Runtime, either: Caller, accept: str) -> None:
    await receive(rt, ANN, raw=rich_letter())
    email = await either.newest()
    await either.get(f"/emails/{email['id']}", headers={"accept": accept})
    await either.call("HEAD", f"/emails/{email['id']}")
    assert (await either.newest())["read"] is None


async def test_forms(rt: Runtime, either: Caller) -> None:
    await receive(rt, ANN, raw=rich_letter())
    email = await either.newest()
    for accept, kind, body in (
        ("text/html", "text/html", b"<p>HTML text</p>"),
        ("text/plain", "text/plain", b"Plain text"),
        ("text/html,text/plain,message/rfc2822", "text/html", b"<p>HTML text</p>"),  # the vendor's client
        ("text/html;q=0.5, text/plain", "text/plain", b"Plain text"),
    ):
        reply = await either.get(f"/emails/{email['id']}", headers={"accept": accept})
        assert (reply.status, reply.headers["content-type"]) == (200, f"{kind}; charset=UTF-8")
        assert reply.body == body
        assert "sandbox" in reply.headers["content-security-policy"]
    for accept in ("message/rfc2822", "message/rfc822"):
        reply = await either.get(f"/emails/{email['id']}", headers={"accept": accept})
        assert reply.headers["content-type"] == "message/rfc2822; charset=UTF-8"
        assert reply.body.endswith(rich_letter())
        assert not reply.body.startswith(b"From ")
        assert len(reply.body) == email["size_in_bytes"]


async def test_forms_that_there_are_not(rt: Runtime, either: Caller) -> None:
    await receive(rt, ANN)  # text alone
    place = f"/emails/{(await either.newest())['id']}"
    for accept in ("text/html", "image/png", "text/html, application/json;q=0"):
        reply = await either.get(place, headers={"accept": accept})
        assert (reply.status, reply.json()) == (406, {"error": NOT_ACCEPTABLE})
    reply = await either.get(place, headers={"accept": "text/html,text/plain,message/rfc2822"})
    assert reply.headers["content-type"] == "text/plain; charset=UTF-8"


async def test_letters_of_other_charsets_come_as_utf8(rt: Runtime, team: Caller) -> None:
    head = (
        b"From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n"
    )
    await receive(rt, ANN, raw=head + b"caf\xe9\r\n")
    reply = await team.get(f"/emails/{(await team.newest())['id']}", headers={"accept": "text/plain"})
    assert reply.body.decode() == "café\n"


async def test_attachments(rt: Runtime, either: Caller) -> None:
    await receive(rt, ANN, raw=rich_letter())
    email = await either.newest()
    expected = mail.parse(rich_letter())
    for shown, there in zip(email["attachments"], expected.attachments, strict=True):
        reply = await either.get(f"/emails/{email['id']}/attachments/{shown['id']}")
        assert (reply.status, reply.headers["content-type"]) == (200, there.content_type)
        assert reply.body == b"".join(mail.decoded(there, rich_letter()))
        assert reply.headers["content-disposition"].startswith("attachment; ")
        assert "sandbox" in reply.headers["content-security-policy"]
    for wanted in ("7", email["id"], "x" * 5000, "a%0D%0Ab"):
        reply = await either.get(f"/emails/{email['id']}/attachments/{wanted}")
        assert reply.status == 404
        assert reply.json()["message"].startswith("No query results for model [App\\Attachment] ")
        assert len(reply.json()["message"]) < 200
    await receive(rt, ANN, raw=rich_letter())
    other = await either.newest()
    assert (await either.get(f"/emails/{other['id']}/attachments/{email['attachments'][0]['id']}")).status == 404


async def test_large_ones_are_the_same(rt: Runtime, team: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is done in a thread."""
    await receive(rt, ANN, raw=rich_letter())
    place = f"/emails/{(await team.newest())['id']}"
    before = [await team.get("/emails"), await team.get(place, headers={"accept": "text/html"})]
    monkeypatch.setattr(emails, "OFF_LOOP_BYTES", 0)
    monkeypatch.setattr(emails, "OFF_LOOP_ITEMS", 0)
    after = [await team.get("/emails"), await team.get(place, headers={"accept": "text/html"})]
    assert [reply.body for reply in after] == [reply.body for reply in before]
    assert {reply.status for reply in after} == {200}


async def test_favorites(rt: Runtime, either: Caller) -> None:
    await receive(rt, ANN)
    place = f"/emails/{(await either.newest())['id']}/favorites"
    for method, is_favorite in (("POST", True), ("POST", True), ("DELETE", False), ("DELETE", False)):
        reply = await either.call(method, place)
        assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
        assert (await either.newest())["favorite"] is is_favorite


async def test_deleted_is_gone_from_every_route_until_it_is_moved_back(
    rt: Runtime, either: Caller, red: Tenant
) -> None:
    await receive(rt, ANN)
    email = await either.newest()
    place = f"/emails/{email['id']}"
    reply = await either.call("DELETE", place)
    assert (reply.status, reply.body) == (200, b"")
    assert await either.found() == []
    for method, path in (
        ("GET", place), ("DELETE", place), ("POST", place + "/favorites"), ("DELETE", place + "/favorites"),
        ("GET", place + "/attachments/7"),
    ):  # fmt: skip
        reply = await either.call(method, path)
        assert (reply.status, reply.json()) == (
            404, {"message": f"No query results for model [App\\Email] {email['id']}"},
        )  # fmt: skip
    trash = await rt.db.read(folders.get_folder, red.account.id, red.ann.id, "Trash")
    (row,) = await rt.db.read(messages.list_page, red.account.id, trash.id, limit=10)
    inbox = await rt.db.read(folders.get_folder, red.account.id, red.ann.id, "INBOX")
    await rt.db.write(messages.move, red.account.id, red.ann.id, [row.id], inbox.id, now=rt.clock.now())
    assert (await either.newest())["id"] == email["id"]


async def test_what_other_protocols_did_shows(rt: Runtime, team: Caller, red: Tenant) -> None:
    await receive(rt, ANN)
    assert (await team.newest())["read"] is None
    inbox = await rt.db.read(folders.get_folder, red.account.id, red.ann.id, "INBOX")
    (row,) = await rt.db.read(messages.list_page, red.account.id, inbox.id, limit=10)
    flags, now = Flag.SEEN | Flag.FLAGGED, rt.clock.now()
    await rt.db.write(messages.set_flags, red.account.id, red.ann.id, [row.id], add=flags, now=now)
    email = await team.newest()
    assert (email["read"], email["favorite"]) == (email_form.moment(now), True)
    await rt.db.write(messages.remove, red.account.id, red.ann.id, [row.id], now=rt.clock.now())
    assert await team.found() == []


async def test_one_email_for_each_recipient(rt: Runtime, team: Caller) -> None:
    await receive(rt, ANN, "bob@red.example")
    found = (await team.get("/emails")).json()["data"]
    assert sorted(email["inbox"]["email"] for email in found) == [ANN, "bob@red.example"]
    assert len({email["id"] for email in found}) == 2
    assert len({email["sender"]["id"] for email in found}) == 1


@pytest.mark.parametrize(
    "wanted", ["7", "x", "9bf63f3b-4e4e-46a0-8c7d-2d6d32576a1d", "x" * 5000, "%00", "a%0D%0AX: 1", "..;"]
)
async def test_ids_that_are_none(either: Caller, wanted: str) -> None:
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/favorites"), ("GET", "/attachments/1")):
        reply = await either.call(method, f"/emails/{wanted}{rest}")
        assert reply.status == 404
        assert reply.json()["message"].startswith("No query results for model [App\\Email] ")
        assert len(reply.body) < 800


async def test_polling_for_a_first_mail(rt: Runtime, clock: ManualClock, team: Caller, app: Front) -> None:
    """As a tester's client does it: nothing, nothing, there it is, and only the new one."""
    await receive(rt, ANN, subject="Your code 1")
    clock.advance(timedelta(seconds=2))
    since = quote(f"{clock.now():%Y-%m-%dT%H:%M:%S+0000}")
    query = f"page=&limit=&inbox={ANN}&sender=&subject=Your+code+*&since={since}&until=&search=&unread=&favorite="
    for _ in range(4):
        assert await team.found(query) == []
        clock.advance(timedelta(milliseconds=250))
    await receive(rt, ANN, subject="Your code 2")
    assert await team.found(query) == ["Your code 2"]
