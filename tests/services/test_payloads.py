"""What may be under way, and lists that take their time. Receivers test the rest: tests/jobs/test_automations."""

import asyncio
import json

import pytest

from restante.core import messages
from restante.runtime import Runtime
from restante.services import arrivals
from restante.services.payloads import Payloads, Room
from tests.makers import arrive, eml, make_mailbox


async def test_old_mail_is_waited_for(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_SECONDS", 0.0)  # of one call: it gives up after the first batch
    monkeypatch.setattr(arrivals, "BATCH", 2)
    bob = await make_mailbox(rt)
    stored = [await arrive(rt, bob, eml(f"mail {number}")) for number in range(20)]
    payloads = Payloads(rt)
    rows = [await rt.db.read(messages.get, bob.account_id, one.message_id) for one in (stored[-1], stored[0])]
    bodies = await asyncio.gather(*(payloads.make(bob.account_id, row, "json") for row in rows))
    assert [json.loads(body)["data"]["subject"] for body in bodies] == ["mail 19", "mail 0"]


async def test_messages_under_way_are_bounded() -> None:
    room = Room(100)
    order: list[str] = []

    async def take(name: str, size: int, until: asyncio.Event) -> None:
        async with room.hold(size):
            order.append(name)
            await until.wait()

    first, second = asyncio.Event(), asyncio.Event()
    second.set()
    tasks = [asyncio.create_task(take("a", 60, first)), asyncio.create_task(take("b", 500, second))]
    tasks.append(asyncio.create_task(take("c", 1, second)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["a"]
    first.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
