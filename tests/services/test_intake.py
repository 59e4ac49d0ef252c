"""Intake: which messages are examined together, and that nobody waits for what does not come."""

import asyncio
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from restante.services import intake, storing
from restante.services.intake import Incoming, Intake
from restante.services.storing import Examined
from tests.api.mail_api.sample import letter, rich_letter

PATIENCE = 60.0  # seconds; far more than any of this takes


class Groups:
    """Remembers what was examined together; a message stands for what was found out about it."""

    def __init__(self) -> None:
        self.seen: list[list[bytes]] = []
        self.intake = Intake(self._examine)

    def _examine(self, messages: Sequence[Incoming]) -> list[Examined]:
        self.seen.append([bytes(one.raw) for one in messages])
        if any(one.raw == b"bad" for one in messages):
            raise ValueError("bad")
        return [cast("Examined", bytes(one.raw)) for one in messages]

    def put(self, *raws: bytes) -> "list[asyncio.Future[Examined]]":
        return [self.intake.examine(Incoming(raw, "")) for raw in raws]


async def _all(futures: "list[asyncio.Future[Examined]]") -> list[object]:
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*futures, return_exceptions=True))


@pytest.mark.parametrize("under_way", [0, 1, 2, 3])
async def test_a_message_that_comes_alone_waits_for_no_other(under_way: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAIT_SECONDS", PATIENCE * 10)
    groups = Groups()
    groups.intake.expect(under_way)
    assert await _all(groups.put(b"one")) == [b"one"]


@pytest.mark.parametrize("under_way", [0, 1])
async def test_where_no_other_is_under_way_a_message_is_examined_at_once(under_way: int) -> None:
    groups = Groups()
    groups.intake.expect(under_way)
    (found,) = groups.put(b"one")
    assert found.done()


async def test_half_of_those_under_way_are_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAIT_SECONDS", PATIENCE * 10)
    groups = Groups()
    groups.intake.expect(8)
    first = groups.put(b"1", b"2", b"3")
    for _ in range(10):
        await asyncio.sleep(0)
    assert groups.seen == []
    assert await _all([*first, *groups.put(b"4")]) == [b"1", b"2", b"3", b"4"]
    assert groups.seen == [[b"1", b"2", b"3", b"4"]]


async def test_what_does_not_come_is_not_waited_for_long() -> None:
    groups = Groups()
    groups.intake.expect(30)
    assert await _all(groups.put(b"1", b"2")) == [b"1", b"2"]
    assert groups.seen == [[b"1", b"2"]]


async def test_a_message_waits_for_those_that_are_under_way_when_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAIT_SECONDS", PATIENCE * 10)
    groups = Groups()
    groups.intake.expect(20)
    groups.intake.expect(-18)
    assert await _all(groups.put(b"1")) == [b"1"]


async def test_what_nobody_expected_makes_groups_too() -> None:
    groups = Groups()
    groups.intake.expect(2)
    raws = [b"%d" % number for number in range(2 * intake.TOGETHER)]
    assert await _all(groups.put(*raws)) == raws
    assert max(map(len, groups.seen)) == intake.TOGETHER


async def test_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups()
    groups.intake.expect(1000)
    raws = [b"%d" % number for number in range(3 * intake.TOGETHER + 1)]
    assert await _all(groups.put(*raws)) == raws
    assert [len(some) for some in groups.seen] == [intake.TOGETHER] * 3 + [1]


async def test_a_group_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAIT_SECONDS", PATIENCE * 10)
    groups = Groups()
    groups.intake.expect(20)
    large = [bytes(intake.TOGETHER_BYTES - 1), b"a", bytes(intake.TOGETHER_BYTES)]
    assert await _all(groups.put(*large)) == large
    assert [len(some) for some in groups.seen] == [2, 1]


async def test_the_next_group_begins_after_the_callers_of_the_first_went_on() -> None:
    groups = Groups()
    groups.intake.expect(4)
    loop = asyncio.get_running_loop()
    sent: list[tuple[bytes, int]] = []

    async def call(raw: bytes) -> None:
        await groups.intake.examine(Incoming(raw, ""))
        loop.call_soon(lambda: sent.append((raw, len(groups.seen))))  # as the link to the writer does

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for raw in (b"1", b"2", b"3", b"4"):
            group.create_task(call(raw))
    await asyncio.sleep(0)
    assert groups.seen == [[b"1", b"2"], [b"3", b"4"]]
    assert sent == [(b"1", 1), (b"2", 1), (b"3", 2), (b"4", 2)]


async def test_one_that_cannot_be_examined_harms_no_other() -> None:
    groups = Groups()
    groups.intake.expect(6)
    good, bad, other = await _all(groups.put(b"good", b"bad", b"other"))
    assert (good, other) == (b"good", b"other")
    assert isinstance(bad, ValueError)


async def test_where_an_answer_is_missing_each_is_examined_alone() -> None:
    groups = Groups()
    groups.intake = Intake(lambda messages: cast("list[Examined]", [one.raw for one in messages][:1]))
    groups.intake.expect(6)
    assert await _all(groups.put(b"1", b"2", b"3")) == [b"1", b"2", b"3"], "each alone"


async def test_the_bytes_of_one_whose_caller_has_gone_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(b"gone")
    groups = Groups()
    groups.intake.expect(6)
    with (tmp_path / "mail").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        groups.intake.examine(Incoming(mapped, "")).cancel()
    assert await _all(groups.put(b"1", b"2", b"3")) == [b"1", b"2", b"3"]


async def test_the_clock_is_stopped_when_a_group_is_full() -> None:
    groups = Groups()
    groups.intake.expect(6)
    futures = groups.put(b"1", b"2", b"3")
    assert groups.intake._timer is None
    await _all(futures)
    assert groups.seen == [[b"1", b"2", b"3"]]


async def test_one_whose_caller_has_gone_is_left_out() -> None:
    groups = Groups()
    groups.intake.expect(6)
    first, second, third = groups.put(b"1", b"2", b"3")
    second.cancel()
    assert await _all([first, third]) == [b"1", b"3"]
    assert groups.seen == [[b"1", b"3"]]


def test_a_message_is_read_alike_alone_and_in_company() -> None:
    raws = [letter(), rich_letter(), b"", b"\xff\0\r\n" * 9, letter("Large", "word " * 200_000)]
    together = storing.examine_all(4096, [Incoming(raw, f"{number}@x.test") for number, raw in enumerate(raws)])
    alone = [storing.examine(raw, f"{number}@x.test", 4096) for number, raw in enumerate(raws)]
    assert together == alone
    assert [one.raw is None for one in together] == [False, False, False, False, True]
