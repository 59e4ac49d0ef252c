"""Sending, its status and the list of what was sent, in the contract's shapes; and what is refused, field by field."""

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from restante.api.mail_api import submission as endpoint
from restante.clock import ManualClock
from restante.core import contents, folders, idempotency, mailboxes, messages, permissions, submission, tokens
from restante.core.idempotency import LIFETIME
from restante.errors import Unavailable
from restante.http import bodies
from restante.mail import message
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.services import retrieval
from restante.services import submission as service
from tests.api.mail_api.sample import Client, World, assert_refused, grant

SEND, SENT = "/api/v1/mail/send", "/api/v1/mail/sent"
MINIMAL = {"from": "ann@red.example", "to": ["eve@far.example"], "body": {"text": "Hello"}}
FULL = {
    "from": "Ann Red <ann@red.example>",
    "to": ["eve@far.example", "Bob <bob@red.example>"],
    "cc": ["carl@far.example"],
    "bcc": "dora@far.example",
    "subject": "Grüße",
    "body": {"text": "Plain text", "html": "<h1>HTML</h1>"},
    "reply_to": "answers@red.example",
    "headers": {"X-Custom-Header": "custom value"},
    "attachments": [
        {"filename": "a.pdf", "content": base64.b64encode(b"%PDF-1.4").decode(), "content_type": "application/pdf"}
    ],
}


def _counts(conn: ReadConn) -> dict[str, int]:
    names = ("submissions", "transfers", "contents", "messages", "jobs", "idempotency_keys")
    return {
        name: conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
        for name in names
    }


