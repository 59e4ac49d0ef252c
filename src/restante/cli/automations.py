"""``restante automation``: what is done about mail that comes in."""

from collections.abc import Callable
from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import Call, common, example

COLUMNS = ("id", "title", "sender", "inbox", "subject", "url", "forward_to", "deletes", "emails_received", "in_error")
RUNS = ("run", "message", "status", "attempts", "http_status", "error", "created_at", "next_attempt_at")
FOUND = ("received_at", "sender", "inbox", "subject")
FORMATS = ("json", "raw", "json_with_bodies")
_OF = click.option("--account", metavar="NAME", help="Whose; the first account's when none is named.")
_PROPERTIES = (
    click.option("--sender", metavar="PATTERN", help="For the From address: a regular expression (RE2)."),
    click.option("--inbox", metavar="PATTERN", help="For the address that it came to."),
    click.option("--subject", metavar="PATTERN", help="For the subject."),
    click.option("--has-attachments/--any-attachments", default=None, help="Only messages that have some."),
    click.option("--url", metavar="URL", help="Call it for each message."),
    click.option("--format", "payload_format", type=click.Choice(FORMATS), help="What it is sent. [default: json]"),
    click.option("--secret-token", metavar="TOKEN", help="Send this as X-MailCare-Secret-Token."),
    click.option("--forward-to", metavar="ADDRESS", help="Send each message on to it."),
    click.option("--delete/--keep", "deletes", default=None, help="Then move it into the Trash."),
)


def _properties(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_PROPERTIES):
        command = option(command)
    return command


@click.group()
def automation() -> None:
    """Automations: what is done about mail that comes in."""


@automation.command(
    epilog=example(
        "restante automation add 'Orders to the shop' --subject '^order' --url https://app.example/orders\n"
        "restante automation add 'Copy for Carol' --inbox sales@ --forward-to carol@example.net --delete"
    )
)
@click.argument("title")
@_properties
@_OF
@common
def add(call: Call, /, title: str, account: str | None, **properties: str | bool | None) -> None:
    """Add an automation and print the secret that its calls are signed with, this once."""
    named = {name: value for name, value in properties.items() if value is not None}
    made = call.run(lambda link: link.call("automation.add", title=title, account=account, **named))
    if call.json:
        output.as_json(made)
    else:
        print(f"automation {made['id']} added\n{made['secret']}")


@automation.command("list", epilog=example("restante automation list --json"))
@_OF
@common
def list_(call: Call, account: str | None) -> None:
    """Show the automations of an account."""
    found = call.run(lambda link: link.call("automation.list", account=account))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["automations"], COLUMNS, "no automations")


@automation.command(
    epilog=example(
        "restante automation update 01a1fede-49a0-752b-87cc-449d5fce9a10 --subject '^(order|invoice)' --keep\n"
        "restante automation update 01a1fede-49a0-752b-87cc-449d5fce9a10 --sender ''"
    )
)
@click.argument("number", metavar="ID")
@click.option("--title", help="Another title.")
@_properties
@_OF
@common
def update(call: Call, /, number: str, account: str | None, **properties: str | bool | None) -> None:
    """Change what is named; an empty text takes it away."""
    changes = {name: value for name, value in properties.items() if value is not None}
    if not changes:
        raise click.UsageError("say what to change")
    done = call.run(lambda link: link.call("automation.update", automation=number, changes=changes, account=account))
    if call.json:
        output.as_json(done)
    else:
        output.fields(done)


@automation.command(epilog=example("restante automation remove 01a1fede-49a0-752b-87cc-449d5fce9a10"))
@click.argument("number", metavar="ID")
@_OF
@common
def remove(call: Call, number: str, account: str | None) -> None:
    """Remove an automation with its runs."""
    done = call.run(lambda link: link.call("automation.remove", automation=number, account=account))
    if call.json:
        output.as_json(done)
    else:
        print(f"automation {number} removed")


@automation.command(epilog=example("restante automation runs 01a1fede-49a0-752b-87cc-449d5fce9a10 --status failed"))
@click.argument("number", metavar="ID")
@click.option("--status", type=click.Choice(["pending", "done", "failed"]), help="Only those.")
@click.option("--after", type=click.IntRange(0), default=0, help="Those behind this number.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@_OF
@common
def runs(call: Call, number: str, status: str | None, after: int, limit: int, account: str | None) -> None:
    """Show an automation's runs, oldest first."""
    asked = {"account": account, "status": status, "after": after, "limit": limit}
    found = call.run(lambda link: link.call("automation.runs", automation=number, **asked))
    if call.json:
        output.as_json(found)
        return
    output.table(found["runs"], RUNS, "no runs")
    if not found["is_last"]:
        print(f"more behind {found['cursor']}")


@automation.command(
    epilog=example("restante automation test 01a1fede-49a0-752b-87cc-449d5fce9a10 --since 2026-11-01T00:00:00Z")
)
@click.argument("number", metavar="ID")
@click.option(
    "--since", required=True, metavar="TIME", help="Look at what came in since then (ISO 8601; UTC without a zone)."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Show at most so many.")
@_OF
@common
def test(call: Call, number: str, since: str, limit: int, account: str | None) -> None:
    """Show which stored messages it would have run for; nothing is done about them."""
    asked = {"automation": number, "since": since, "limit": limit, "account": account}
    found = call.run(lambda link: _test(link, call, asked))
    if call.json:
        output.as_json(found)
        return
    output.table(found["messages"], FOUND, "no messages")
    print(f"{found['matched']} of {found['scanned']} messages")


async def _test(link: Link, call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    progress = output.Progress("looking", quiet=call.json)
    found: dict[str, Any] = {}
    async for item, _ in link.stream("automation.test", **asked):
        found = item
        progress.show(item["scanned"], None, f"messages, {item['matched']} matched")
    progress.end()
    return found
