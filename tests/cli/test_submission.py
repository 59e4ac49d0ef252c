"""``restante send`` and ``restante queue`` without a server."""

import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def ann(cli: Cli) -> str:
    """A mailbox of a domain that may send."""
    address: str = cli.json("mailbox", "add", "ann@red.test")["address"]
    return address


def test_a_message_is_sent_and_shown(cli: Cli, ann: str, tmp_path: Path) -> None:
    (tmp_path / "plan.pdf").write_bytes(b"%PDF-1.4")
    sent = cli.json(
        "send", "--from", f"Ann <{ann}>", "--to", "eve@far.example", "--cc", "Carl <carl@far.example>", "--bcc",
        "dora@far.example", "--subject", "Two chairs", "--text", "They are ready.", "--html", "<p>They are.</p>",
        "--attach", str(tmp_path / "plan.pdf"), "--reply-to", "office@red.test",
    )  # fmt: skip
    assert (sent["source"], sent["status"], sent["sender"], sent["recipients"]) == ("command", "submitted", ann, 3)
    listed = cli.json("queue", "list")
    assert (listed["total"], listed["submissions"]) == (1, [sent])
    assert cli.json("queue", "list", "--to", "DORA@far.example", "--from", ann)["total"] == 1
    assert cli.json("queue", "list", "--status", "bounced") == {"total": 0, "submissions": []}
    assert cli.json("queue", "list", "--status", "any", "--offset", "1")["submissions"] == []
    shown = cli.json("queue", "show", sent["queue_id"])
    assert cli.json("queue", "show", sent["id"]) == shown
    assert [(one["address"], one["kind"], one["status"]) for one in shown.pop("recipient_list")] == [
        ("eve@far.example", "to", "pending"), ("carl@far.example", "cc", "pending"),
        ("dora@far.example", "bcc", "pending"),
    ]  # fmt: skip
    assert shown.pop("attempt_list") == []
    assert shown == sent
    copy = cli.json("message", "show", ann, "1", "--folder", "Sent")
    assert (copy["subject"], copy["text"], copy["attachment_list"][0]["filename"]) == (
        "Two chairs", "They are ready.\n", "plan.pdf",
    )  # fmt: skip
    assert ["Reply-To", "office@red.test"] in copy["headers"]


def test_people_read_a_table(cli: Cli, ann: str) -> None:
    assert cli.run("queue", "list").out == "nothing\n"
    ran = cli.run("send", "--from", ann, "--to", "eve@far.example", "--text", "-", stdin="From standard input.\n")
    queue_id = ran.out.split()[0]
    assert ran.out == f"{queue_id} waits for 1 recipients\n"
    assert queue_id in cli.run("queue", "list").out
    shown = cli.run("queue", "show", queue_id).out
    assert "eve@far.example" in shown
    assert "not tried yet" in shown


def test_a_finished_message_is_sent_as_it_is(cli: Cli, ann: str, tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(f"From: {ann}\nBcc: x@y.example\nSubject: raw\n\none\ntwo\n".encode())
    sent = cli.json("send", "--from", ann, "--to", "eve@far.example", "--raw", str(tmp_path / "m.eml"))
    assert (sent["subject"], sent["source"]) == ("raw", "command")
    raw = cli.run("message", "raw", ann, "1", "--folder", "Sent").raw
    assert raw.endswith(f"From: {ann}\r\nSubject: raw\r\n\r\none\r\ntwo\r\n".encode())
    assert raw.startswith(b"Date: ")
    assert b"Received" not in raw
    piped = cli.run("send", "--from", ann, "--to", "eve@far.example", "--raw", "-", stdin=f"From: {ann}\n\nx\n")
    assert piped.code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--to", "eve@far.example"), 2, "--text, --html or --raw is needed"),
        (("--text", "x"), 2, "--to"),
        (("--to", "nobody", "--text", "x"), 2, "is not an address"),
        (("--to", "a@b.example, c@d.example", "--text", "x"), 2, "is not an address"),
        (("--to", "eve@far.example", "--raw", "-", "--subject", "x"), 2, "--raw takes"),
        (("--to", "eve@far.example", "--text", "x", "--attach", "/nonexistent"), 2, "No such file"),
        (("--to", "eve@far.example", "--raw", "/nonexistent"), 2, "No such file"),
    ],
)
def test_wrong_usage(cli: Cli, ann: str, arguments: tuple[str, ...], code: int, text: str) -> None:
    ran = cli.run("send", "--from", ann, *arguments)
    assert ran.code == code
    assert text in ran.err
    assert cli.json("queue", "list", "--status", "any")["total"] == 0


def test_only_own_domains_send(cli: Cli, ann: str) -> None:
    ran = cli.run("send", "--from", "x@elsewhere.example", "--to", "eve@far.example", "--text", "x", "--json")
    assert ran.code == 4
    assert '"domain_not_allowed"' in ran.err


def test_what_is_not_in_the_queue(cli: Cli, ann: str) -> None:
    for name in ("nothing", str(uuid.uuid4()), "%", ""):
        assert cli.run("queue", "show", name).code == 3
    assert cli.run("queue", "list", "--from", "nobody").code == 2


def test_the_operator_steers_a_message(cli: Cli, ann: str) -> None:
    sent = cli.json("send", "--from", ann, "--to", "eve@far.example", "--to", "x@elsewhere.example", "--text", "x")

    def held() -> list[bool]:
        return [one["held"] for one in cli.json("queue", "show", sent["id"])["recipient_list"]]

    assert cli.json("queue", "hold", sent["queue_id"]) == sent | {"changed": 2}
    assert held() == [True, True]
    assert cli.json("queue", "hold", sent["queue_id"])["changed"] == 0
    assert cli.json("queue", "release", sent["queue_id"])["changed"] == 2
    assert held() == [False, False]
    cli.json("queue", "hold", sent["id"])
    assert cli.run("queue", "retry", sent["queue_id"]).out == f"2 recipients of {sent['queue_id']} are tried now\n"
    assert held() == [False, False]
    dropped = cli.json("queue", "drop", sent["queue_id"])
    assert (dropped["changed"], dropped["status"], dropped["bounced"]) == (2, "bounced", 2)
    shown = cli.json("queue", "show", sent["id"])
    assert {(one["status"], one["next_attempt_at"]) for one in shown["recipient_list"]} == {("bounced", None)}
    assert cli.json("queue", "drop", sent["queue_id"])["changed"] == 0
    assert cli.json("queue", "list") == {"total": 0, "submissions": []}
    for verb in ("retry", "hold", "release", "drop"):
        assert cli.run("queue", verb, "nothing").code == 3
