"""``restante alias``: further addresses of mailboxes."""

import click

from restante.cli import output
from restante.cli.running import Call, common, example

COLUMNS = ("address", "mailbox", "may_send", "created_at")


@click.group()
def alias() -> None:
    """Aliases: further addresses that lead to a mailbox."""


@alias.command(epilog=example("restante alias add sales@example.test alice@example.test"))
@click.argument("address")
@click.argument("mailbox")
@click.option("--no-send", is_flag=True, help="The mailbox's user may not send as this address.")
@common
def add(call: Call, address: str, mailbox: str, no_send: bool) -> None:
    """Let ADDRESS lead to MAILBOX too; several mailboxes may share an alias."""
    made = call.run(lambda link: link.call("alias.add", address=address, mailbox=mailbox, may_send=not no_send))
    if call.json:
        output.as_json(made)
    else:
        print(f"{made['address']} leads to {made['mailbox']}")


@alias.command("list", epilog=example("restante alias list --mailbox alice@example.test"))
@click.option("--mailbox", help="Only those of this mailbox.")
@common
def list_(call: Call, mailbox: str | None) -> None:
    """Show the aliases."""
    found = call.run(lambda link: link.call("alias.list", mailbox=mailbox))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["aliases"], COLUMNS, "no aliases")


@alias.command(epilog=example("restante alias remove sales@example.test"))
@click.argument("address")
@click.option("--mailbox", help="Only from this mailbox.")
@common
def remove(call: Call, address: str, mailbox: str | None) -> None:
    """Remove an alias."""
    done = call.run(lambda link: link.call("alias.remove", address=address, mailbox=mailbox))
    if call.json:
        output.as_json(done)
    else:
        print(f"alias {done['address']} removed")
