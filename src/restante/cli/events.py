"""``restante events``: what happened, and what happens now."""

import json
from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import Call, common, example

WAIT_SECONDS = 20.0


@click.command(
    epilog=example(
        "restante events --types message.received\nrestante events --follow --mailbox alice@example.test --json"
    )
)
@click.option("--account", metavar="NAME", help="Whose events; the first account's when none is named.")
@click.option("--mailbox", metavar="ADDRESS", help="Only those about this mailbox.")
@click.option("--types", metavar="TYPE,...", default="", help="Only these types or families: message.*,token.created.")
@click.option("--after", type=click.IntRange(0), help="Those behind this number; default: the newest.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--follow", is_flag=True, help="Stay, and print what happens (with --json a line each).")
@common
def events(
    call: Call, account: str | None, mailbox: str | None, types: str, after: int | None, limit: int, *, follow: bool
) -> None:
    """Show the log of what happened, oldest first."""
    names = [name.strip() for name in types.split(",") if name.strip()]
    asked = {"account": account, "mailbox": mailbox, "types": names or None, "limit": limit}
    if follow:
        call.run(lambda link: _follow(link, call, asked, after))
        return
    found = call.run(lambda link: link.call("event.list", after=after, **asked))
    if call.json:
        output.as_json(found)
        return
    for item in found["events"]:
        print(_line(item))
    if not found["is_last"]:
        print(f"more behind {found['cursor']}")


async def _follow(link: Link, call: Call, asked: dict[str, Any], after: int | None) -> None:
    while True:
        page = await link.call("event.list", after=after, wait_seconds=WAIT_SECONDS, **asked)
        after = page["cursor"]
        for item in page["events"]:
            print(json.dumps(item, ensure_ascii=True) if call.json else _line(item), flush=True)


def _line(item: dict[str, Any]) -> str:
    told = " ".join(f"{name}={output.cell(value, None)}" for name, value in item["data"].items())
    return f"{item['id']:>8}  {item['created_at']}  {item['type']:<22} {item['mailbox'] or '-'}  {told}"
