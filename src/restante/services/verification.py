"""Verification: walk the whole store in short steps, and rebuild what can be rebuilt.

Every content must have its bytes and they must be those received; every message its content, folder and mailbox; every
counter must be the sum of what it counts; every message must be in the search index or on its way there. Only bytes
themselves cannot be rebuilt. It runs beside a working server.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from restante import clock
from restante.core import accounts, verification
from restante.core.arrivals import checking, following, surveying
from restante.core.contents import StoredContent
from restante.core.messages import Flag
from restante.core.verification import ContentCheck, FolderCheck
from restante.errors import Unavailable
from restante.ids import AccountId, MessageId
from restante.mail import message
from restante.runtime import Runtime
from restante.services import arrivals, retrieval, storing
from restante.storage import engine
from restante.storage.blobs.base import Buffer
from restante.storage.database import IndexStep
from restante.storage.engine import Place

CONTENTS_A_STEP = 50
MESSAGES_A_STEP = 2000
WORDS_A_STEP = 500
INDEX_A_STEP = 5000
INDEX_PAUSE_SECONDS = 0.2
TRIES = 3  # a folder that changes under every try is checked again at the end of the walk
MAX_LISTED = 1000  # problems that are named; all are counted


@dataclass(slots=True)
class Report:
    """What a walk found. ``problems`` names the first thousand, ``problem_count`` counts all."""

    accounts: int = 0
    messages: int = 0
    contents: int = 0
    content_bytes: int = 0
    blobs: int = 0
    unreferenced_blobs: int = 0
    busy_folders: int = 0
    busy_arrivals: int = 0  # accounts
    problem_count: int = 0
    repaired_count: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, account_id: int, what: str, *, repaired: bool = False) -> None:
        """Note one problem."""
        self.problem_count += 1
        self.repaired_count += repaired
        if len(self.problems) < MAX_LISTED:
            self.problems.append({"kind": kind, "account_id": int(account_id), "what": what, "repaired": repaired})

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it; ``ok`` when nothing is left wrong."""
        return {
            "ok": self.problem_count == self.repaired_count,
            "accounts": self.accounts,
            "messages": self.messages,
            "contents": self.contents,
            "content_bytes": self.content_bytes,
            "blobs": self.blobs,
            "unreferenced_blobs": self.unreferenced_blobs,
            "busy_folders": self.busy_folders,
            "busy_arrivals": self.busy_arrivals,
            "problem_count": self.problem_count,
            "repaired_count": self.repaired_count,
            "problems": self.problems,
        }


async def verify(rt: Runtime, repair: bool = False) -> AsyncGenerator[dict[str, Any], None]:
    """Check everything; yields ``{"phase", "done", "total"}`` now and then, and the report last."""
    report = Report()
    try:
        async for progress in _walk(rt, report, repair):
            yield progress
    except Unavailable as error:
        if error.code != "storage_damaged":
            raise
        report.add("database_damaged", 0, f"the walk ended early: {error.message}")
    yield report.as_dict()


async def _walk(rt: Runtime, report: Report, repair: bool) -> AsyncIterator[dict[str, Any]]:
    _, expected = await rt.db.read(verification.count_all)
    named: set[str] = set()
    for account in await rt.db.read(accounts.list_accounts):
        report.accounts += 1
        async for _ in _check_contents(rt, account.id, report, named, repair):
            yield {"phase": "bytes", "done": report.contents, "total": expected}
        async for _ in _check_folders(rt, account.id, report, repair):
            yield {"phase": "rows", "done": report.messages, "total": expected}
        await _check_strays(rt, account.id, report)
        await _check_totals(rt, account.id, report, repair)
        await _check_arrivals(rt, account.id, report, repair)
    await _check_blobs(rt, report, named)
    async for looked in _check_index(rt, report, repair):
        yield {"phase": "index", "done": looked, "total": expected}


async def _check_contents(
    rt: Runtime, account_id: AccountId, report: Report, named: set[str], repair: bool
) -> AsyncIterator[None]:
    after = 0
    while True:
        checks = await rt.db.read(verification.check_contents, account_id, after, CONTENTS_A_STEP)
        if not checks:
            return
        after = checks[-1].id
        for check in checks:
            report.contents += 1
            report.content_bytes += check.size_bytes
            if check.blob_key is not None:
                named.add(check.blob_key)
            await _check_content(rt, account_id, check, report, repair)
        miscounted = [check for check in checks if _is_miscounted(check)]
        if miscounted and repair:
            ids = [check.id for check in miscounted]
            await rt.db.write(verification.rebuild_uses, account_id, ids, clock.to_micros(rt.clock.now()))
        for check in miscounted:
            what = f"content {check.id} counts {check.uses} uses and has {check.real_uses}"
            report.add("use_count", account_id, what, repaired=repair)
        yield


