"""Backtests: in steps, over mail that came in, without doing anything."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from restante.clock import ManualClock
from restante.core import automations, backtests
from restante.core.automations import Conditions, NewAutomation
from restante.core.mailboxes import Mailbox
from restante.errors import Invalid, NotFound
from restante.ids import AccountId, new_uuid
from restante.runtime import Runtime
from restante.server.operations.automations import automation_test
from restante.services import automations as service
from tests.makers import arrive, eml, make_mailbox, make_message


@pytest.fixture
async def bob(rt: Runtime) -> Mailbox:
    return await make_mailbox(rt)


async def backtest(rt: Runtime, conditions: Conditions, since: str, bob: Mailbox, limit: int = 50) -> list[Any]:
    new = NewAutomation("Test", conditions, deletes=True)
    made, _ = await service.create(rt, bob.account_id, new, None)
    found = [item async for item in automation_test(rt, str(made.public_id), since, limit=limit)]
    after = await rt.db.read(automations.get, bob.account_id, made.public_id)
    assert after == made, "nothing was done"
    return found


async def test_what_would_have_matched(rt: Runtime, bob: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "LOOKED_AT", 4)
    subjects = [f"order {number}" if number % 3 == 0 else "else" for number in range(10)]
    for subject in subjects:
        await arrive(rt, bob, eml(subject))
    await make_message(rt, bob, eml("order of my own"))
    since = (rt.clock.now() - timedelta(hours=1)).isoformat()
    *on_the_way, last = await backtest(rt, Conditions(subject="^ORDER"), since, bob)
    assert [item["scanned"] for item in on_the_way] == [4, 8, 10]
    assert (last["scanned"], last["matched"]) == (10, 4)
    assert [one["subject"] for one in last["messages"]] == ["order 0", "order 3", "order 6", "order 9"]
    assert list(last["messages"][0]) == ["message", "received_at", "sender", "inbox", "subject"]
    *_, few = await backtest(rt, Conditions(), since, bob, limit=3)
    assert (few["matched"], len(few["messages"])) == (10, 3)


async def test_only_since_then(rt: Runtime, bob: Mailbox, clock: ManualClock) -> None:
    await arrive(rt, bob)
    clock.advance(timedelta(hours=2))
    middle = rt.clock.now() - timedelta(hours=1)
    await arrive(rt, bob)
    *_, last = await backtest(rt, Conditions(), middle.isoformat(), bob)
    assert last["matched"] == 1


async def test_other_accounts_are_not_looked_at(rt: Runtime, bob: Mailbox) -> None:
    await arrive(rt, bob)
    nobody = AccountId(bob.account_id + 1)
    found = await rt.db.read(backtests.step, nobody, Conditions(), UUID(int=0), rt.clock.now())
    assert (found.scanned, found.after) == (0, None)


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01"])
async def test_a_time_is_one_of_the_calendar(rt: Runtime, bob: Mailbox, since: str) -> None:
    with pytest.raises(Invalid):
        await backtest(rt, Conditions(), since, bob)


async def test_there_must_be_one(rt: Runtime, bob: Mailbox) -> None:
    with pytest.raises(NotFound):
        [item async for item in automation_test(rt, str(new_uuid()), "2026-01-01T00:00:00Z")]
