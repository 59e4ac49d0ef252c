"""Why a message is where it is."""

import pytest

from restante.core import folders, mailboxes, messages, routing
from restante.core.messages import Flag
from restante.runtime import Runtime
from restante.services import reception
from restante.services.reception import Envelope, Source
from tests.api.mail_api.sample import Tenant, letter, put
from tests.api.native.client import Native
from tests.api.native.test_events import assert_problem

SOURCE = Source("192.0.2.7", "mx.other.example", "ESMTPS", "mail.example.test", "TLSv1.3")


async def receive(rt: Runtime, recipient: str) -> str:
    routes = await rt.db.read(routing.resolve, recipient)
    receipt = await reception.receive(rt, Envelope("eve@other.example", tuple(routes)), SOURCE, letter())
    return receipt.delivered[0].public_id


async def test_the_whole_story_is_told(rt: Runtime, owner: Native, red: Tenant) -> None:
    public_id = await receive(rt, "ann@red.example")
    now = rt.clock.now()
    row = (await rt.db.read(messages.by_ids, red.account.id, [1]))[0]
    await rt.db.write(messages.set_flags, red.account.id, red.ann.id, [row.id], add=Flag.SEEN, now=now)
    archive = await rt.db.read(folders.get_folder, red.account.id, red.ann.id, "Archive")
    await rt.db.write(messages.move, red.account.id, red.ann.id, [row.id], archive.id, now=now)
    told = (await owner.get(f"/messages/{public_id}/explain")).json()
    assert list(told) == ["message", "mailbox", "folder", "arrival", "bytes", "events", "is_whole"]
    assert (told["mailbox"], told["folder"], told["is_whole"]) == ("ann@red.example", "Archive", True)
    arrival = told["arrival"]
    assert (arrival["route"], arrival["envelope_sender"]) == ("address", "eve@other.example")
    assert arrival["trace"][0] == "Return-Path: <eve@other.example>"
    assert arrival["trace"][2].startswith(
        "Received: from mx.other.example ([192.0.2.7]) by mail.example.test with ESMTPS"
    )
    assert told["bytes"] == {
        "size_bytes": len(letter()),
        "sha256": told["bytes"]["sha256"],
        "kept_in": "row",
        "parts": 1,
    }
    assert [item["type"] for item in told["events"]] == [
        "message.received", "message.read", "message.flagged", "message.moved",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recipient", "route"),
    [("ann+shop@red.example", "tag"), ("sales@red.example", "alias"), ("sales+7@red.example", "tag")],
)
async def test_the_way_to_the_mailbox_is_named(
    rt: Runtime, owner: Native, red: Tenant, recipient: str, route: str
) -> None:
    await rt.db.write(mailboxes.add_alias, red.account.id, "sales@red.example", red.ann.id, rt.clock.now())
    public_id = await receive(rt, recipient)
    assert (await owner.get(f"/messages/{public_id}/explain")).json()["arrival"]["route"] == route


async def test_what_was_stored_did_not_come(rt: Runtime, owner: Native, red: Tenant) -> None:
    one = await put(rt, red.ann, letter())
    assert (await owner.get(f"/messages/{one.public_id}/explain")).json()["arrival"]["route"] == "stored"


async def test_foreign_and_malformed_ids_are_not_there(
    rt: Runtime, owner: Native, ann: Native, red: Tenant, blue: Tenant
) -> None:
    foreign = await put(rt, blue.ann, letter())
    of_bob = await put(rt, red.bob, letter())
    for public_id in (foreign.public_id, "nonsense", "0" * 32, "1" * 5000):
        assert_problem(await owner.get(f"/messages/{public_id}/explain"), 404, "message_not_found")
    assert_problem(await ann.get(f"/messages/{of_bob.public_id}/explain"), 404, "message_not_found")