def _is_miscounted(check: ContentCheck) -> bool:
    return check.uses != check.real_uses or check.is_marked_unused != (check.real_uses == 0)


async def _check_content(rt: Runtime, account_id: AccountId, check: ContentCheck, report: Report, repair: bool) -> None:
    stored = StoredContent(check.size_bytes, check.sha256, check.blob_key, check.structure, check.raw)
    try:
        raw = await retrieval.received_bytes(rt, stored)
    except Unavailable as error:
        if check.real_uses:  # bytes that no message uses may be on their way out
            report.add("bytes_missing", account_id, f"content {check.id}: {error.message}")
        return
    loop = asyncio.get_running_loop()
    if not await loop.run_in_executor(rt.pool, retrieval.is_intact, stored, raw):
        report.add("bytes_changed", account_id, f"content {check.id}: its bytes are not those that were received")
        return
    if not _loads(check.structure):
        if repair:
            await _rebuild(rt, account_id, check, raw)
        report.add("structure", account_id, f"content {check.id}: its structure cannot be read", repaired=repair)


def _loads(structure: bytes) -> bool:
    try:
        message.load(structure)
    except Exception:  # noqa: BLE001 - whatever damaged bytes make of the decoder
        return False
    return True


async def _rebuild(rt: Runtime, account_id: AccountId, check: ContentCheck, raw: Buffer) -> None:
    loop = asyncio.get_running_loop()
    inline_bytes = rt.config.storage.inline_bytes
    examined = await loop.run_in_executor(rt.pool, storing.examine, raw, "", inline_bytes)
    await rt.db.write(
        verification.rebuild_rows, account_id, check.id, examined.structure, examined.folded, examined.summary
    )


class _FolderWalk:
    """One pass over a folder: what its counters should be, and what is wrong with its messages."""

    def __init__(self, account_id: AccountId, folder: FolderCheck) -> None:
        self._account_id, self.folder = account_id, folder
        self._after = 0
        self.messages = self.unseen = self.size_bytes = self.last_modseq = 0
        self.sizes: list[MessageId] = []
        self.without_content: list[MessageId] = []

    async def step(self, rt: Runtime) -> bool:
        """Take the next messages; False when there are none left."""
        checks = await rt.db.read(
            verification.check_messages, self._account_id, self.folder.id, self._after, MESSAGES_A_STEP
        )
        for check in checks:
            self._after = check.uid
            self.messages += 1
            self.unseen += not check.flags & Flag.SEEN
            self.size_bytes += check.size_bytes
            self.last_modseq = max(self.last_modseq, check.modseq)
            if check.content_size_bytes is None:
                self.without_content.append(check.id)
            elif check.size_bytes != check.content_size_bytes + check.trace_bytes:
                self.sizes.append(check.id)
        return bool(checks)

    @property
    def is_right(self) -> bool:
        """Whether the folder's counters are what was found."""
        folder = self.folder
        return (
            (folder.messages, folder.unseen, folder.size_bytes) == (self.messages, self.unseen, self.size_bytes)
            and folder.uid_next > self._after
            and folder.modseq >= self.last_modseq
        )


async def _check_folders(rt: Runtime, account_id: AccountId, report: Report, repair: bool) -> AsyncIterator[None]:
    busy = [(folder, 1) for folder in await rt.db.read(verification.list_checked_folders, account_id)]
    while busy:
        folder, tries = busy.pop()
        walk = _FolderWalk(account_id, folder)
        while await walk.step(rt):
            yield
        if await rt.db.read(verification.folder_modseq, account_id, folder.id) == folder.modseq:
            await _note_folder(rt, account_id, walk, report, repair)
        elif tries < TRIES:
            again = await rt.db.read(verification.list_checked_folders, account_id)
            busy += [(one, tries + 1) for one in again if one.id == folder.id]
        else:
            report.busy_folders += 1
            report.messages += walk.messages


async def _note_folder(rt: Runtime, account_id: AccountId, walk: _FolderWalk, report: Report, repair: bool) -> None:
    report.messages += walk.messages
    for message_id in walk.without_content:
        report.add("content_missing", account_id, f"message {message_id} points to a content that is not there")
    for message_id in walk.sizes:
        if repair:
            await rt.db.write(verification.set_message_size, account_id, message_id)
        report.add("message_size", account_id, f"message {message_id} has a wrong size", repaired=repair)
    if walk.is_right and not (walk.sizes and repair):
        return
    if repair:
        await rt.db.write(verification.rebuild_folder, account_id, walk.folder.id)
    if not walk.is_right:
        report.add("folder_counters", account_id, f"folder {walk.folder.id} ({walk.folder.name})", repaired=repair)


async def _check_strays(rt: Runtime, account_id: AccountId, report: Report) -> None:
    for message_id in await rt.db.read(verification.list_strays, account_id, MAX_LISTED):
        report.add("folder_missing", account_id, f"message {message_id} is in no folder of its mailbox")


