"""What all commands share: the options ``--data-dir --config --json``, running, and errors as exit codes."""

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click

from restante import config as settings
from restante import errors, log
from restante.cli.link import Link

T = TypeVar("T")
P = ParamSpec("P")

FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
NOT_NOW = 5

# first match wins
EXIT_CODES: tuple[tuple[type[errors.RestanteError], int], ...] = (
    (errors.Invalid, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.RateLimited, NOT_NOW),
    (errors.LimitExceeded, REFUSED),
    (errors.Conflict, REFUSED),
    (errors.Forbidden, REFUSED),
    (errors.Unauthenticated, REFUSED),
    (errors.Unavailable, NOT_NOW),
    (errors.RestanteError, FAILED),
)


# what to add to an error's text for people who use the command line
HINTS = {
    "domain_not_empty": "--with-mail removes it with its mail",
    "mailbox_not_empty": "--with-mail removes it with its mail",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One command being run: where its data is and how it prints."""

    data_dir: str | None
    config_file: Path | None
    json: bool

    def load(self, overrides: dict[str, Any] | None = None) -> settings.Config:
        """The settings; ends the command when one is wrong (exit code 2)."""
        try:
            return settings.load({"data_dir": self.data_dir, **(overrides or {})}, file=self.config_file)
        except settings.ConfigError as error:
            self.fail(USAGE, "invalid_setting", str(error))

    def configured(self) -> settings.Config:
        """The settings, with the log as they want it; what is ordinary in a server's log is not shown."""
        config = self.load()
        log.configure(config.log.format, "warning" if config.log.level == "info" else config.log.level)
        return config

    def run(self, work: Callable[[Link], Awaitable[T]], *, creates: bool = False, gives_up_keys: bool = False) -> T:
        """Run ``work`` on the link to the data; an expected error ends the command with its exit code."""
        import asyncio

        from restante.cli.link import connect

        config = self.configured()

        async def linked() -> T:
            async with connect(config, creates=creates, gives_up_keys=gives_up_keys) as link:
                return await work(link)

        try:
            return asyncio.run(linked())
        except errors.RestanteError as error:
            self.fail_with(error)
        except KeyboardInterrupt:
            self.fail(FAILED, "interrupted", "interrupted")

    def fail_with(self, error: errors.RestanteError) -> NoReturn:
        """End the command as ``error`` asks."""
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        text = error.message.rstrip(".")
        if error.details:
            text += " (" + "; ".join(f"{name}: {reason}" for name, reason in error.details.items()) + ")"
        if error.code in HINTS:
            text += f"; {HINTS[error.code]}"
        self.fail(code, error.code, text)

    def fail(self, exit_code: int, code: str, message: str) -> NoReturn:
        """Say on standard error why, and exit."""
        if self.json:
            print(json.dumps({"error": code, "message": message}, ensure_ascii=False), file=sys.stderr)
        else:
            print(f"restante: {log.escape(message)}", file=sys.stderr)
        sys.exit(exit_code)


def common(fn: Callable[Concatenate[Call, P], None]) -> Callable[P, None]:
    """Give a command the common options; it gets a ``Call`` first."""

    @wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        chosen: dict[str, Any] = kwargs
        call = Call(chosen.pop("data_dir"), chosen.pop("config_file"), chosen.pop("as_json"))
        fn(call, *args, **kwargs)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--config", "config_file", type=click.Path(path_type=Path), help="The settings file (restante config)."
        ),
        click.option("--data-dir", metavar="DIR", help="The data directory."),
    ):
        option(wrapped)  # click notes the option on the function and returns it
    return wrapped


def example(text: str) -> str:
    """The end of a command's help: examples, kept as they are written."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())
