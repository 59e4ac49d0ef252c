"""``restante webhook``: one from its making to its removal, and what is refused."""

import pytest

from tests.cli.conftest import Cli

URL = "https://app.example/in"


def test_from_add_to_remove(cli: Cli) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    made = cli.json("webhook", "add", URL, "--type", "message.*", "--type", "token.created", "--ordered")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["types"], made["is_ordered"], made["status"]) == (["message.*", "token.created"], True, "active")
    assert cli.json("webhook", "list") == {"webhooks": [made]}
    assert cli.json("webhook", "calls", made["id"]) == {"calls": [], "cursor": 0, "is_last": True}
    assert cli.json("webhook", "redeliver", made["id"], "--dead") == {"calls": 0}
    assert cli.run("webhook", "redeliver", made["id"], "--from", "1").code == 3
    assert cli.json("webhook", "redeliver", made["id"], "--from", "1", "--to", "9") == {"calls": 0}
    assert URL in cli.run("webhook", "list").out
    assert cli.json("webhook", "remove", made["id"]) == {"id": made["id"], "removed": True}
    assert cli.run("webhook", "list").out == "no webhooks\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", URL), 2),
        (("add", "ftp://x.example/", "--type", "*"), 2),
        (("add", URL, "--type", "message.gone"), 2),
        (("add", URL, "--type", "*", "--mailbox", "nobody@example.test"), 3),
        (("add", URL, "--type", "*", "--account", "nobody"), 3),
        (("remove", "x"), 3),
        (("calls", "00000000-0000-0000-0000-000000000000"), 3),
        (("redeliver", "x"), 2),
        (("redeliver", "x", "--to", "3"), 2),
        (("redeliver", "x", "--dead", "--from", "3"), 2),
    ],
)
def test_what_is_refused(cli: Cli, words: tuple[str, ...], code: int) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    assert cli.run("webhook", *words).code == code
    assert cli.json("webhook", "list") == {"webhooks": []}
