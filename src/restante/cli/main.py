"""``restante``: the table of commands. Each one's module is read only when it is called, so ``--help`` is quick."""

import os
from importlib import import_module

import click

# name -> (module under restante.cli, its attribute, what the list says)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("serve", "serve", "Start the server."),
    "config": ("settings", "config", "Print every setting, as a commented file."),
    "account": ("accounts", "account", "Accounts: the tenants."),
    "domain": ("domains", "domain", "Domains that mail is taken for."),
    "mailbox": ("mailboxes", "mailbox", "Mailboxes."),
    "alias": ("aliases", "alias", "Further addresses of mailboxes."),
    "token": ("tokens", "token", "Tokens of programs."),
    "message": ("messages", "message", "Messages: list, show, raw bytes, undelete."),
    "send": ("submission", "send", "Send a message."),
    "queue": ("submission", "queue", "Mail that is being sent: list, show, retry, hold, release, drop."),
    "events": ("events", "events", "What happened, and what happens now."),
    "webhook": ("webhooks", "webhook", "URLs that are called when something happens."),
    "automation": ("automations", "automation", "What is done about mail that comes in."),
    "retention": ("retention", "retention", "How long mail is kept, and how much of it."),
    "import": ("importing", "import_", "Take messages from .eml and mbox files and folders."),
    "export": ("exporting", "export", "Write a mailbox to a folder, one .eml a message."),
    "verify": ("verification", "verify", "Check everything that is stored."),
    "backup": ("backup", "backup", "Copy everything, while the server runs."),
    "restore": ("backup", "restore", "Make a data directory from a backup."),
    "secret": ("secret", "secret", "The instance secret."),
    "version": ("settings", "version", "Print the version."),
}


class LazyGroup(click.Group):
    """A group whose commands are read from ``COMMANDS`` when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"restante.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def restante() -> None:
    """Restante, a self-hosted, programmable mail platform.

    \b
    restante serve                                    start (./dev run does the same)
    restante mailbox add alice@example.test           one more mailbox
    restante token create --dialect mail-api --admin  a token for a program

    Beside a running server every command goes through it. Exit codes: 0 done, 1 failed, 2 wrong
    usage or setting, 3 not found, 4 refused, 5 not possible at the moment.
    """


def main() -> None:
    """The entry point of the ``restante`` script. What it writes is its user's alone, whatever the directory's mode."""
    os.umask(0o077)
    restante(prog_name="restante")
