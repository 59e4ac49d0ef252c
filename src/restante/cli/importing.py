"""``restante import``: this process reads the files, the server stores the bytes."""

import asyncio
from pathlib import Path
from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import FAILED, Call, common, example

OVERLAP = 16  # messages under way: they share commits
OVERLAP_BYTES = 32 * 1024 * 1024
MAX_LISTED = 100


@click.command(
    "import",
    epilog=example(
        "restante import archive.mbox --mailbox alice@example.test\n"
        "restante import Maildir --mailbox alice@example.test --folder Archive"
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--mailbox", required=True, metavar="ADDRESS", help="Where the messages go.")
@click.option("--folder", default="INBOX", show_default=True, help="The folder for those that name none.")
@common
def import_(call: Call, path: Path, mailbox: str, folder: str) -> None:
    """Take messages from PATH: an .eml file, an mbox, or a folder of either, a Maildir, an export."""
    report = call.run(lambda link: _Import(link, call, mailbox, folder).run(path))
    if call.json:
        output.as_json(report)
    else:
        print(f"{report['imported']} messages imported into {report['mailbox']}")
        for failure in report["failures"]:
            click.echo(f"restante: {output.cell(failure['origin'], None)}: {failure['message']}", err=True)
    if report["failed"]:
        raise click.exceptions.Exit(FAILED)


class _Import:
    """One run over all files."""

    def __init__(self, link: Link, call: Call, mailbox: str, folder: str) -> None:
        self._link, self._mailbox, self._folder = link, mailbox, folder
        self._progress = output.Progress("importing", quiet=call.json)
        self._folders: dict[str, str] = {}
        self._pending: set[asyncio.Task[None]] = set()
        self._pending_bytes = 0
        self._limit = 0
        self._report: dict[str, Any] = {"mailbox": mailbox, "imported": 0, "failed": 0, "bytes": 0, "failures": []}

    async def run(self, path: Path) -> dict[str, Any]:
        """Import everything; what a message is refused for stands in the report, what stops all of it is raised."""
        from restante.services import importing

        begun = await self._link.call("import.begin", mailbox=self._mailbox, folder_names=[self._folder])
        self._folders.update(begun["folders"])
        self._limit = begun["max_message_bytes"]
        self._report["mailbox"] = begun["mailbox"]
        sources = importing.plan(path)
        total = sum(source.size_bytes for source in sources)
        done = 0
        try:
            for source in sources:
                read = done
                for found in importing.read(source, self._limit):
                    await self._start(found)
                    read = min(read + len(found.raw), done + source.size_bytes)
                    self._progress.show(read, total, f"{self._report['imported']} messages")
                done += source.size_bytes
            await self._settle(0, 0)
        finally:
            for task in self._pending:
                task.cancel()
            self._progress.end()
        return self._report

    async def _start(self, found: Any) -> None:
        if len(found.raw) > self._limit:  # not even sent
            self._refuse(found, "too_large", f"the message is over {self._limit} bytes")
            return
        folder = found.folder or self._folder
        if folder not in self._folders:
            begun = await self._link.call("import.begin", mailbox=self._mailbox, folder_names=[folder])
            self._folders.update(begun["folders"])
        await self._settle(OVERLAP - 1, max(0, OVERLAP_BYTES - len(found.raw)))
        self._pending_bytes += len(found.raw)
        self._pending.add(asyncio.create_task(self._store(found, self._folders[folder])))

    async def _settle(self, count: int, size: int) -> None:
        """Wait until no more than ``count`` messages of ``size`` bytes are under way."""
        while len(self._pending) > count or self._pending_bytes > size:
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _store(self, found: Any, folder: str) -> None:
        from restante.errors import Invalid, TooLarge

        try:
            await self._link.call(
                "import.message",
                mailbox=self._mailbox,
                folder=folder,
                raw=found.raw,
                flags=int(found.flags),
                keywords=found.keywords,
                received_at=found.received_at.isoformat() if found.received_at else None,
            )
        except (TooLarge, Invalid) as error:
            self._refuse(found, error.code, error.message)
        else:
            self._report["imported"] += 1
            self._report["bytes"] += len(found.raw)
        finally:
            self._pending_bytes -= len(found.raw)

    def _refuse(self, found: Any, code: str, message: str) -> None:
        self._report["failed"] += 1
        if len(self._report["failures"]) < MAX_LISTED:
            self._report["failures"].append({"origin": found.origin, "error": code, "message": message})
