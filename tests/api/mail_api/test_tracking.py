"""One sent message whole, its log, sending it again, stopping it, and the inbox beside them."""

from typing import Any
from uuid import UUID

import pytest

from restante.core import permissions, submission, tokens, tracking, transfer
from restante.core.submission import Submission
from restante.core.transfer import Outcome, OutcomeStatus
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from tests.api.mail_api.sample import Client, World, assert_refused, letter, put

SEND = "/api/v1/mail/send"
LETTER: dict[str, Any] = {
    "from": "ann@red.example",
    "to": ["eve@far.example", "x@gone.example"],
    "cc": "carl@far.example",
    "bcc": "dora@far.example",
    "subject": "Two chairs",
    "body": {"text": "They are ready."},
    "headers": {"X-Order": "7"},
    "attachments": [{"filename": "a.txt", "content": "QUJD"}],
}


@pytest.fixture
async def sent(client: Client) -> str:
    """The path of a message of Ann's that waits for four recipients."""
    reply = await client.post(SEND, data=LETTER)
    assert reply.status == 202
    return f"/api/v1/mail/{reply.json()['message_id']}"


async def _found(rt: Runtime, path: str) -> Submission:
    return await rt.db.read(submission.get_by_public_id, None, UUID(path.rpartition("/")[2]))


async def _tried(rt: Runtime, path: str, **statuses: OutcomeStatus) -> None:
    """Record one try; ``statuses`` by the first part of the address."""
    found = await _found(rt, path)
    for one in await rt.db.read(submission.list_recipients, found.account_id, [found.id]):
        status = statuses.get(one.address.partition("@")[0])
        if status is not None:
            outcome = Outcome(one.id, status, "2.0.0" if status == "sent" else "5.1.1", "said so", "mx.far.example")
            await rt.db.write(
                transfer.record_attempts, found.account_id, found.id, one.domain, [outcome], rt.clock.now()
            )


async def test_detail(client: Client, sent: str) -> None:
    body = (await client.get(sent)).json()
    assert list(body) == [
        "success", "message_id", "queue_id", "from", "to", "cc", "bcc", "subject", "status", "size", "created_at",
        "submitted_at", "headers", "body", "attachments",
    ]  # fmt: skip
    assert (body["from"], body["to"]) == ("ann@red.example", ["eve@far.example", "x@gone.example"])
    assert (body["cc"], body["bcc"]) == (["carl@far.example"], ["dora@far.example"])
    assert body["body"] == {"text": "They are ready.\n", "html": None}
    assert body["headers"] == {"X-Order": "7"}
    assert [one["filename"] for one in body["attachments"]] == ["a.txt"]


async def test_detail_without_bytes(rt: Runtime, client: Client, sent: str) -> None:
    found = await _found(rt, sent)
    await rt.db.write(submission.release_contents, found.account_id, [found.id], rt.clock.now())
    body = (await client.get(sent)).json()
    assert (body["subject"], body["headers"], body["body"], body["attachments"]) == ("Two chairs", None, None, None)
    assert_refused(await client.post(sent + "/resend", data={"all": True}), 409, "BYTES_GONE")


async def test_log(rt: Runtime, client: Client, sent: str) -> None:
    assert (await client.get(sent + "/log")).json()["log"] == []
    await _tried(rt, sent, eve="sent", x="bounced")
    body = (await client.get(sent + "/log")).json()
    assert list(body) == ["success", "message_id", "status", "log"]
    assert body["status"] == "submitted"
    assert [(one["email"], one["status"], one["dsn_code"]) for one in body["log"]] == [
        ("eve@far.example", "sent", "2.0.0"), ("x@gone.example", "bounced", "5.1.1"),
    ]  # fmt: skip
    assert list(body["log"][0]) == [
        "email", "attempted_at", "status", "dsn_code", "smtp_response", "remote_mta", "tls"
    ]  # fmt: skip


