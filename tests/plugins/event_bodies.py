"""Holds every event that any test records in its process against the table of types: fields, their kinds, no more."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from restante.core import event_types, events
from restante.core.events import NewEvent
from restante.ids import EventNumber
from restante.schema.connections import WriteConn

_record_all = events.record_all


def record_all(
    conn: WriteConn, account_id: int, facts: Sequence[NewEvent], *, now: datetime, **more: Any
) -> EventNumber:
    """As the real one; fails for a body that its type does not describe."""
    for fact in facts:
        plain = msgspec.json.decode(msgspec.json.encode(fact.body))
        msgspec.convert(plain, event_types.TYPES[fact.type].body)
    return _record_all(conn, account_id, facts, now=now, **more)


@pytest.fixture(autouse=True)
def event_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the check in."""
    monkeypatch.setattr(events, "record_all", record_all)
