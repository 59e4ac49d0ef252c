"""Operations on automations."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID

from restante import ids
from restante.core import automation_runs, automations, backtests
from restante.core.automation_runs import Run
from restante.core.automations import Automation, Conditions, NewAutomation, PayloadFormat
from restante.errors import Invalid
from restante.ids import EventNumber
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.server.operations import naming
from restante.services import automations as service

MAX_LIMIT = 1000
CLOCKS = timedelta(days=1)  # ids are made by a clock that may have been wrong; the time of receipt decides
CLEARED = ""  # names nothing in a change

Json = dict[str, Any]


def _automation_json(found: Automation) -> Json:
    wanted = found.conditions
    return {
        "id": str(found.public_id),
        "title": found.title,
        "sender": wanted.sender,
        "inbox": wanted.inbox,
        "subject": wanted.subject,
        "has_attachments": wanted.has_attachments,
        "url": found.url,
        "payload_format": found.payload_format,
        "has_secret_token": found.secret_token is not None,
        "forward_to": found.forward_to,
        "deletes": found.deletes,
        "emails_received": found.emails_received,
        "in_error": found.in_error,
        "last_error": found.last_error,
        "retry_at": naming.moment(found.retry_at),
        "created_at": naming.moment(found.created_at),
        "updated_at": naming.moment(found.updated_at),
    }


def _run_json(run: Run) -> Json:
    return {
        "run": run.number,
        "message": str(run.message_id),
        "status": run.status,
        "attempts": run.attempts,
        "http_status": run.http_status,
        "error": run.error,
        "created_at": naming.moment(run.created_at),
        "next_attempt_at": naming.moment(run.next_attempt_at),
        "finished_at": naming.moment(run.finished_at),
    }


def _get(conn: ReadConn, account: str | None, public_id: UUID) -> Automation:
    return automations.get(conn, naming.account(conn, account).id, public_id)


def _list(conn: ReadConn, account: str | None) -> list[Json]:
    return [_automation_json(one) for one in automations.list_automations(conn, naming.account(conn, account).id)]


def _list_runs(
    conn: ReadConn, account: str | None, public_id: UUID, status: str | None, after: int, limit: int
) -> list[Json]:
    found = _get(conn, account, public_id)
    runs = automation_runs.list_runs(conn, found.account_id, found.id, status, EventNumber(after), limit)
    return [_run_json(one) for one in runs]


async def automation_add(
    rt: Runtime,
    title: str,
    account: str | None = None,
    sender: str | None = None,
    inbox: str | None = None,
    subject: str | None = None,
    has_attachments: bool = False,
    url: str | None = None,
    payload_format: PayloadFormat = "json",
    secret_token: str | None = None,
    forward_to: str | None = None,
    deletes: bool = False,
) -> Json:
    """Add an automation of an account; the only answer that ever holds its signing secret."""
    owner = await rt.db.read(naming.account, account)
    wanted = Conditions(sender, inbox, subject, has_attachments)
    new = NewAutomation(title, wanted, url, payload_format, forward_to=forward_to, deletes=deletes)
    made, secret = await service.create(rt, owner.id, new, secret_token)
    return _automation_json(made) | {"secret": secret}


async def automation_list(rt: Runtime, account: str | None = None) -> Json:
    """The automations of an account."""
    return {"automations": await rt.db.read(_list, account)}


async def automation_update(
    rt: Runtime, automation: str, changes: dict[str, str | bool], account: str | None = None
) -> Json:
    """Change what is named; an empty text stands for nothing."""
    owner = await rt.db.read(naming.account, account)
    named = {name: None if value == CLEARED and name != "title" else value for name, value in changes.items()}
    return _automation_json(await service.revise(rt, owner.id, naming.public_id(automation, "automation"), named))


async def automation_remove(rt: Runtime, automation: str, account: str | None = None) -> Json:
    """Run it no more."""
    owner = await rt.db.read(naming.account, account)
    await rt.db.write(automations.remove, owner.id, naming.public_id(automation, "automation"), rt.clock.now())
    return {"id": automation, "removed": True}


async def automation_runs_list(
    rt: Runtime, automation: str, account: str | None = None, status: str | None = None, after: int = 0, limit: int = 50
) -> Json:
    """An automation's runs behind the number ``after``, oldest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"at most {MAX_LIMIT} runs")
    found = await rt.db.read(_list_runs, account, naming.public_id(automation, "automation"), status, after, limit)
    return {"runs": found, "cursor": found[-1]["run"] if found else after, "is_last": len(found) < limit}


async def automation_test(
    rt: Runtime, automation: str, since: str, account: str | None = None, limit: int = 50
) -> AsyncGenerator[Json, None]:
    """Look which stored messages its conditions meet, and do nothing: counts on the way, the first ``limit`` last."""
    moment = naming.read_moment(since)
    assert moment is not None
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"at most {MAX_LIMIT} messages")
    found = await rt.db.read(_get, account, naming.public_id(automation, "automation"))
    after: UUID | None = ids.first_uuid(moment - CLOCKS)
    scanned, matched, shown = 0, 0, list[Json]()
    while after is not None:
        step = await rt.db.read(backtests.step, found.account_id, found.conditions, after, moment)
        scanned, matched, after = scanned + step.scanned, matched + len(step.matched), step.after
        shown += [
            {
                "message": str(one.message_id),
                "received_at": naming.moment(one.received_at),
                "sender": one.sender,
                "inbox": one.inbox,
                "subject": one.subject,
            }
            for one in step.matched[: limit - len(shown)]
        ]
        yield {"scanned": scanned, "matched": matched}
    yield {"scanned": scanned, "matched": matched, "messages": shown}
