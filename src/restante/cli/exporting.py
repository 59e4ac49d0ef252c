"""``restante export``: the server sends the bytes, this process writes the files."""

from pathlib import Path
from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import Call, common, example

PAGE = 200


@click.command(epilog=example("restante export alice@example.test ./alice"))
@click.argument("mailbox", metavar="ADDRESS")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--folder", help="Only this folder.")
@common
def export(call: Call, mailbox: str, target: Path, folder: str | None) -> None:
    """Write a mailbox to a new folder DIR: each message as stored, one .eml a file, flags in manifest.jsonl."""
    report = call.run(lambda link: _export(link, call, mailbox, target.absolute(), folder))
    if call.json:
        output.as_json(report)
    else:
        print(f"{report['messages']} messages ({output.size(report['bytes'])}) written to {report['path']}")


async def _export(link: Link, call: Call, mailbox: str, target: Path, only: str | None) -> dict[str, Any]:
    from restante.errors import NotFound
    from restante.services import exporting

    found = await link.call("folder.list", mailbox=mailbox)
    chosen = [one for one in found["folders"] if only is None or one["name"].casefold() == only.casefold()]
    if not chosen:
        raise NotFound(f"{found['mailbox']} has no folder {only}", code="folder_not_found")
    total = sum(one["messages"] for one in chosen)
    progress = output.Progress("exporting", quiet=call.json)
    with exporting.Export(target) as export_:
        for folder in chosen:
            before: int | None = None
            while True:
                page = await link.call(
                    "message.list", mailbox=mailbox, folder=folder["name"], limit=PAGE, before_uid=before
                )
                for row in page["messages"]:
                    await _write(link, export_, mailbox, row)
                    progress.show(export_.messages, total)
                if len(page["messages"]) < PAGE:
                    break
                before = page["messages"][-1]["uid"]
    progress.end()
    return {
        "mailbox": found["mailbox"],
        "path": str(target),
        "messages": export_.messages,
        "bytes": export_.size_bytes,
    }


async def _write(link: Link, export_: Any, mailbox: str, row: dict[str, Any]) -> None:
    from restante.errors import NotFound

    try:
        raw = await link.call("export.message", mailbox=mailbox, message_id=row["id"])
    except NotFound:
        return  # removed while the export ran
    export_.add(row, raw)
