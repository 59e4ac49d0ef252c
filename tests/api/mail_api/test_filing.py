"""One's own mailbox: folders, flags, moves, deletion, raw bytes, quota."""

from typing import Any

import pytest

from restante.core import mailboxes, messages
from restante.runtime import Runtime
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, letter, put

FOLDERS = f"{ANN}/folders"
MESSAGE = f"{ANN}/messages/1"


@pytest.fixture
async def stored(rt: Runtime, world: World) -> Any:
    """A message in Ann's INBOX, UID 1."""
    return await put(rt, world.red.ann, letter())


async def test_folders(client: Client) -> None:
    made = await client.post(FOLDERS, data={"name": "Work/2026"})
    assert made.status == 201
    assert made.json() == {
        "success": True, "mailbox": "ann@red.example",
        "folder": {"name": "Work/2026", "messages": 0, "unread": 0, "size": 0},
    }  # fmt: skip
    assert_refused(await client.post(FOLDERS, data={"name": "Work/2026"}), 409, "FOLDER_EXISTS")
    renamed = await client.call("PUT", f"{FOLDERS}?folder=Work%2F2026", data={"name": "Jobs"})
    assert renamed.json()["folder"]["name"] == "Jobs"
    assert_refused(await client.call("DELETE", f"{FOLDERS}?folder=Work/2026"), 400, "INVALID_FOLDER")
    gone = await client.call("DELETE", f"{FOLDERS}?folder=Jobs")
    assert gone.json() == {"success": True, "message": "Folder Jobs has been deleted"}


@pytest.mark.parametrize("name", ["", "a//b", "..", "a\0b", "a\nb"])
async def test_names_that_are_none(client: Client, name: str) -> None:
    assert_refused(await client.post(FOLDERS, data={"name": name}), 400, "INVALID_FOLDER")
    await client.post(FOLDERS, data={"name": "Work"})
    reply = await client.call("PUT", f"{FOLDERS}?folder=Work", data={"name": name})
    assert_refused(reply, 400, "INVALID_FOLDER")


async def test_folders_that_stay(stored: Any, client: Client) -> None:
    for name in ("INBOX", "Spam", "junk", "Trash"):
        assert_refused(await client.call("DELETE", f"{FOLDERS}?folder={name}"), 409, "FOLDER_PROTECTED")
        reply = await client.call("PUT", f"{FOLDERS}?folder={name}", data={"name": "Other"})
        assert_refused(reply, 409, "FOLDER_PROTECTED")
    assert_refused(await client.post(FOLDERS, data={"name": "spam"}), 409, "FOLDER_EXISTS")
    await client.post(FOLDERS, data={"name": "Work"})
    await client.call("PATCH", MESSAGE, data={"move_to": "Work"})
    assert_refused(await client.call("DELETE", f"{FOLDERS}?folder=Work"), 409, "FOLDER_NOT_EMPTY")
    assert_refused(await client.call("DELETE", FOLDERS), 422, "VALIDATION_ERROR")


async def test_flags(stored: Any, client: Client) -> None:
    reply = await client.call("PATCH", MESSAGE, data={"add_flags": ["\\Seen", "\\Flagged"]})
    assert reply.json() == {
        "success": True, "mailbox": "ann@red.example", "folder": "INBOX", "uid": 1, "flags": ["\\Seen", "\\Flagged"],
    }  # fmt: skip
    reply = await client.call("PATCH", MESSAGE, data={"remove_flags": ["\\Seen"], "add_flags": ["\\Answered"]})
    assert reply.json()["flags"] == ["\\Answered", "\\Flagged"] == (await client.get(MESSAGE)).json()["flags"]
    assert (await client.get(FOLDERS)).json()["folders"][0]["unread"] == 1


