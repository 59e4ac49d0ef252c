"""``restante domain``: what mail is taken for."""

from typing import Any

import click

from restante.cli import output
from restante.cli.running import FAILED, Call, common, example

COLUMNS = ("name", "account", "approved", "dns_status", "local", "catch_all", "created_by")


@click.group()
def domain() -> None:
    """Domains. Mail is taken for one that is approved and proved by DNS, or forced."""


@domain.command(epilog=example("restante domain add example.com\nrestante domain add intern.test --force"))
@click.argument("name")
@click.option("--account", help="Whose it is; the first account by default.")
@click.option("--force", is_flag=True, help="It is ours without a proof by DNS.")
@click.option("--catch-all", metavar="ADDRESS", help="The mailbox that gets mail for unknown addresses.")
@common
def add(call: Call, name: str, account: str | None, force: bool, catch_all: str | None) -> None:
    """Add an approved domain; mail is taken once DNS proves it, or at once with --force."""
    made = call.run(
        lambda link: link.call("domain.add", name=name, account=account, force=force, catch_all=catch_all), creates=True
    )
    _one(call, made)


@domain.command("list", epilog=example("restante domain list"))
@click.option("--account", help="Only this account's.")
@common
def list_(call: Call, account: str | None) -> None:
    """Show the domains."""
    found = call.run(lambda link: link.call("domain.list", account=account))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["domains"], COLUMNS, "no domains")


@domain.command(epilog=example("restante domain approve example.com"))
@click.argument("name")
@common
def approve(call: Call, name: str) -> None:
    """Agree to a domain that somebody signed up with."""
    _one(call, call.run(lambda link: link.call("domain.approve", name=name)))


@domain.command(epilog=example("restante domain verify example.com"))
@click.argument("name")
@click.option("--force", is_flag=True, help="Take it as ours whatever DNS says.")
@common
def verify(call: Call, name: str, force: bool) -> None:
    """Ask DNS now whether a domain is proved to be ours; exit code 1 when it is not."""
    found = call.run(lambda link: link.call("domain.verify", name=name, force=force))
    _one(call, found)
    if found["dns_status"] == "pending":
        raise click.exceptions.Exit(FAILED)


@domain.command(epilog=example("restante domain remove example.com"))
@click.argument("name")
@click.option("--with-mail", is_flag=True, help="Also when its mailboxes hold messages.")
@common
def remove(call: Call, name: str, with_mail: bool) -> None:
    """Remove a domain with its mailboxes and aliases."""
    done = call.run(lambda link: link.call("domain.remove", name=name, with_mail=with_mail))
    if call.json:
        output.as_json(done)
    else:
        print(f"domain {done['name']} removed")


def _one(call: Call, made: dict[str, Any]) -> None:
    if call.json:
        output.as_json(made)
        return
    print(f"domain {made['name']}: {_state(made)}")
    if not made["local"] and made["approved"] and made.get("dns_record"):
        print("To prove that it is yours, publish this in DNS, then run")
        print(f"`restante domain verify {made['name']}`:")
        print(f"  {made['dns_record']}")


def _state(made: dict[str, Any]) -> str:
    if made["local"]:
        return "mail is taken" + (" (forced)" if made["dns_status"] == "forced" else "")
    return "waits for its proof by DNS" if made["approved"] else "waits for approval"
