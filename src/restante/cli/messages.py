"""``restante message``: what a mailbox holds."""

import sys

import click

from restante.cli import output
from restante.cli.running import Call, common, example

COLUMNS = ("uid", "received_at", "from", "subject", "size_bytes", "attachments", "flags")


@click.group()
def message() -> None:
    """Messages of a mailbox: list, show, raw bytes, take back from Trash."""


@message.command("list", epilog=example('restante message list alice@example.test --search "invoice march"'))
@click.argument("mailbox")
@click.option("--folder", default="INBOX", show_default=True, help="The folder; * for all of them with --search.")
@click.option("--search", metavar="WORDS", help="Only those that hold every word.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--before-uid", type=click.IntRange(1), help="Only those with a smaller UID (the next page).")
@common
def list_(call: Call, mailbox: str, folder: str, search: str | None, limit: int, before_uid: int | None) -> None:
    """Show messages, newest first."""
    found = call.run(
        lambda link: link.call(
            "message.list", mailbox=mailbox, folder=folder, search=search, limit=limit, before_uid=before_uid
        )
    )
    if call.json:
        output.as_json(found)
        return
    output.table(found["messages"], COLUMNS, "no messages")
    if found["total"] > len(found["messages"]):
        print(f"{len(found['messages'])} of {found['total']}")


@message.command(epilog=example("restante message show alice@example.test 1"))
@click.argument("mailbox")
@click.argument("uid", type=click.IntRange(1))
@click.option("--folder", default="INBOX", show_default=True, help="The folder that it is in.")
@common
def show(call: Call, mailbox: str, uid: int, folder: str) -> None:
    """Show one message: its headers, its text, its attachments."""
    found = call.run(lambda link: link.call("message.show", mailbox=mailbox, folder=folder, uid=uid))
    if call.json:
        output.as_json(found)
        return
    output.fields(
        {name: found[name] for name in ("from", "to", "cc", "subject", "sent_at", "received_at", "flags", "id")}
    )
    for part in found["attachment_list"]:
        about = f"{output.cell(part['content_type'])}, {output.size(part['size_bytes'])}"
        print(f"attachment {part['index']}: {output.cell(part['filename'])} ({about})")
    print()
    for line in (found["text"] or found["preview"]).splitlines():
        print(output.cell(line, None) if line else "")


@message.command(epilog=example("restante message raw alice@example.test 1 > message.eml"))
@click.argument("mailbox")
@click.argument("uid", type=click.IntRange(1))
@click.option("--folder", default="INBOX", show_default=True, help="The folder that it is in.")
@common
def raw(call: Call, mailbox: str, uid: int, folder: str) -> None:
    """Write one message's bytes to standard output (with --json: base64 in the field `raw`)."""
    data = call.run(lambda link: link.call("message.raw", mailbox=mailbox, folder=folder, uid=uid))
    if call.json:
        import base64

        output.as_json({"mailbox": mailbox, "folder": folder, "uid": uid, "raw": base64.b64encode(data).decode()})
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@message.command(epilog=example("restante message undelete 01a1fede-49a0-752b-87cc-449d5fce9a10"))
@click.argument("message_id", metavar="ID")
@common
def undelete(call: Call, message_id: str) -> None:
    """Move a message from Trash back to the folder it was in (or to INBOX, when that is not known)."""
    found = call.run(lambda link: link.call("message.undelete", message=message_id))
    if call.json:
        output.as_json(found)
    else:
        print(f"message {found['id']} is in {output.cell(found['folder'], None)} of {found['mailbox']}")
