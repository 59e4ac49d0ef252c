"""Endpoints 4 to 8: shapes, order, types, bounds, errors."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from restante.core import folders, mailboxes, messages
from restante.core.messages import Flag
from restante.runtime import Runtime
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, letter, put, rich_letter


async def test_folders(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    await put(rt, world.red.ann, letter(), flags=Flag.SEEN)
    await put(rt, world.red.ann, letter(), "Junk")
    await rt.db.write(folders.create, world.red.account.id, world.red.ann.id, "Work", rt.clock.now())
    reply = await client.get(f"{ANN}/folders")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert list(body) == ["success", "mailbox", "folders"]
    assert body["mailbox"] == "ann@red.example"
    assert [folder["name"] for folder in body["folders"]] == [
        "INBOX", "Sent", "Drafts", "Trash", "Spam", "Archive", "Work",
    ]  # fmt: skip
    inbox = body["folders"][0]
    assert list(inbox) == ["name", "messages", "unread", "size"]
    assert (inbox["messages"], inbox["unread"]) == (2, 1)
    assert inbox["size"] == 2 * len(letter())
    assert body["folders"][4]["messages"] == 1


async def test_list(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter(), flags=Flag.SEEN)
    await put(rt, world.red.ann, rich_letter())
    body = (await client.get(f"{ANN}/messages")).json()
    assert list(body) == ["success", "mailbox", "folder", "total", "messages"]
    assert (body["success"], body["folder"], body["total"]) == (True, "INBOX", 2)
    newest, oldest = body["messages"]
    assert oldest == {
        "uid": 1,
        "message_id": "<abc123@example.com>",
        "from": {"name": "John Doe", "email": "john@x.example"},
        "to": [{"name": "Ann", "email": "ann@red.example"}],
        "subject": "Meeting tomorrow",
        "date": "2024-01-27T10:30:00Z",
        "size": len(letter()),
        "flags": ["\\Seen"],
        "has_attachments": False,
    }
    assert list(oldest) == [
        "uid", "message_id", "from", "to", "subject", "date", "size", "flags", "has_attachments",
    ]  # fmt: skip
    assert newest["uid"] == 2
    assert newest["from"]["name"] == "Jörg"
    assert newest["to"][1] == {"name": "", "email": "list@red.example"}
    assert newest["flags"] == []
    assert newest["has_attachments"] is True
    assert newest["message_id"] is None


async def test_a_message_without_date_shows_when_it_came(rt: Runtime, world: World, client: Client) -> None:
    came = datetime(2025, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    await put(rt, world.red.ann, b"Subject: bare\r\n\r\n", received_at=came)
    (item,) = (await client.get(f"{ANN}/messages")).json()["messages"]
    assert item["date"] == "2025-05-06T07:08:09Z"
    assert item["from"] == {"name": "", "email": ""}
    assert item["to"] == []


async def test_paging(rt: Runtime, world: World, client: Client) -> None:
    for number in range(5):
        await put(rt, world.red.ann, letter(f"number {number}"))

    async def uids(query: str) -> list[int]:
        body = (await client.get(f"{ANN}/messages?{query}")).json()
        assert body["total"] == 5
        return [item["uid"] for item in body["messages"]]

    assert await uids("limit=2") == [5, 4]
    assert await uids("limit=2&offset=2") == [3, 2]
    assert await uids("limit=2&offset=4") == [1]
    assert await uids("offset=5") == []
    assert await uids("offset=9007199254740992") == []
    assert await uids("limit=200&unheard=of&limit=1") == [5]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A5", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("offset=-1", "offset"),
        ("offset=9007199254740993", "offset"),
        ("offset=x", "offset"),
        ("folder=" + "x" * 256, "folder"),
    ],
)
async def test_bounds(client: Client, query: str, field: str) -> None:
    body = assert_refused(await client.get(f"{ANN}/messages?{query}"), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == [field]


async def test_too_many_query_fields(client: Client) -> None:
    assert_refused(await client.get(f"{ANN}/messages?" + "a=1&" * 200), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("given", ["Spam", "Junk", "spam", "JUNK"])
async def test_spam_and_junk_are_one_folder(rt: Runtime, world: World, client: Client, given: str) -> None:
    await put(rt, world.red.ann, letter(), "Junk")
    body = (await client.get(f"{ANN}/messages?folder={given}")).json()
    assert (body["folder"], body["total"]) == ("Spam", 1)
    assert (await client.get(f"{ANN}/messages/1?folder={given}")).status == 200


async def test_special_folders_in_any_case_others_exactly(rt: Runtime, world: World, client: Client) -> None:
    await rt.db.write(folders.create, world.red.account.id, world.red.ann.id, "Work/Übung", rt.clock.now())
    assert (await client.get(f"{ANN}/messages?folder=inbox")).json()["folder"] == "INBOX"
    for spelling in ("Work/%C3%9Cbung", "Work%2F%C3%9Cbung", "Work/Übung"):
        assert (await client.get(f"{ANN}/messages?folder={spelling}")).json()["folder"] == "Work/Übung"
    assert_refused(await client.get(f"{ANN}/messages?folder=work/%C3%9Cbung"), 400, "INVALID_FOLDER")


@pytest.mark.parametrize("rest", ["messages", "messages/1", "messages/1/attachment/0", "search"])
@pytest.mark.parametrize("folder", ["Nowhere", "", "%00", "a'b\"c", "%FF"])
async def test_unknown_folder(client: Client, rest: str, folder: str) -> None:
    assert_refused(await client.get(f"{ANN}/{rest}?q=ab&folder={folder}"), 400, "INVALID_FOLDER")


@pytest.mark.parametrize("email", ["ann%40red.example", "ANN@Red.Example", "ann@red.example", "other@red.example"])
async def test_spellings_of_the_mailbox(rt: Runtime, world: World, client: Client, email: str) -> None:
    ann = world.red.ann
    await rt.db.write(mailboxes.add_alias, ann.account_id, "other@red.example", ann.id, rt.clock.now())
    body = (await client.get(f"/api/v1/mailbox/{email}/folders")).json()
    assert body["mailbox"] == "ann@red.example"


async def test_an_address_with_a_slash(rt: Runtime, world: World, admin: Client) -> None:
    await rt.db.write(mailboxes.create, world.red.account.id, "a/b@red.example", rt.clock.now())
    body = (await admin.get("/api/v1/mailbox/a%2Fb@red.example/folders")).json()
    assert body["mailbox"] == "a/b@red.example"


async def test_full_message(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, rich_letter())
    reply = await client.get(f"{ANN}/messages/1")
    body = reply.json()
    names = "success uid message_id from to cc subject date headers body attachments flags"
    assert list(body) == names.split()
    assert body["cc"] == [{"name": "Bob", "email": "bob@red.example"}]
    assert body["headers"] == {"X-Tag": "one\ntwo"}
    assert list(body["body"]) == ["text", "html"]
    assert body["body"]["text"].strip() == "Plain text"
    assert body["body"]["html"].strip() == "<p>HTML text</p>"
    image, agenda, hostile = body["attachments"]
    assert list(image) == ["index", "filename", "content_type", "size", "content_id"]
    assert (image["index"], image["filename"], image["content_id"]) == (0, "attachment-0", "logo@x")
    assert agenda == {
        "index": 1, "filename": "agenda.pdf", "content_type": "application/pdf", "size": 8, "content_id": None,
    }  # fmt: skip
    assert hostile["index"] == 2
    assert body["flags"] == []


async def test_reading_marks_nothing_as_read(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    await client.get(f"{ANN}/messages/1")
    assert (await client.get(f"{ANN}/folders")).json()["folders"][0]["unread"] == 1


async def test_headers_and_missing_bodies(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    body = (await client.get(f"{ANN}/messages/1")).json()
    assert body["headers"] == {"X-Priority": "1", "Reply-To": "john@x.example"}
    assert body["body"]["html"] is None
    assert body["attachments"] == []
    await put(rt, world.red.ann, b"Content-Type: text/html\r\n\r\n<b>x</b>")
    assert (await client.get(f"{ANN}/messages/2")).json()["body"]["text"] is None


async def test_a_large_message_is_read_off_the_loop(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter(body="word " * 100_000))
    body = (await client.get(f"{ANN}/messages/1")).json()
    assert len(body["body"]["text"]) >= 500_000


@pytest.mark.parametrize(
    "uid", ["2", "0", "-1", "x", "1.0", "%201", "99999999999999999999", "9223372036854775808", "٢"]
)
async def test_unknown_message(rt: Runtime, world: World, client: Client, uid: str) -> None:
    await put(rt, world.red.ann, letter())
    assert_refused(await client.get(f"{ANN}/messages/{uid}"), 404, "MESSAGE_NOT_FOUND")
    assert_refused(await client.get(f"{ANN}/messages/{uid}/attachment/0"), 404, "MESSAGE_NOT_FOUND")


async def test_a_message_is_found_in_its_own_folder_only(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    assert_refused(await client.get(f"{ANN}/messages/1?folder=Sent"), 404, "MESSAGE_NOT_FOUND")


async def test_attachment(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, rich_letter())
    reply = await client.get(f"{ANN}/messages/1/attachment/1")
    assert (reply.status, reply.body) == (200, b"%PDF-1.4")
    assert reply.headers["content-type"] == "application/pdf"
    assert reply.headers["content-length"] == "8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''agenda.pdf; filename=\"agenda.pdf\""


async def test_hostile_attachment_name(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, rich_letter())
    reply = await client.get(f"{ANN}/messages/1/attachment/2")
    assert reply.body == b"<script>"
    name = reply.headers["content-disposition"]
    assert not set(name) & set("\r\n/\\")
    assert re.fullmatch(r"ev_il *X-Injected: 1_\.\.__\.html", name.split("filename=")[-1].strip('"'))
    assert "sandbox" in reply.headers["content-security-policy"]


@pytest.mark.parametrize("index", ["3", "-1", "x", "99999999999999999999", "1.0"])
async def test_unknown_attachment(rt: Runtime, world: World, client: Client, index: str) -> None:
    await put(rt, world.red.ann, rich_letter())
    reply = await client.get(f"{ANN}/messages/1/attachment/{index}")
    assert_refused(reply, 404, "ATTACHMENT_NOT_FOUND")


async def test_damaged_bytes_are_an_imap_error(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    await rt.db.write(damage)
    assert_refused(await client.get(f"{ANN}/messages/1"), 500, "IMAP_ERROR")


def damage(conn: Any) -> None:
    from sqlalchemy import update

    from restante.schema import tables

    conn.execute(update(tables.contents).values(raw=b"nonsense"))


async def test_flags_show_keywords_too(rt: Runtime, world: World, client: Client) -> None:
    stored = await put(rt, world.red.ann, letter())
    ann = world.red.ann
    now = rt.clock.now()
    await rt.db.write(
        messages.set_flags, ann.account_id, ann.id, [stored.message_id], add=Flag.FLAGGED | Flag.ANSWERED, now=now
    )
    (item,) = (await client.get(f"{ANN}/messages")).json()["messages"]
    assert item["flags"] == ["\\Answered", "\\Flagged"]
