"""Retention: what the rules of accounts want gone goes to Trash, and Trash is emptied; one short transaction a step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from restante import ids, log
from restante.config import machine_name
from restante.core import accounts, trash
from restante.core.jobs import Job
from restante.core.retention import days, forecast, rules, runs
from restante.core.retention.days import Piece, Position
from restante.core.retention.forecast import Outlook
from restante.core.retention.rules import Bound, Cover, Limits
from restante.core.retention.runs import Due, Need, Taken
from restante.errors import Conflict
from restante.ids import AccountId, FolderId, MailboxId
from restante.runtime import Runtime

BATCH = 200  # messages of one transaction: some 40 ms of the writer
CHANGES = 2000  # of a folder that are noted in one transaction
FOLDERS_AT_ONCE = 1000
MAILBOXES_AT_ONCE = 200

_log = log.logger(__name__)


EVERYTHING = Cover(is_whole=True, domain_ids=(), mailbox_ids=(), roles=())
ALL_FOLDERS = Bound(rules.OTHERS, rules.SPARED, Limits())


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a rule took from a mailbox (or would take): from the folder of a role, or (``role`` "") from the others.

    ``mailbox`` None: from the whole account, by the forecast.
    """

    mailbox: str | None
    role: str
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no forecast.

    ``storage_elsewhere``: mail is not on this disk (PostgreSQL, S3); ``trash_never_emptied``: what goes to Trash frees
    nothing; ``no_figures``: of a month ago.
    """

    reason: str


async def run(rt: Runtime, _job: Job) -> None:
    """Clean every account (a periodic job); a run that was broken off is gone on with by the next.

    Raises Conflict ``retention_running`` in the end when an account has another run: the job comes back soon.
    """
    await rt.db.write(forecast.record_usage, rt.clock.now())
    busy: Conflict | None = None
    for account in await rt.db.read(accounts.list_accounts):
        if account.status != "active":
            continue
        try:
            for done in await clean(rt, account.id):
                _log.info("mail cleaned", account=account.name, mailbox=done.mailbox, messages=done.messages)
        except Conflict as error:
            busy = error
    if busy is not None:
        raise busy


async def clean(rt: Runtime, account_id: AccountId, *, is_dry: bool = False) -> list[Cleaned]:
    """Take to Trash what the account's rules want gone, and once a day what the forecast wants gone, if that is wanted.

    Returns what was taken, or (``is_dry``) what would be. Conflict: ``retention_running`` when another run is under
    way, ``lease_lost`` when this one was taken for dead.
    """
    cover = await rt.db.read(rules.cover, account_id)
    done = [] if cover is None else await _by_rules(rt, account_id, cover, is_dry)
    if await rt.db.read(forecast.is_due, account_id, rt.clock.now()):
        done += await _by_forecast(rt, account_id, is_dry)
    return [one for one in done if one.messages]


async def _by_rules(rt: Runtime, account_id: AccountId, cover: Cover, is_dry: bool) -> list[Cleaned]:
    await _follow(rt, account_id, cover)
    done: list[Cleaned] = []
    after: MailboxId | None = MailboxId(0)
    while after is not None:
        now = rt.clock.now()
        due, after = await rt.db.read(runs.list_due, account_id, cover, after, MAILBOXES_AT_ONCE, now)
        if is_dry:
            done += [await _count(rt, account_id, one) for one in due]
        elif due:
            async with _lease(rt, account_id) as owner:
                done += [await _take(rt, account_id, owner, one) for one in due]
    return done


async def outlook(rt: Runtime, account_id: AccountId) -> Outlook | Unknown:
    """What the next month will bring to an account and to the disk, or why that cannot be known."""
    if rt.config.storage.database_url or rt.config.storage.blobs != "files":
        return Unknown("storage_elsewhere")
    if not rt.config.retention.trash_days:
        return Unknown("trash_never_emptied")
    free = max(0, rt.room.free_bytes() - rt.config.storage.min_free_bytes)
    found = await rt.db.read(forecast.outlook, account_id, free, rt.clock.now())
    return Unknown("no_figures") if found is None else found


async def _by_forecast(rt: Runtime, account_id: AccountId, is_dry: bool) -> list[Cleaned]:
    found = await outlook(rt, account_id)
    if isinstance(found, Unknown):
        _log.warning("no forecast", account=account_id, reason=found.reason)
        return []
    done = []
    if found.excess_bytes:
        await _follow(rt, account_id, EVERYTHING)
        need = Need(0, 0, found.excess_bytes)
        if is_dry:
            return [await _count(rt, account_id, Due(None, None, ALL_FOLDERS, need))]
        async with _lease(rt, account_id) as owner:
            done.append(await _make_room(rt, account_id, owner, found))
    if not is_dry:
        await rt.db.write(forecast.note_done, account_id, rt.clock.now())
    return done


async def _make_room(rt: Runtime, account_id: AccountId, owner: str, found: Outlook) -> Cleaned:
    count, left = 0, found.excess_bytes
    async for pieces in _walk(rt, account_id, Due(None, None, ALL_FOLDERS, Need(0, 0, left))):
        now = rt.clock.now()
        step = await rt.db.write(runs.take_for_room, account_id, owner, pieces, left, found, now)
        count, left = count + step.messages, left - step.bytes
        if step.is_done or left <= 0:
            break
    return Cleaned(None, rules.OTHERS, count, found.excess_bytes - left)


def _place(rt: Runtime) -> str:
    return f"{machine_name()}:{rt.config.data_dir}#"


async def end_lost_runs(rt: Runtime) -> None:
    """End the runs of an earlier server: one at a time holds a data directory, so there they are nobody's."""
    await rt.db.write(runs.release_all, _place(rt))


