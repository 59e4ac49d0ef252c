"""``restante serve``: the server in the foreground, and what it says when it is ready."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from restante import __version__, errors, log
from restante import config as definitions
from restante.cli.running import Call, common, example

if TYPE_CHECKING:
    from restante.server.assemble import Ready

WIDTH = 80


def _flags(fn: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every setting that has a flag of its own (``--data-dir`` is common to all commands)."""
    for setting in reversed(definitions.settings()):
        if setting.flag and setting.flag != "data-dir":
            text = f"{setting.doc} [{setting.default or 'none'}]"
            fn = click.option(f"--{setting.flag}", setting.key.replace(".", "__"), metavar="VALUE", help=text)(fn)
    return fn


@click.command(
    epilog=example("restante serve\nrestante serve --data-dir /srv/mail --hostname mail.example.com --smtp :25")
)
@_flags
@common
def serve(call: Call, /, **flags: str | None) -> None:
    """Start the server; the first start makes the data directory and says how to send a first mail."""
    import asyncio

    import uvloop

    from restante.server.assemble import run_server
    from restante.server.control import require_alone

    config = call.load({name.replace("__", "."): value for name, value in flags.items()})
    log.configure(config.log.format, config.log.level)

    def on_ready(ready: "Ready") -> None:
        text = banner(ready) if not call.json else ready_json(ready)
        print(text, flush=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(require_alone(config.data_dir))
            code = runner.run(run_server(config, on_ready))
    except errors.RestanteError as error:
        call.fail_with(error)
    sys.exit(code)


def ready_json(ready: "Ready") -> str:
    """What ``serve --json`` prints when it is ready, on one line."""
    import json

    first = ready.first_run
    value = {
        "ready": True,
        "data_dir": str(ready.config.data_dir),
        "http": list(ready.http),
        "smtp": list(ready.smtp),
        "submission": list(ready.submission),
        "first_run": first
        and {
            "account": first.account.name,
            "domain": first.domain.name,
            "mailbox": first.mailbox.address,
            "password": first.password,
            "token": first.token,
        },
    }
    return json.dumps(value, ensure_ascii=False)


def banner(ready: "Ready") -> str:
    """What people read when the server is ready; the first time with credentials and two lines to copy."""
    lines = [f"Restante {__version__} is ready. Stop it with Ctrl-C.", ""]
    places = (
        ("HTTP", ready.http, "/docs explains the API"),
        ("SMTP", ready.smtp, "mail for our domains"),
        ("Submission", ready.submission, "for our users, with a login"),
    )
    for name, where, note in places:
        lines += [f"  {name:<12}{place:<30}{note}" for place in where] or [f"  {name:<12}off"]
    lines += [f"  {'Data':<12}{ready.config.data_dir}", ""]
    if ready.first_run is not None:
        lines += _first_run(ready)
    return "\n".join(lines)


def _first_run(ready: "Ready") -> list[str]:
    first = ready.first_run
    assert first is not None
    address = first.mailbox.address
    lines = [
        "First run. These credentials are shown once; keep them:",
        "",
        f"  {'Mailbox':<12}{address:<30}takes all mail for {first.domain.name}",
        f"  {'Password':<12}{first.password}",
        f"  {'API token':<12}{first.token}",
        "",
    ]
    if ready.smtp:
        lines += ["Send a first mail:", "", *_send_line(ready.smtp[0], address), ""]
    if ready.http:
        lines += ["List it:", "", *_list_line(ready.http[0], address, first.token), ""]
    return lines


def reachable(place: str) -> str:
    """An address to connect to, for one that listens everywhere."""
    return place.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


def _send_line(place: str, address: str) -> list[str]:
    host, _, port = reachable(place).rpartition(":")
    return [
        f"""  python3 -c "import smtplib; smtplib.SMTP('{host.strip("[]")}', {port}).sendmail(""",
        f"""    'me@example.org', '{address}', 'Subject: hello\\n\\nIt works.')" """.rstrip(),
    ]


def _list_line(url: str, address: str, token: str) -> list[str]:
    insecure = " -k" if url.startswith("https:") else ""
    return [
        f'  curl -sS{insecure} -H "X-MAILAPI-TOKEN: {token}" \\',
        f"    {reachable(url)}/api/v1/mailbox/{address}/messages",
    ]
