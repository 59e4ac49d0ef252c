"""Waiting for a message: it comes, it was there behind the cursor, it never comes."""

import asyncio

import pytest

from restante.core import messages
from restante.runtime import Runtime
from tests.api.mail_api.sample import Tenant, letter, put
from tests.api.native.client import Native
from tests.api.native.test_events import assert_problem

ANN = "/mailboxes/ann@red.example/wait"


async def test_a_message_that_comes_is_returned(rt: Runtime, owner: Native, red: Tenant) -> None:
    cursor = (await owner.post(ANN, data={"subject": "code", "timeout_seconds": 0})).json()["cursor"]
    data = {"subject": "code", "timeout_seconds": 120, "after": cursor}
    waiting = asyncio.create_task(owner.post(ANN, data=data))
    await put(rt, red.ann, letter(subject="Something else"))
    await put(rt, red.bob, letter(subject="Your CODE"))
    one = await put(rt, red.ann, letter(subject="Your CODE is 1234"))
    body = (await waiting).json()
    assert body["message"]["id"] == one.public_id
    assert list(body["message"]) == [
        "id", "mailbox_id", "folder_id", "uid", "received_at", "envelope_sender", "recipient", "from", "to", "subject",
        "message_id", "preview", "flags", "attachments", "size_bytes",
    ]  # fmt: skip
    assert body["message"]["from"] == {"name": "John Doe", "address": "john@x.example"}


async def test_an_old_message_is_never_the_new_one(rt: Runtime, owner: Native, red: Tenant) -> None:
    await put(rt, red.ann, letter(subject="code 1"))
    nothing = (await owner.post(ANN, data={"subject": "code", "timeout_seconds": 0})).json()
    assert nothing["message"] is None
    two = await put(rt, red.ann, letter(subject="code 2"))  # between two calls
    found = (await owner.post(ANN, data={"subject": "code", "after": nothing["cursor"]})).json()
    assert found["message"]["id"] == two.public_id
    again = (await owner.post(ANN, data={"subject": "code", "after": found["cursor"], "timeout_seconds": 0})).json()
    assert again["message"] is None


async def test_all_conditions_hold(rt: Runtime, owner: Native, red: Tenant) -> None:
    start = (await owner.post(ANN, data={"timeout_seconds": 0})).json()["cursor"]
    await put(rt, red.ann, letter(subject="alpha", sender="Zoe <zoe@x.example>"))
    one = await put(rt, red.ann, letter(subject="alpha", sender="Max <max@x.example>"))
    wanted = {"subject": "ALPHA", "sender": "max@", "after": start, "timeout_seconds": 0}
    assert (await owner.post(ANN, data=wanted)).json()["message"]["id"] == one.public_id
    wanted["recipient"] = "nobody"
    assert (await owner.post(ANN, data=wanted)).json()["message"] is None


async def test_a_deleted_message_is_no_answer(rt: Runtime, owner: Native, red: Tenant) -> None:
    start = (await owner.post(ANN, data={"timeout_seconds": 0})).json()["cursor"]
    one = await put(rt, red.ann, letter())
    await rt.db.write(messages.remove, red.account.id, red.ann.id, [one.message_id], now=rt.clock.now())
    assert (await owner.post(ANN, data={"after": start, "timeout_seconds": 0})).json()["message"] is None


async def test_own_mailboxes_alone(owner: Native, ann: Native, blue: Tenant) -> None:
    foreign = await owner.post("/mailboxes/ann@blue.example/wait", data={})
    assert_problem(foreign, 404, "mailbox_not_found")
    assert foreign.body == (await owner.post("/mailboxes/none@blue.example/wait", data={})).body
    assert_problem(await ann.post("/mailboxes/bob@red.example/wait", data={}), 404, "mailbox_not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"timeout_seconds": 121},
        {"timeout_seconds": -1},
        {"after": -1},
        {"after": 10**6},
        {"subject": "x" * 1001},
        {"subject": 7},
        {"other": 1},
        [],
    ],
)
async def test_bad_wishes_are_refused(owner: Native, body: object) -> None:
    reply = await owner.post(ANN, data=body)
    assert reply.status == 422
    assert reply.headers["content-type"] == "application/problem+json"


async def test_what_is_no_json_is_refused(owner: Native) -> None:
    assert_problem(await owner.post(ANN, body=b"{"), 400, "invalid_json")
