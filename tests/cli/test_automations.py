"""``restante automation``: one from its making to its removal, its backtest, and what is refused."""

import pytest

from tests.cli.conftest import Cli

URL = "https://app.example/in"
SINCE = "2026-01-01T00:00:00Z"


def test_from_add_to_remove(cli: Cli) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    made = cli.json("automation", "add", "Orders", "--url", URL, "--secret-token", "s3", "--format", "raw", "--delete")
    assert made.pop("secret").startswith("whsec_")
    assert (made["title"], made["url"], made["payload_format"]) == ("Orders", URL, "raw")
    assert (made["has_secret_token"], made["deletes"], made["has_attachments"]) == (True, True, False)
    assert cli.json("automation", "list") == {"automations": [made]}
    words = ("--title", "More", "--url", "", "--forward-to", "c@far.example", "--sender", "@shop", "--has-attachments")
    changed = cli.json("automation", "update", made["id"], *words, "--keep")
    assert (changed["title"], changed["url"], changed["forward_to"]) == ("More", None, "c@far.example")
    assert (changed["sender"], changed["deletes"], changed["has_attachments"]) == ("@shop", False, True)
    assert changed["has_secret_token"], "what is not named stays"
    assert cli.json("automation", "update", made["id"], "--sender", "")["sender"] is None
    assert cli.json("automation", "runs", made["id"]) == {"runs": [], "cursor": 0, "is_last": True}
    assert "More" in cli.run("automation", "list").out
    assert cli.json("automation", "remove", made["id"]) == {"id": made["id"], "removed": True}
    assert cli.run("automation", "list").out == "no automations\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", ""), 2),
        (("add", "x", "--url", "ftp://x.example/"), 2),
        (("add", "x", "--subject", "("), 2),
        (("add", "x", "--url", URL, "--forward-to", "c@far.example"), 2),
        (("add", "x", "--forward-to", "nobody"), 2),
        (("add", "x", "--secret-token", "a b"), 2),
        (("add", "x", "--account", "nobody"), 3),
        (("update", "x", "--keep"), 3),
        (("update", "00000000-0000-0000-0000-000000000000"), 2),
        (("remove", "x"), 3),
        (("runs", "00000000-0000-0000-0000-000000000000"), 3),
        (("test", "x", "--since", SINCE), 3),
        (("test", "x", "--since", "2026-01-01"), 3),
        (("test", "x", "--since", "yesterday"), 2),
    ],
)
def test_what_is_refused(cli: Cli, words: tuple[str, ...], code: int) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    assert cli.run("automation", *words).code == code
    assert cli.json("automation", "list") == {"automations": []}