async def test_a_move_and_a_flag_at_once(stored: Any, client: Client) -> None:
    data = {"add_flags": ["\\Seen"], "move_to": "junk"}
    body = (await client.call("PATCH", MESSAGE, data=data)).json()
    assert (body["folder"], body["uid"], body["flags"]) == ("Spam", 1, ["\\Seen"])
    assert_refused(await client.get(MESSAGE), 404, "MESSAGE_NOT_FOUND")
    back = await client.call("PATCH", f"{MESSAGE}?folder=Spam", data={"move_to": "INBOX"})
    assert (back.json()["folder"], back.json()["uid"]) == ("INBOX", 2)
    assert (await client.call("PATCH", f"{ANN}/messages/2", data={"move_to": "INBOX"})).json()["uid"] == 2


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        ({}, 422, "VALIDATION_ERROR"),
        ({"add_flags": []}, 422, "VALIDATION_ERROR"),
        ({"add_flags": ["\\Recent"]}, 422, "VALIDATION_ERROR"),
        ({"add_flags": "\\Seen"}, 422, "VALIDATION_ERROR"),
        ({"add_flags": ["\\Seen"] * 11}, 422, "VALIDATION_ERROR"),
        ({"move_to": 7}, 422, "VALIDATION_ERROR"),
        ({"move_to": "Nowhere"}, 400, "INVALID_FOLDER"),
        ({"move_to": "a\0b", "add_flags": ["\\Seen"]}, 400, "INVALID_FOLDER"),
    ],
)
async def test_changes_that_cannot_be(
    stored: Any, client: Client, data: dict[str, Any], status: int, code: str
) -> None:
    assert_refused(await client.call("PATCH", MESSAGE, data=data), status, code)
    assert (await client.get(MESSAGE)).json()["flags"] == []


async def test_deletion_goes_by_the_trash(rt: Runtime, world: World, stored: Any, client: Client) -> None:
    assert (await client.call("DELETE", MESSAGE)).json()["message"] == "The message has been moved to Trash"
    assert_refused(await client.call("DELETE", MESSAGE), 404, "MESSAGE_NOT_FOUND")
    gone = await client.call("DELETE", f"{MESSAGE}?folder=Trash")
    assert gone.json()["message"] == "The message has been deleted for good"
    await put(rt, world.red.ann, letter())
    gone = await client.call("DELETE", f"{ANN}/messages/2?permanent=true")
    assert gone.json()["message"] == "The message has been deleted for good"
    assert (await client.get(f"{ANN}/quota")).json()["messages"] == 0


async def test_a_message_that_went_meanwhile(
    rt: Runtime, world: World, stored: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = world.red.ann
    write = rt.db.write

    async def after_another(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if fn is messages.revise:
            await write(messages.remove, ann.account_id, ann.id, [args[2]], now=rt.clock.now())
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(rt.db, "write", after_another)
    assert_refused(await client.call("PATCH", MESSAGE, data={"move_to": "Archive"}), 404, "MESSAGE_NOT_FOUND")


async def test_raw(stored: Any, client: Client) -> None:
    reply = await client.get(f"{MESSAGE}/raw")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "message/rfc822", letter())
    assert reply.headers["content-disposition"].endswith('filename="message-1.eml"')
    assert "sandbox" in reply.headers["content-security-policy"]
    assert_refused(await client.get(f"{ANN}/messages/2/raw"), 404, "MESSAGE_NOT_FOUND")
    assert_refused(await client.get(f"{MESSAGE}/raw?folder=Nowhere"), 400, "INVALID_FOLDER")


async def test_quota(rt: Runtime, world: World, stored: Any, client: Client) -> None:
    body = (await client.get(f"{ANN}/quota")).json()
    assert body == {
        "success": True, "mailbox": "ann@red.example", "quota": None, "used": len(letter()), "messages": 1,
    }  # fmt: skip
    ann = world.red.ann
    await rt.db.write(mailboxes.set_quota, ann.account_id, ann.id, 1000, rt.clock.now())
    assert (await client.get(f"{ANN}/quota")).json()["quota"] == 1000
