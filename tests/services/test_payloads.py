"""What may be under way. The payloads themselves are tested where they are received: tests/jobs/test_automations."""

import asyncio

from restante.services.payloads import Room


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