async def test_resend(rt: Runtime, client: Client, sent: str) -> None:
    assert_refused(await client.post(sent + "/resend"), 409, "NOTHING_BOUNCED")
    await _tried(rt, sent, eve="sent", x="bounced")
    reply = await client.post(sent + "/resend")
    assert (reply.status, reply.json()["recipient_count"]) == (202, 1)
    again = await client.get(f"/api/v1/mail/{reply.json()['message_id']}/status")
    assert [(one["email"], one["status"]) for one in again.json()["recipients"]] == [("x@gone.example", "pending")]
    assert (await client.get(sent + "/status")).json()["message_id"] != reply.json()["message_id"]
    everyone = await client.post(sent + "/resend", data={"all": True})
    assert everyone.json()["recipient_count"] == 4
    detail = (await client.get(f"/api/v1/mail/{everyone.json()['message_id']}")).json()
    assert (detail["bcc"], detail["body"]["text"]) == (["dora@far.example"], "They are ready.\n")
    sent_folder = (await client.get("/api/v1/mailbox/ann@red.example/messages?folder=Sent")).json()
    assert sent_folder["total"] == 1, "one copy, however often it is sent"
    assert_refused(await client.post(sent + "/resend", data={"all": "yes"}), 422, "VALIDATION_ERROR")


async def test_cancel(rt: Runtime, client: Client, sent: str) -> None:
    await _tried(rt, sent, eve="sent", x="deferred")
    reply = await client.post(sent + "/cancel")
    assert reply.json() == {
        "success": True, "message_id": sent.rpartition("/")[2], "status": "partial", "cancelled": 3
    }  # fmt: skip
    state = (await client.get(sent + "/status")).json()
    assert [one["status"] for one in state["recipients"]] == ["sent", "bounced", "bounced", "bounced"]
    assert state["recipients"][1]["dsn_code"] == transfer.CANCELLED
    assert state["recipients"][1]["smtp_response"] == "cancelled by the sender"
    assert_refused(await client.post(sent + "/cancel"), 409, "ALREADY_FINAL")


async def test_only_the_sender_and_the_operator(
    rt: Runtime, client: Client, admin: Client, world: World, sent: str
) -> None:
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, world.red.account.id, "mail-api", "user", "b", now, world.red.bob.id)
    names = list(permissions.CATALOGUE)
    await rt.db.write(permissions.grant_bulk, world.red.account.id, world.red.bob.id, world.red.domain.id, names, now)
    bob, eve = client.with_token(plain), client.with_token(world.blue.token)
    before = await rt.db.read(_count)
    for method, path in (("GET", ""), ("POST", "/resend"), ("POST", "/cancel"), ("GET", "/log")):
        status = 200 if path == "/log" else 403  # view_stats shows where it stands, not what it says
        assert (await bob.call(method, sent + path)).status == status
        assert_refused(await eve.call(method, sent + path), 404, "MESSAGE_NOT_FOUND")
        nothing = f"/api/v1/mail/{UUID(int=7)}{path}"
        assert_refused(await admin.call(method, nothing), 404, "MESSAGE_NOT_FOUND")
        assert_refused(await client.call(method, f"/api/v1/mail/x{path}"), 404, "MESSAGE_NOT_FOUND")
        assert_refused(await client.with_token(None).call(method, sent + path), 401, "NO_API_TOKEN")
    assert await rt.db.read(_count) == before
    assert (await admin.get(sent)).status == 200
    assert (await admin.post(sent + "/cancel")).json()["cancelled"] == 4


def _count(conn: ReadConn) -> int:
    return tracking.list_page(conn, None, tracking.Query()).total


async def test_inbox(rt: Runtime, client: Client, admin: Client, world: World) -> None:
    await put(rt, world.red.ann, letter())
    body = (await client.get("/api/v1/mail/inbox")).json()
    assert (body["mailbox"], body["folder"], body["total"]) == ("ann@red.example", "INBOX", 1)
    assert body == (await client.get("/api/v1/mailbox/ann@red.example/messages")).json()
    assert (await client.get("/api/v1/mail/inbox?offset=1")).json()["messages"] == []
    assert_refused(await client.get("/api/v1/mail/inbox?email=bob@red.example"), 403, "ACCESS_DENIED")
    assert_refused(await client.get("/api/v1/mail/inbox?limit=201"), 422, "VALIDATION_ERROR")
    assert_refused(await admin.get("/api/v1/mail/inbox?email=nobody@red.example"), 404, "MAILBOX_NOT_FOUND")
    assert list(assert_refused(await admin.get("/api/v1/mail/inbox"), 422, "VALIDATION_ERROR")["fields"]) == ["email"]
    assert (await admin.get("/api/v1/mail/inbox?email=ann@red.example")).json() == body
