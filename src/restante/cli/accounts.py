"""``restante account``: the tenants."""

import click

from restante.cli import output
from restante.cli.running import Call, common, example
from restante.cli.values import Size, limit

COLUMNS = ("name", "status", "used_bytes", "quota_bytes", "created_at")


@click.group()
def account() -> None:
    """Accounts: the tenants that own domains, mailboxes, tokens and a quota."""


@account.command(epilog=example("restante account add workshop --quota 10G"))
@click.argument("name")
@click.option("--quota", type=Size(), help="Bytes that it may store, such as 10G.")
@common
def add(call: Call, name: str, quota: int | None) -> None:
    """Make an account."""
    made = call.run(lambda link: link.call("account.add", name=name, quota_bytes=limit(quota)), creates=True)
    _one(call, made, f"account {made['name']} added")


@account.command("list", epilog=example("restante account list --json"))
@common
def list_(call: Call) -> None:
    """Show every account."""
    found = call.run(lambda link: link.call("account.list"))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["accounts"], COLUMNS, "no accounts")


@account.command(epilog=example("restante account suspend workshop"))
@click.argument("name")
@common
def suspend(call: Call, name: str) -> None:
    """Stop logins, tokens and delivery of an account; its data stays."""
    _one(call, call.run(lambda link: link.call("account.suspend", name=name)), f"account {name} suspended")


@account.command(epilog=example("restante account resume workshop"))
@click.argument("name")
@common
def resume(call: Call, name: str) -> None:
    """End a suspension."""
    _one(call, call.run(lambda link: link.call("account.resume", name=name)), f"account {name} is active again")


@account.command(epilog=example("restante account quota workshop 20G"))
@click.argument("name")
@click.argument("size", type=Size())
@common
def quota(call: Call, name: str, size: int) -> None:
    """Limit the bytes that an account stores (SIZE such as 20G, or none)."""
    done = call.run(lambda link: link.call("account.quota", name=name, quota_bytes=limit(size)))
    _one(call, done, f"account {name}: {output.size(limit(size))}")


def _one(call: Call, value: dict[str, object], said: str) -> None:
    if call.json:
        output.as_json(value)
    else:
        print(said)
