"""``restante webhook``: URLs that are called when something happens."""

import click

from restante.cli import output
from restante.cli.running import Call, common, example

COLUMNS = ("id", "url", "types", "mailbox", "is_ordered", "status", "failures", "retry_at")
CALLS = ("call", "type", "status", "attempts", "created_at", "next_attempt_at", "finished_at")
_OF = click.option("--account", metavar="NAME", help="Whose; the first account's when none is named.")


@click.group()
def webhook() -> None:
    """Webhooks: URLs of an account that are called about its events."""


@webhook.command(
    epilog=example(
        "restante webhook add https://app.example/in --type message.received\n"
        "restante webhook add https://app.example/in --type 'transfer.*' --ordered --json"
    )
)
@click.argument("url")
@click.option(
    "--type", "types", multiple=True, required=True, metavar="TYPE", help="A type or family; may be repeated."
)
@click.option("--mailbox", metavar="ADDRESS", help="Only events about this mailbox.")
@click.option("--description", default="", help="What it is for.")
@click.option("--ordered", is_flag=True, help="One call at a time, in the order of the events.")
@_OF
@common
def add(
    call: Call,
    url: str,
    types: tuple[str, ...],
    mailbox: str | None,
    description: str,
    account: str | None,
    *,
    ordered: bool,
) -> None:
    """Add a webhook and print the secret that its calls are signed with, this once."""
    asked = {"account": account, "mailbox": mailbox, "description": description, "is_ordered": ordered}
    made = call.run(lambda link: link.call("webhook.add", url=url, types=list(types), **asked))
    if call.json:
        output.as_json(made)
    else:
        print(f"webhook {made['id']} added\n{made['secret']}")


@webhook.command("list", epilog=example("restante webhook list --json"))
@_OF
@common
def list_(call: Call, account: str | None) -> None:
    """Show the webhooks of an account."""
    found = call.run(lambda link: link.call("webhook.list", account=account))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["webhooks"], COLUMNS, "no webhooks")


@webhook.command(epilog=example("restante webhook remove 01a1fede-49a0-752b-87cc-449d5fce9a10"))
@click.argument("number", metavar="ID")
@_OF
@common
def remove(call: Call, number: str, account: str | None) -> None:
    """Remove a webhook with its calls."""
    done = call.run(lambda link: link.call("webhook.remove", webhook=number, account=account))
    if call.json:
        output.as_json(done)
    else:
        print(f"webhook {number} removed")


@webhook.command(epilog=example("restante webhook calls 01a1fede-49a0-752b-87cc-449d5fce9a10 --status dead"))
@click.argument("number", metavar="ID")
@click.option("--status", type=click.Choice(["pending", "delivered", "dead"]), help="Only those.")
@click.option("--after", type=click.IntRange(0), default=0, help="Those behind this number.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@_OF
@common
def calls(call: Call, number: str, status: str | None, after: int, limit: int, account: str | None) -> None:
    """Show a webhook's calls, oldest first."""
    asked = {"account": account, "status": status, "after": after, "limit": limit}
    found = call.run(lambda link: link.call("webhook.calls", webhook=number, **asked))
    if call.json:
        output.as_json(found)
        return
    output.table(found["calls"], CALLS, "no calls")
    if not found["is_last"]:
        print(f"more behind {found['cursor']}")


@webhook.command(
    epilog=example(
        "restante webhook redeliver 01a1fede-49a0-752b-87cc-449d5fce9a10 --dead\n"
        "restante webhook redeliver 01a1fede-49a0-752b-87cc-449d5fce9a10 --from 100 --to 200"
    )
)
@click.argument("number", metavar="ID")
@click.option("--dead", is_flag=True, help="All that were given up.")
@click.option("--from", "first", type=click.IntRange(1), metavar="CALL", help="From this call (alone: this one).")
@click.option("--to", "last", type=click.IntRange(1), metavar="CALL", help="To this call.")
@_OF
@common
def redeliver(call: Call, number: str, first: int | None, last: int | None, account: str | None, *, dead: bool) -> None:
    """Make calls again that are delivered or were given up."""
    if dead == (first is not None) or (first is None and last is not None):
        raise click.UsageError("say --dead, --from CALL, or --from CALL --to CALL")
    asked = {"account": account, "first": first, "last": first if last is None else last}
    done = call.run(lambda link: link.call("webhook.redeliver", webhook=number, **asked))
    if call.json:
        output.as_json(done)
    else:
        print(f"{done['calls']} calls are made again")