async def _sent(client: Client, data: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
    reply = await client.post(SEND, data=MINIMAL | more if data is None else data)
    assert reply.status == 202, reply.body
    found: dict[str, Any] = reply.json()
    return found


async def _raw(rt: Runtime, message_id: str) -> bytes:
    found = await rt.db.read(submission.get_by_public_id, None, UUID(message_id))
    assert found.content_id is not None
    return bytes((await retrieval.content(rt, found.account_id, found.content_id)).raw)


async def test_a_message_is_accepted_and_can_be_followed(rt: Runtime, client: Client, world: World) -> None:
    accepted = await _sent(client, FULL)
    assert list(accepted) == ["success", "message_id", "status", "queue_id", "recipient_count"]
    assert (accepted["success"], accepted["status"], accepted["recipient_count"]) == (True, "submitted", 4)
    assert str(UUID(accepted["message_id"])) == accepted["message_id"]
    assert len(accepted["queue_id"]) == 15
    assert accepted["queue_id"].isalnum()

    raw = await _raw(rt, accepted["message_id"])
    parsed = message.parse(raw)
    assert parsed.message_id == f"<{accepted['message_id']}@red.example>"
    assert [one.email for one in (*parsed.from_, *parsed.to, *parsed.cc, *parsed.reply_to)] == [
        "ann@red.example", "eve@far.example", "bob@red.example", "carl@far.example", "answers@red.example",
    ]  # fmt: skip
    assert (parsed.subject, parsed.bcc) == ("Grüße", ())
    assert b"dora" not in raw
    assert ("X-Custom-Header", "custom value") in message.headers(raw)
    assert message.text(parsed, raw) == "Plain text\n"
    (attached,) = parsed.attachments
    assert (attached.filename, attached.content_type) == ("a.pdf", "application/pdf")
    assert b"".join(message.decoded(attached, raw)) == b"%PDF-1.4"

    reply = await client.get(f"/api/v1/mail/{accepted['message_id']}/status")
    state = reply.json()
    assert list(state) == ["success", "message_id", "status", "created_at", "submitted_at", "recipients"]
    assert (state["status"], state["created_at"][-1]) == ("submitted", "Z")
    assert [(one["email"], one["type"], one["status"]) for one in state["recipients"]] == [
        ("eve@far.example", "to", "pending"),
        ("bob@red.example", "to", "pending"),
        ("carl@far.example", "cc", "pending"),
        ("dora@far.example", "bcc", "pending"),
    ]
    assert state["recipients"][0] == {
        "email": "eve@far.example", "type": "to", "status": "pending", "dsn_code": None, "delivered_at": None,
        "smtp_response": None, "remote_mta": None, "attempts": 0, "last_attempt_at": None,
    }  # fmt: skip

    listed = (await client.get(SENT)).json()
    assert list(listed) == ["success", "total", "messages"]
    assert listed["messages"] == [
        {
            "message_id": accepted["message_id"],
            "from": "ann@red.example",
            "to": ["eve@far.example", "bob@red.example"],
            "subject": "Grüße",
            "status": "submitted",
            "created_at": state["created_at"],
            "submitted_at": state["submitted_at"],
        }
    ]
    assert list(listed["messages"][0]) == [
        "message_id", "from", "to", "subject", "status", "created_at", "submitted_at"
    ]  # fmt: skip


async def test_the_copy_is_in_sent(rt: Runtime, client: Client, world: World) -> None:
    await _sent(client, FULL)
    ann = world.red.ann
    folder = await rt.db.read(folders.get_folder, ann.account_id, ann.id, "Sent")
    (copy,) = await rt.db.read(messages.list_page, ann.account_id, folder.id, limit=9)
    assert (copy.subject, copy.flags) == ("Grüße", ("\\Seen",))
    shown = await client.get(f"/api/v1/mailbox/ann@red.example/messages/{copy.uid}?folder=Sent")
    assert shown.json()["body"]["text"] == "Plain text\n"


async def test_a_recipient_named_twice_gets_one_mail(rt: Runtime, client: Client) -> None:
    data = MINIMAL | {
        "to": ["Eve@far.example", "eve@FAR.example"],
        "cc": ["eve@far.example", "x@far.example"],
        "bcc": ["X@far.example"],
    }
    accepted = await _sent(client, data)
    assert accepted["recipient_count"] == 2
    state = (await client.get(f"/api/v1/mail/{accepted['message_id']}/status")).json()
    assert [(one["email"], one["type"]) for one in state["recipients"]] == [
        ("Eve@far.example", "to"), ("x@far.example", "cc"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"from": None}, ["from"]),
        ({"from": ["ann@red.example"]}, ["from"]),
        ({"from": "ann@red.example, bob@red.example"}, ["from"]),
        ({"from": "ann@red.example\r\nBcc: x@far.example"}, ["from"]),
        ({"from": "Ann\r\nBcc: x@far.example <ann@red.example>"}, ["from"]),
        ({"from": "ann"}, ["from"]),
        ({"to": []}, ["to"]),
        ({"to": ["nobody", "eve@far.example", 7]}, ["to"]),
        ({"to": ["nobody", "eve@far.example", "x@@y", "a@b\nCc: c@d"]}, ["to"]),
        ({"to": "eve@far.example, x@far.example"}, ["to"]),
        ({"to": ["root@[127.0.0.1]"]}, ["to"]),
        ({"to": [f"r{number}@far.example" for number in range(101)]}, ["to"]),
        ({"to": [f"r{number}@far.example" for number in range(10_000)]}, ["to"]),
        ({"cc": ["x\r\ny@far.example"], "bcc": ["\x00@far.example"]}, ["cc", "bcc"]),
        ({"reply_to": "a@b\r\nX: y"}, ["reply_to"]),
        ({"subject": "x" * 999}, ["subject"]),
        ({"subject": 7, "to": "nobody"}, ["subject"]),
        ({"body": {}}, ["body"]),
        ({"body": "text"}, ["body"]),
        ({"body": {"text": 1, "html": 2}}, ["body.text", "body.html"]),
        ({"body": {"text": "x" * (5 * 1024 * 1024 + 1)}}, ["body"]),
        ({"headers": {"X-A": "b\r\nBcc: c@d"}}, ["headers"]),
        ({"headers": {"X-A\r\nBcc": "b"}}, ["headers"]),
        ({"headers": {"Bcc": "b@far.example", "x y": "z", "Content-Type": "text/html"}}, ["headers"]),
        ({"headers": ["X-A: b"]}, ["headers"]),
        ({"attachments": [{"filename": "a", "content": "%%%"}]}, ["attachments"]),
        ({"attachments": [{"filename": "a", "content": "QUJD=QUJD"}]}, ["attachments"]),
        ({"attachments": [{"filename": "a", "content": "QUI"}]}, ["attachments"]),
        ({"attachments": [{"filename": "a"}]}, ["attachments"]),
        ({"attachments": [{"filename": "a", "content": "", "content_type": "text\r\nX: y"}]}, ["attachments"]),
        ({"attachments": [{"filename": str(n), "content": ""} for n in range(21)]}, ["attachments"]),
    ],
)  # fmt: skip
async def test_wrong_fields_are_named_and_nothing_is_kept(
    rt: Runtime, client: Client, change: dict[str, Any], fields: list[str]
) -> None:
    before = await rt.db.read(_counts)
    body = assert_refused(await client.post(SEND, data=MINIMAL | change), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == fields
    assert await rt.db.read(_counts) == before


async def test_all_wrong_fields_come_at_once(client: Client) -> None:
    data = {"from": 1, "to": ["a", 2, 3], "attachments": [{"filename": "a"}, {"content": "x"}]}
    body = assert_refused(await client.post(SEND, data=data), 422, "VALIDATION_ERROR")
    assert body["fields"] == {
        "from": ["Expected str, got int"],
        "to": ["[1]: Expected str, got int", "[2]: Expected str, got int"],
        "body": ["This field is required."],
        "attachments": ["[0].content: This field is required.", "[1].filename: This field is required."],
    }
    data = {"from": "a", "to": ["b", "eve@far.example"], "body": {}, "headers": {"To": "x"}}
    body = assert_refused(await client.post(SEND, data=data), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == ["from", "to", "headers", "body"]
    assert body["fields"]["to"] == ["[0]: an address needs an @"]


async def test_attachments_together_are_bounded(rt: Runtime, client: Client) -> None:
    half = base64.b64encode(bytes(13 * 1024 * 1024)).decode()
    data = MINIMAL | {"attachments": [{"filename": name, "content": half} for name in "ab"]}
    body = assert_refused(await client.post(SEND, data=data), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == ["attachments"]
    assert (await rt.db.read(_counts))["submissions"] == 0


async def test_a_hundred_megabytes_are_cut_off(client: Client) -> None:
    piece = b"QUJD" * (1024 * 1024)
    pieces = [json.dumps(MINIMAL).encode()[:-1], b', "attachments": [{"filename": "a", "content": "', *[piece] * 25]
    reply = await client.call("POST", SEND, body=pieces, headers={"content-type": "application/json"})
    assert_refused(reply, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "status", "code"), [(b"{", 400, "INVALID_JSON"), (b'{"from": "\xff"}', 400, "INVALID_JSON")]
)
async def test_what_is_no_json(client: Client, body: bytes, status: int, code: str) -> None:
    reply = await client.call("POST", SEND, body=body, headers={"content-type": "application/json"})
    assert_refused(reply, status, code)


async def test_odd_but_harmless_values_are_sent(rt: Runtime, client: Client) -> None:
    data = MINIMAL | {
        "subject": "a\r\nBcc: x@far.example\x00",
        "cc": None,
        "headers": None,
        "attachments": [
            {
                "filename": "../é\r\nX: y.txt",
                "content": "QUJD\r\nREVG",
                "content_type": "text/plain; charset=klingon-8",
            },
            {"filename": "noname", "content": ""},
        ],
    }
    accepted = await _sent(client, data)
    raw = await _raw(rt, accepted["message_id"])
    parsed = message.parse(raw)
    assert parsed.subject == "a Bcc: x@far.example"
    assert parsed.bcc == ()
    assert [one.content_type for one in parsed.attachments] == ["text/plain", "application/octet-stream"]
    assert b"".join(message.decoded(parsed.attachments[0], raw)) == b"ABCDEF"


async def test_who_may_send_as_whom(rt: Runtime, client: Client, admin: Client, world: World) -> None:
    async def refused(caller: Client, sender: str, code: str) -> None:
        before = await rt.db.read(_counts)
        assert_refused(await caller.post(SEND, data=MINIMAL | {"from": sender}), 403, code)
        assert await rt.db.read(_counts) == before

    await refused(client, "ann@nowhere.example", "DOMAIN_NOT_ALLOWED")
    await refused(client, "ann@blue.example", "DOMAIN_NOT_ALLOWED")
    await refused(client, "bob@red.example", "SENDER_NOT_AUTHORIZED")
    await refused(admin, "ann@nowhere.example", "DOMAIN_NOT_ALLOWED")
    now = rt.clock.now()
    await rt.db.write(mailboxes.add_alias, world.red.account.id, "info@red.example", world.red.ann.id, now)
    await _sent(client, MINIMAL | {"from": "info+x@red.example"})
    await _sent(admin, MINIMAL | {"from": "Any One <any@blue.example>"})
    await rt.db.write(grant, world.red, permissions.SEND_MAIL, now)
    await _sent(client, MINIMAL | {"from": "bob@red.example"})
    await refused(client, "bob@blue.example", "DOMAIN_NOT_ALLOWED")


async def test_a_domain_that_waits_for_approval_sends_nothing(client: Client) -> None:
    signup = {"domain": "new.example", "email": "me@new.example", "password": "long enough"}
    token = (await client.post("/api/v1/auth/signup", data=signup)).json()["token"]
    mine = client.with_token(token)
    assert_refused(await mine.post(SEND, data=MINIMAL | {"from": "me@new.example"}), 403, "DOMAIN_NOT_ALLOWED")


async def test_a_repeated_request_sends_once(rt: Runtime, client: Client, clock: ManualClock) -> None:
    async def send(text: str, key: str = "k1") -> Any:
        data = MINIMAL | {"body": {"text": text}}
        return await client.post(SEND, data=data, headers={"idempotency-key": key})

    first = await send("a")
    assert first.status == 202
    again = await send("a")
    assert (again.status, again.json()) == (202, first.json())
    assert_refused(await send("b"), 409, "IDEMPOTENCY_CONFLICT")
    assert (await rt.db.read(_counts))["submissions"] == 1
    assert (await send("a", "k2")).json() != first.json()
    assert_refused(await send("a", "k\x7f"), 422, "VALIDATION_ERROR")
    assert_refused(await send("a", "k" * 256), 422, "VALIDATION_ERROR")
    clock.advance(LIFETIME + timedelta(seconds=1))
    assert (await send("b")).json()["message_id"] != first.json()["message_id"]


async def test_keys_are_the_callers_own(client: Client, world: World) -> None:
    headers = {"idempotency-key": "same"}
    mine = await client.post(SEND, data=MINIMAL, headers=headers)
    other = client.with_token(world.blue.token)
    theirs = await other.post(SEND, data=MINIMAL | {"from": "ann@blue.example"}, headers=headers)
    assert (mine.status, theirs.status) == (202, 202)


async def test_twins_at_the_same_time_send_once(rt: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one looked for the key before the first had committed."""
    headers = {"idempotency-key": "twin"}
    first = (await client.post(SEND, data=MINIMAL, headers=headers)).json()
    monkeypatch.setattr("restante.core.idempotency.find", _blind_once(idempotency.find))
    second = await client.post(SEND, data=MINIMAL, headers=headers)
    assert second.json() == first
    assert (await rt.db.read(_counts))["submissions"] == 1


def _blind_once(find: Any) -> Any:
    seen: list[int] = []

    def blind(*args: Any) -> Any:
        seen.append(1)
        return None if len(seen) == 1 else find(*args)

    return blind


async def test_failure_keeps_a_trace(rt: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise Unavailable("the disk is gone", code="storage_full")

    monkeypatch.setattr(contents, "add", broken)
    reply = await client.post(SEND, data=MINIMAL, headers={"idempotency-key": "k"})
    body = assert_refused(reply, 500, "SEND_FAILED")
    assert list(body)[4:] == ["message_id"]
    state = (await client.get(f"/api/v1/mail/{body['message_id']}/status")).json()
    assert (state["status"], state["submitted_at"]) == ("failed", None)
    assert [one["status"] for one in state["recipients"]] == ["pending"]
    (listed,) = (await client.get(SENT + "?status=failed")).json()["messages"]
    assert listed["message_id"] == body["message_id"]
    monkeypatch.undo()
    again = await client.post(SEND, data=MINIMAL, headers={"idempotency-key": "k"})
    assert again.status == 202, "a failure has taken no key"


async def test_who_may_follow(rt: Runtime, client: Client, admin: Client, world: World) -> None:
    mine = (await _sent(client))["message_id"]
    path = f"/api/v1/mail/{mine}/status"
    now = rt.clock.now()
    _, bobs = await rt.db.write(tokens.create, world.red.account.id, "mail-api", "user", "b", now, world.red.bob.id)
    assert (await client.get(path)).status == 200
    assert (await admin.get(path)).status == 200
    assert_refused(await client.with_token(world.blue.token).get(path), 404, "MESSAGE_NOT_FOUND")
    bob = client.with_token(bobs)
    assert_refused(await bob.get(path), 403, "ACCESS_DENIED")
    assert (await bob.get(SENT)).json()["total"] == 0
    assert (await admin.get(SENT)).json()["total"] == 1
    assert (await client.with_token(world.blue.token).get(SENT)).json()["total"] == 0
    grants = [permissions.VIEW_STATS]
    await rt.db.write(
        permissions.grant_bulk, world.red.account.id, world.red.bob.id, world.red.domain.id, grants, now
    )  # fmt: skip
    assert (await bob.get(path)).status == 200
    for wrong in (
        "x",
        mine.replace("-", ""),
        "{" + mine + "}",
        "0" * 8,
        mine[:-1] + ("1" if mine[-1] == "0" else "0"),
        "%00",
    ):
        assert_refused(await client.get(f"/api/v1/mail/{wrong}/status"), 404, "MESSAGE_NOT_FOUND")


async def test_lists_are_filtered(client: Client, clock: ManualClock) -> None:
    first = (await _sent(client))["message_id"]
    clock.advance(timedelta(days=2))
    second = (await _sent(client, MINIMAL | {"to": "Zoe@far.example", "from": "ann+t@red.example"}))["message_id"]

    async def found(query: str) -> list[str]:
        reply = await client.get(f"{SENT}?{query}")
        assert reply.status == 200, reply.body
        body = reply.json()
        assert body["total"] == len(body["messages"]) or "limit" in query
        return [one["message_id"] for one in body["messages"]]

    assert await found("") == [second, first]
    assert await found("limit=1&offset=1") == [first]
    assert await found("to=zoe@FAR.example") == [second]
    assert await found("from=ann@red.example") == [first]
    assert await found("status=submitted&from=ann%2Bt@red.example") == [second]
    assert await found("status=sent") == []
    yesterday = (clock.now() - timedelta(days=1)).date()
    assert await found(f"start_date={yesterday}") == [second]
    assert await found(f"end_date={yesterday}T00:00:00Z") == [first]
    for wrong, field in (
        ("limit=0", "limit"), ("limit=201", "limit"), ("offset=-1", "offset"), ("status=lost", "status"),
        ("from=x", "from"), ("to=%00", "to"), ("start_date=yesterday", "start_date"),
        ("end_date=2026-13-01", "end_date"),
    ):  # fmt: skip
        body = assert_refused(await client.get(f"{SENT}?{wrong}"), 422, "VALIDATION_ERROR")
        assert list(body["fields"]) == [field]


async def test_mail_of_programs_is_not_listed_as_sent_through_the_api(
    rt: Runtime, client: Client, world: World
) -> None:
    sent = (await _sent(client))["message_id"]
    await rt.db.write(_from_smtp, sent)
    assert (await client.get(SENT)).json() == {"success": True, "total": 0, "messages": []}
    assert (await client.get(f"/api/v1/mail/{sent}/status")).status == 200


def _from_smtp(conn: WriteConn, public_id: str) -> None:
    s = tables.submissions
    conn.execute(s.update().where(s.c.public_id == UUID(public_id).bytes).values(source="smtp"))


async def test_a_large_message_is_read_in_a_thread(rt: Runtime, client: Client) -> None:
    content = bytes(range(256)) * 8192
    data = MINIMAL | {"attachments": [{"filename": "large.bin", "content": base64.b64encode(content).decode()}]}
    accepted = await _sent(client, data)
    raw = await _raw(rt, accepted["message_id"])
    assert b"".join(message.decoded(message.parse(raw).attachments[0], raw)) == content
    state = (await client.get(f"/api/v1/mail/{accepted['message_id']}/status")).json()
    assert state["status"] == "submitted"


@pytest.mark.parametrize("text", ["QUJD", "QUJD RA==", "QUJDRA==\r\n", ""])
def test_base64_with_space(text: str) -> None:
    assert endpoint.decode_base64(text) == base64.b64decode(text)


@pytest.mark.parametrize(
    "text", ["QUJDRA", "QUJDRA=", "QU JD=x", "QUJD-_==", "data:;base64,QUJD", "=", "QUJDRA==QUJD", "é"]
)
def test_no_base64(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what binascii says differs
        endpoint.decode_base64(text)


def test_large_base64_is_decoded_piece_by_piece() -> None:
    content = bytes(range(256)) * 12_289
    assert endpoint.decode_base64(base64.encodebytes(content).decode()) == content


async def test_the_sweep_lets_go(rt: Runtime, client: Client, clock: ManualClock) -> None:
    accepted = await client.post(SEND, data=MINIMAL, headers={"idempotency-key": "k"})
    found = await rt.db.read(submission.get_by_public_id, None, UUID(accepted.json()["message_id"]))
    await rt.db.write(_finish, found.id)
    await service.sweep(rt, None)  # type: ignore[arg-type]
    assert (await rt.db.read(_counts))["idempotency_keys"] == 1
    clock.advance(service.KEEP_BYTES + timedelta(hours=1))
    await service.sweep(rt, None)  # type: ignore[arg-type]
    assert (await rt.db.read(_counts))["idempotency_keys"] == 0
    assert (await rt.db.read(submission.get, found.account_id, found.id)).content_id is None


def _finish(conn: WriteConn, submission_id: int) -> None:
    s = tables.submissions
    conn.execute(s.update().where(s.c.id == submission_id).values(status="sent", sent=1))


async def test_large_requests_wait_for_memory_and_are_told_when_there_is_none(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = {"filename": "a.bin", "content": base64.b64encode(bytes(200_000)).decode()}
    data = MINIMAL | {"attachments": [attached]}
    assert (await client.post(SEND, data=data)).status == 202
    monkeypatch.setattr(bodies, "WAIT_SECONDS", 0.01)
    taken = bodies.Bodies._take

    async def full(self: bodies.Bodies, cost: int) -> None:
        self._free = 0
        await taken(self, cost)

    monkeypatch.setattr(bodies.Bodies, "_take", full)
    reply = await client.post(SEND, data=data)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert reply.json()["error"] == "TOO_BUSY"
    assert (await client.post(SEND, data=MINIMAL)).status == 202, "small ones need no share"
