"""``restante mailbox``."""

from typing import Any

import click

from restante.cli import output
from restante.cli.running import Call, common, example
from restante.cli.values import Size, limit, password_from

COLUMNS = ("address", "account", "role", "status", "messages", "used_bytes", "quota_bytes")


@click.group()
def mailbox() -> None:
    """Mailboxes: one address's store each."""


@mailbox.command(
    epilog=example("restante mailbox add alice@example.test\nrestante mailbox add bob@example.test --password PW")
)
@click.argument("address")
@click.option("--password", metavar="PW", help="Its password; one is made and shown once by default.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--name", default="", help="The name of whoever uses it.")
@click.option("--admin", is_flag=True, help="Its user is an operator of this server.")
@click.option("--quota", type=Size(), help="Bytes that it may store, such as 2G.")
@click.option("--account", help="Whose it is, when its domain has to be made; the first account by default.")
@common
def add(
    call: Call,
    address: str,
    password: str | None,
    password_stdin: bool,
    name: str,
    admin: bool,
    quota: int | None,
    account: str | None,
) -> None:
    """Make a mailbox, and the account and domain that it needs (forced: mail is taken at once)."""
    secret = password_from(password, password_stdin)
    made = call.run(
        lambda link: link.call(
            "mailbox.add",
            address=address,
            password=secret,
            name=name,
            admin=admin,
            quota_bytes=limit(quota),
            account=account,
        ),
        creates=True,
    )
    if call.json:
        output.as_json(made)
        return
    print(f"mailbox {made['address']} added")
    _show_password(made)


@mailbox.command("list", epilog=example("restante mailbox list --domain example.test"))
@click.option("--account", help="Only this account's.")
@click.option("--domain", help="Only this domain's.")
@common
def list_(call: Call, account: str | None, domain: str | None) -> None:
    """Show the mailboxes."""
    found = call.run(lambda link: link.call("mailbox.list", account=account, domain=domain))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["mailboxes"], COLUMNS, "no mailboxes")


@mailbox.command(epilog=example("restante mailbox password alice@example.test"))
@click.argument("address")
@click.option("--password", metavar="PW", help="The new one; one is made and shown once by default.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@common
def password(call: Call, address: str, password: str | None, password_stdin: bool) -> None:
    """Set a mailbox's password."""
    secret = password_from(password, password_stdin)
    done = call.run(lambda link: link.call("mailbox.password", address=address, password=secret))
    if call.json:
        output.as_json(done)
        return
    print(f"password of {done['address']} set")
    _show_password(done)


@mailbox.command(epilog=example("restante mailbox quota alice@example.test 2G"))
@click.argument("address")
@click.argument("size", type=Size())
@common
def quota(call: Call, address: str, size: int) -> None:
    """Limit the bytes that a mailbox stores (SIZE such as 2G, or none)."""
    done = call.run(lambda link: link.call("mailbox.quota", address=address, quota_bytes=limit(size)))
    if call.json:
        output.as_json(done)
    else:
        print(f"mailbox {done['address']}: {output.size(limit(size))}")


@mailbox.command(epilog=example("restante mailbox role alice@example.test member"))
@click.argument("address")
@click.argument("role", type=click.Choice(["user", "member", "admin"]))
@common
def role(call: Call, address: str, role: str) -> None:
    """Say what a mailbox's user is: a user, a member of the account's team (MailCare), or an operator (admin)."""
    done = call.run(lambda link: link.call("mailbox.role", address=address, role=role))
    if call.json:
        output.as_json(done)
    else:
        print(f"mailbox {done['address']}: {done['role']}")


@mailbox.command(epilog=example("restante mailbox remove alice@example.test"))
@click.argument("address")
@click.option("--with-mail", is_flag=True, help="Also when it holds messages.")
@common
def remove(call: Call, address: str, with_mail: bool) -> None:
    """Remove a mailbox."""
    done = call.run(lambda link: link.call("mailbox.remove", address=address, with_mail=with_mail))
    if call.json:
        output.as_json(done)
    else:
        print(f"mailbox {done['address']} removed")


def _show_password(made: dict[str, Any]) -> None:
    if made.get("password"):
        print(f"password: {made['password']}   (shown this once)")
