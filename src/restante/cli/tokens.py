"""``restante token``: credentials of programs."""

import click

from restante.cli import output
from restante.cli.running import Call, common, example
from restante.cli.values import RATE_LIMIT

COLUMNS = (
    "id",
    "prefix",
    "dialect",
    "kind",
    "mailbox",
    "name",
    "scopes",
    "rate_limit",
    "is_active",
    "last_used_at",
    "expires_at",
)


@click.group()
def token() -> None:
    """Tokens: each is for one API dialect; it is shown once, when it is made."""


@token.command(
    epilog=example(
        "restante token create --dialect mail-api --admin\n"
        "restante token create --dialect mail-api --mailbox alice@example.test --json\n"
        "restante token create --dialect native --account default\n"
        "restante token create --dialect mailcare --account default --scope email:view"
    )
)
@click.option("--dialect", required=True, help="The API it is for: mail-api, mailcare, native.")
@click.option("--admin", is_flag=True, help="It may do everything.")
@click.option("--account", metavar="NAME", help="It acts for this account.")
@click.option("--mailbox", metavar="ADDRESS", help="It acts as this mailbox's user.")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, metavar="NAME", help="It may do no more than this; may be repeated.")
@click.option("--rate-limit", type=RATE_LIMIT, help="Requests a minute instead of the dialect's own limits.")
@click.option("--days", type=click.IntRange(1, 36500), help="It expires after so many days.")
@common
def create(
    call: Call,
    dialect: str,
    admin: bool,
    account: str | None,
    mailbox: str | None,
    name: str,
    scopes: tuple[str, ...],
    rate_limit: int | None,
    days: int | None,
) -> None:
    """Make a token and print it, this once."""
    if (admin, account is not None, mailbox is not None).count(True) != 1:
        raise click.UsageError("say one of --admin, --account NAME and --mailbox ADDRESS")
    made = call.run(
        lambda link: link.call(
            "token.create",
            dialect=dialect,
            admin=admin,
            account=account,
            mailbox=mailbox,
            name=name,
            rate_limit=rate_limit,
            days=days,
            scopes=list(scopes) or None,
        ),
        creates=True,
    )
    if call.json:
        output.as_json(made)
    else:
        print(made["token"])


@token.command("list", epilog=example("restante token list"))
@click.option("--mailbox", metavar="ADDRESS", help="Only those of this mailbox.")
@common
def list_(call: Call, mailbox: str | None) -> None:
    """Show the tokens, by their first letters."""
    found = call.run(lambda link: link.call("token.list", mailbox=mailbox))
    if call.json:
        output.as_json(found)
    else:
        output.table(found["tokens"], COLUMNS, "no tokens")


@token.command(epilog=example("restante token revoke 3"))
@click.argument("number", metavar="ID", type=int)
@common
def revoke(call: Call, number: int) -> None:
    """Make a token useless at once (ID as in the list)."""
    done = call.run(lambda link: link.call("token.revoke", token_id=number))
    if call.json:
        output.as_json(done)
    else:
        print(f"token {done['prefix']}... revoked")