async def _check_totals(rt: Runtime, account_id: AccountId, report: Report, repair: bool) -> None:
    wrong = [sums for sums in await rt.db.read(verification.check_mailboxes, account_id) if not sums.is_right]
    total = await rt.db.read(verification.check_account, account_id)
    if repair and (wrong or (total is not None and not total.is_right)):
        await rt.db.write(verification.rebuild_totals, account_id)
    for sums in wrong:
        report.add("mailbox_counters", account_id, f"mailbox {sums.name}", repaired=repair)
    if total is not None and not total.is_right:
        report.add("account_counters", account_id, f"account {total.name}", repaired=repair)


async def _check_arrivals(rt: Runtime, account_id: AccountId, report: Report, repair: bool) -> None:
    """Compare the lists over the account with its messages, when it has any and they stand still meanwhile."""
    for _ in range(TRIES):
        stood = await rt.db.read(surveying.stand, account_id)
        if stood is None or stood.form == surveying.STALE:
            return
        try:
            await arrivals.ready(rt, account_id)
        except Unavailable as error:
            if error.code != arrivals.NOT_READY:
                raise
            continue
        stood = await rt.db.read(surveying.stand, account_id)
        wrong = await _wrong_arrivals(rt, account_id)
        is_current = await rt.db.read(surveying.is_current, account_id)
        if is_current and await rt.db.read(surveying.stand, account_id) == stood:
            break
    else:
        report.busy_arrivals += 1
        return
    if not wrong:
        return
    if repair:
        await rt.db.write(following.discard, account_id)
    report.add("arrivals", account_id, f"the lists over the account: {wrong}", repaired=repair)


async def _wrong_arrivals(rt: Runtime, account_id: AccountId) -> str | None:
    """What is wrong first; None when all is right."""
    counts = (0, 0, 0)
    place: tuple[int, int] | None = (0, 0)
    while place is not None:
        step = await rt.db.read(checking.check_rows, account_id, place, MESSAGES_A_STEP)
        if step.wrong:
            return f"message {step.wrong[0]} is listed as what it is not"
        counts = (counts[0] + step.counts[0], counts[1] + step.counts[1], counts[2] + step.counts[2])
        place = step.last
    if not await rt.db.read(checking.are_totals_right, account_id, counts):
        return "their totals are wrong"
    after: bytes | None = b""
    while after is not None:
        missing, after = await rt.db.read(checking.list_missing, account_id, after, MESSAGES_A_STEP)
        if missing:
            return f"message {missing[0]} is missing"
    word: int | None = 0
    while word is not None:
        words, word = await rt.db.read(checking.list_miscounted_words, account_id, word, WORDS_A_STEP)
        if words:
            return f"word {words[0]} is miscounted"
    return None


async def _check_blobs(rt: Runtime, report: Report, named: set[str]) -> None:
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(rt.pool, lambda: [blob.key for blob in rt.blobs.list_all()])
    report.blobs = len(found)
    report.unreferenced_blobs = sum(key not in named for key in found)


async def _check_index(rt: Runtime, report: Report, repair: bool) -> AsyncIterator[int]:
    """Look twice at what seems wrong: the index may only have been ahead of, or behind, what was read first."""
    loop = asyncio.get_running_loop()
    place = Place(rt.config.data_dir, rt.config.storage.database_url)
    after: tuple[int, ...] | None = ()
    looked = 0
    while after is not None:
        start = after
        step = await loop.run_in_executor(rt.pool, engine.examine_index, place, start, INDEX_A_STEP)
        if step.missing or step.extra:
            await asyncio.sleep(INDEX_PAUSE_SECONDS)
            second = await loop.run_in_executor(rt.pool, engine.examine_index, place, start, INDEX_A_STEP)
            await _note_index(rt, report, step, second, repair)
        after = step.last
        looked += INDEX_A_STEP
        yield looked


async def _note_index(rt: Runtime, report: Report, first: IndexStep, second: IndexStep, repair: bool) -> None:
    wrong: dict[int, list[MessageId]] = {}
    for account_id, message_id in sorted(set(first.missing) & set(second.missing)):
        wrong.setdefault(account_id, []).append(MessageId(message_id))
        report.add("index_missing", account_id, f"message {message_id} is not in the search index", repaired=repair)
    for account_id, message_id in sorted(set(first.extra) & set(second.extra)):
        wrong.setdefault(account_id, []).append(MessageId(message_id))
        what = f"the search index holds message {message_id}, which is not there"
        report.add("index_extra", account_id, what, repaired=repair)
    if not repair:
        return
    for account_id, ids in wrong.items():
        await rt.db.write(verification.queue_for_index, AccountId(account_id), ids)