@asynccontextmanager
async def _lease(rt: Runtime, account_id: AccountId) -> AsyncIterator[str]:
    owner = _place(rt) + ids.new_uuid().hex
    await rt.db.write(runs.claim, account_id, owner, rt.clock.now())
    try:
        yield owner
    finally:
        await asyncio.shield(rt.db.write(runs.release, account_id, owner))


async def _follow(rt: Runtime, account_id: AccountId, cover: Cover) -> None:
    """Note what has come and changed since the last run."""
    after = FolderId(0)
    while stale := await rt.db.read(days.list_stale, account_id, cover, after, FOLDERS_AT_ONCE):
        after = stale[-1].folder_id
        for folder in stale:
            found = await rt.db.read(days.survey, account_id, folder, CHANGES)
            while await rt.db.write(days.note, account_id, found) and not found.is_last:
                folder = folder._replace(cursor=found.cursor)  # noqa: PLW2901 - the same folder, further on
                found = await rt.db.read(days.survey, account_id, folder, CHANGES)


async def _walk(rt: Runtime, account_id: AccountId, due: Due) -> AsyncIterator[list[Piece]]:
    """What may be taken, the oldest first."""
    need = due.need
    before_day = None if need.messages or need.bytes else need.before_day
    position: Position | None = None
    while True:
        pieces, position = await rt.db.read(
            days.list_oldest, account_id, due.mailbox_id, due.bound, position, BATCH, before_day
        )
        yield pieces
        if position is None:
            return


async def _take(rt: Runtime, account_id: AccountId, owner: str, due: Due) -> Cleaned:
    assert due.mailbox_id is not None
    total = Taken(0, 0, is_done=False)
    role = due.bound.role
    async for pieces in _walk(rt, account_id, due):
        now = rt.clock.now()
        step = await rt.db.write(runs.take_by_rule, account_id, owner, due.mailbox_id, role, pieces, now)
        total = Taken(total.messages + step.messages, total.bytes + step.bytes, step.is_done)
        if total.is_done:
            break
    return Cleaned(due.mailbox, role, total.messages, total.bytes)


async def _count(rt: Runtime, account_id: AccountId, due: Due) -> Cleaned:
    count = size = 0
    need = due.need
    async for pieces in _walk(rt, account_id, due):
        for piece in pieces:
            chosen, need = runs.choose(piece.found, piece.day, need)
            count, size = count + len(chosen), size + sum(one.size_bytes for one in chosen)
            if len(chosen) < len(piece.found):
                return Cleaned(due.mailbox, due.bound.role, count, size)
    return Cleaned(due.mailbox, due.bound.role, count, size)


async def purge_trash(rt: Runtime, _job: Job) -> None:
    """Delete for good what has been in Trash for ``retention.trash_days`` (a periodic job).

    A second run beside it does no harm; one that was broken off is gone on with by the next.
    """
    for account in await rt.db.read(accounts.list_accounts):
        if account.status == "active" and rt.config.retention.trash_days:
            await _purge_account(rt, account.id)


async def _purge_account(rt: Runtime, account_id: AccountId) -> None:
    before = rt.clock.now() - timedelta(days=rt.config.retention.trash_days)
    after: FolderId | None = FolderId(0)
    while after is not None:
        waiting, after = await rt.db.read(trash.list_waiting, account_id, before, after, FOLDERS_AT_ONCE)
        for one in waiting:
            await rt.db.write(trash.note, account_id, one.folder_id, rt.clock.now())
            while await rt.db.write(trash.purge, account_id, one, before, BATCH, rt.clock.now()):
                pass
