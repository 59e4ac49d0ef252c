"""``restante send`` and ``restante queue``: mail on its way out."""

import mimetypes
import sys
from pathlib import Path
from typing import Any

import click

from restante.cli import output
from restante.cli.running import Call, common, example

COLUMNS = ("queue_id", "created_at", "status", "sender", "recipients", "deferred", "sent", "bounced", "subject")
RECIPIENT_COLUMNS = ("address", "kind", "status", "held", "attempts", "next_attempt_at", "dsn_code", "response")
ATTEMPT_COLUMNS = ("attempted_at", "address", "status", "dsn_code", "remote_mta", "tls", "response")
STATES = ("submitted", "sent", "partial", "bounced", "failed", "any")


@click.command(
    epilog=example(
        'restante send --from alice@example.test --to bob@example.org --subject "Two chairs" --text "They are ready."\n'
        "restante send --from alice@example.test --to bob@example.org --text - --attach plan.pdf < letter.txt\n"
        "restante send --from alice@example.test --to bob@example.org --raw message.eml"
    )
)
@click.option("--from", "sender", required=True, metavar="ADDRESS", help="The sender, of a domain of this server.")
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="A recipient; may be given several times.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="A further recipient, shown in Cc.")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="A further recipient, shown to nobody.")
@click.option("--reply-to", multiple=True, metavar="ADDRESS", help="Where answers go.")
@click.option("--subject", default="", help="The subject.")
@click.option("--text", help="The text; - reads it from standard input.")
@click.option("--html", help="The HTML form of the text.")
@click.option("--attach", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="A file to send along.")
@click.option("--raw", metavar="FILE", help="A finished message instead; - reads it from standard input.")
@common
def send(
    call: Call,
    sender: str,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    reply_to: tuple[str, ...],
    subject: str,
    text: str | None,
    html: str | None,
    attach: tuple[Path, ...],
    raw: str | None,
) -> None:
    """Send a message. It is in the queue when this ends; `restante queue show` tells what became of it."""
    if raw is not None:
        if cc or bcc or reply_to or subject or attach or text is not None or html is not None:
            raise click.UsageError("--raw takes --from and --to alone; all else stands in the message")
        data = _whole_lines(_read(raw))
        done = call.run(lambda link: link.call("send.raw", sender=sender, to=to, raw=data))
    else:
        if text is None and html is None:
            raise click.UsageError("--text, --html or --raw is needed")
        if text == "-":
            text = sys.stdin.read()
        files = [_file(path) for path in attach]
        done = call.run(
            lambda link: link.call(
                "send", sender=sender, to=to, cc=cc, bcc=bcc, reply_to=reply_to, subject=subject, text=text, html=html,
                attachments=files,
            )
        )  # fmt: skip
    if call.json:
        output.as_json(done)
    else:
        print(f"{done['queue_id']} waits for {done['recipients']} recipients")


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    return _bytes(Path(name))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error


def _whole_lines(raw: bytes) -> bytes:
    """CRLF line ends, as mail has them, whatever the file has."""
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _file(path: Path) -> dict[str, Any]:
    kind, encoding = mimetypes.guess_type(path.name)
    content_type = kind if kind and not encoding else "application/octet-stream"
    return {"filename": path.name, "content_type": content_type, "content": _bytes(path)}


@click.group()
def queue() -> None:
    """Mail that is being sent: list, show, retry, hold, release, drop."""


@queue.command("list", epilog=example("restante queue list\nrestante queue list --status bounced --limit 10"))
@click.option("--status", type=click.Choice(STATES), default="submitted", show_default=True, help="In this state.")
@click.option("--from", "sender", metavar="ADDRESS", help="Of this sender.")
@click.option("--to", "recipient", metavar="ADDRESS", help="To this recipient, among others.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="Without so many newest ones.")
@common
def list_(call: Call, status: str, sender: str | None, recipient: str | None, limit: int, offset: int) -> None:
    """Show messages on their way, or in another state; newest first."""
    wanted = None if status == "any" else status
    found = call.run(
        lambda link: link.call(
            "queue.list", status=wanted, sender=sender, recipient=recipient, limit=limit, offset=offset
        )
    )
    if call.json:
        output.as_json(found)
        return
    output.table(found["submissions"], COLUMNS, "nothing")
    if found["total"] > len(found["submissions"]):
        print(f"{len(found['submissions'])} of {found['total']}")


@queue.command(epilog=example("restante queue show 4f0Bn53bY2z6v2j"))
@click.argument("id", metavar="ID")
@common
def show(call: Call, id: str) -> None:  # noqa: A002 - what the argument is called
    """Show one message (by its queue id or its message id), its recipients and every try to move them."""
    found = call.run(lambda link: link.call("queue.show", name=id))
    if call.json:
        output.as_json(found)
        return
    recipients, attempts = found.pop("recipient_list"), found.pop("attempt_list")
    output.fields(found)
    print()
    output.table(recipients, RECIPIENT_COLUMNS, "no recipients")
    print()
    output.table(attempts, ATTEMPT_COLUMNS, "not tried yet")


def _changing(name: str, said: str, text: str) -> None:
    """Add a command that changes the recipients of one message that are not final."""

    @queue.command(name, help=text, epilog=example(f"restante queue {name} 4f0Bn53bY2z6v2j"))
    @click.argument("id", metavar="ID")
    @common
    def change(call: Call, id: str) -> None:  # noqa: A002 - what the argument is called
        done = call.run(lambda link: link.call(f"queue.{name}", name=id))
        if call.json:
            output.as_json(done)
        else:
            print(f"{done['changed']} recipients of {done['queue_id'] or done['id']} {said}")


_changing("retry", "are tried now", "Try the recipients of a message that are not final at once, held ones too.")
_changing("hold", "wait until they are released", "Stop trying a message.")
_changing("release", "are tried when their turn comes", "End a hold.")
_changing("drop", "are given up", "Give up on the recipients of a message that are not final; nobody is told by mail.")
