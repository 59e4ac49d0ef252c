"""``restante retention``: how long mail is kept, and how much of it."""

from typing import Any

import click

from restante.cli import output, values
from restante.cli.running import Call, common, example

ROLES = ("inbox", "sent", "drafts", "junk", "archive")
COLUMNS = ("domain", "mailbox", "folder", "days", "messages", "bytes")
CLEANED = ("mailbox", "folder", "messages", "bytes")
_OF = click.argument("account", required=False)
_SCOPE = (
    click.option("--domain", metavar="NAME", help="For the mailboxes of this domain."),
    click.option("--mailbox", metavar="ADDRESS", help="For this mailbox."),
    click.option("--folder", type=click.Choice(ROLES), help="For this folder alone; else all that no rule names."),
)


@click.group()
def retention() -> None:
    """How long mail is kept, and how much of it: what is over goes to Trash, favourites never."""


def _show_forecast(call: Call, found: dict[str, Any]) -> None:
    if call.json:
        output.as_json(found)
        return
    print("clean-up by forecast is " + ("on" if found["enabled"] else "off"))
    if found["unknown"] is not None:
        print(f"no forecast: {found['unknown']}")
    else:
        growth, free = output.size(found["growth_bytes"]), output.size(found["free_bytes"])
        print(f"growth within a month: {growth}; free: {free}; too much: {output.size(found['excess_bytes'])}")


@retention.command("list", epilog=example("restante retention list default --json"))
@_OF
@common
def list_(call: Call, account: str | None) -> None:
    """Show the rules of an account (the first one, when none is named)."""
    found = call.run(lambda link: link.call("retention.list", account=account))
    if call.json:
        output.as_json(found)
        return
    output.table(found["rules"], COLUMNS, "no rules: mail is kept")
    days = found["trash_days"]
    print(f"Trash is emptied after {days} days" if days else "Trash is never emptied")
    _show_forecast(call, found["forecast"])


@retention.command(
    "set",
    epilog=example(
        "restante retention set default --days 365\n"
        "restante retention set default --folder junk --days 7 --messages 1000\n"
        "restante retention set default --mailbox alice@example.test --days none --bytes 5G\n"
        "restante retention set default --forecast"
    ),
)
@_OF
@_SCOPE[0]
@_SCOPE[1]
@_SCOPE[2]
@click.option("--days", type=values.Limit(), help="Keep mail of so many days.")
@click.option("--messages", type=values.Limit(), help="Keep so many messages in each mailbox, the newest.")
@click.option("--bytes", "size", type=values.Size(), help="Keep so much in each mailbox: 500M, 5G; none: no limit.")
@click.option("--forecast/--no-forecast", default=None, help="Clean the account's mail before the disk is full.")
@common
def set_(
    call: Call,
    account: str | None,
    domain: str | None,
    mailbox: str | None,
    folder: str | None,
    days: int | None,
    messages: int | None,
    size: int | None,
    *,
    forecast: bool | None,
) -> None:
    """Set the limits of an account, a domain or a mailbox; those not given are as a wider rule says."""
    if forecast is not None:
        if any(value is not None for value in (domain, mailbox, folder, days, messages, size)):
            raise click.UsageError("--forecast is said of an account, alone")
        _show_forecast(
            call, call.run(lambda link: link.call("retention.forecast", account=account, is_enabled=forecast))
        )
        return
    place = {"account": account, "domain": domain, "mailbox": mailbox, "folder": folder}
    limits = {"days": days, "messages": messages, "bytes": None if size is None else max(0, size)}
    made = call.run(lambda link: link.call("retention.set", **place, **limits))
    if call.json:
        output.as_json(made)
    else:
        output.table([made], COLUMNS, "")


@retention.command(epilog=example("restante retention remove default --folder junk"))
@_OF
@_SCOPE[0]
@_SCOPE[1]
@_SCOPE[2]
@common
def remove(call: Call, account: str | None, domain: str | None, mailbox: str | None, folder: str | None) -> None:
    """Take a rule away."""
    place = {"account": account, "domain": domain, "mailbox": mailbox, "folder": folder}
    done = call.run(lambda link: link.call("retention.remove", **place))
    if call.json:
        output.as_json(done)
    else:
        print("rule removed")


@retention.command(epilog=example("restante retention run default --dry-run"))
@_OF
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def run(call: Call, account: str | None, *, dry_run: bool) -> None:
    """Apply the rules of an account now, not only within the hour."""
    done = call.run(lambda link: link.call("retention.run", account=account, is_dry=dry_run))
    if call.json:
        output.as_json(done)
        return
    output.table(done["cleaned"], CLEANED, "nothing is over the limits")
    if dry_run and done["cleaned"]:
        print("nothing was moved: this was a dry run")
