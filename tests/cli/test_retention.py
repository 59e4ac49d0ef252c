"""``restante retention``: rules from their making to their removal, runs, and what is refused."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.makers import eml


def test_rules_and_a_run(cli: Cli, tmp_path: Path) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    listed = cli.json("retention", "list")
    assert {name: listed[name] for name in ("account", "rules", "trash_days")} == {
        "account": "default", "rules": [], "trash_days": 30,
    }  # fmt: skip
    cli.json("retention", "set", "default", "--days", "30", "--bytes", "1M")
    junk = cli.json("retention", "set", "--domain", "example.test", "--folder", "junk", "--messages", "5")
    assert {name: junk[name] for name in ("domain", "mailbox", "folder", "days", "messages", "bytes")} == {
        "domain": "example.test", "mailbox": None, "folder": "junk", "days": None, "messages": 5, "bytes": None,
    }  # fmt: skip
    own = cli.json("retention", "set", "--mailbox", "alice@example.test", "--days", "none", "--bytes", "none")
    assert (own["days"], own["bytes"]) == (0, 0)
    listed = cli.json("retention", "list", "default")["rules"]
    assert [(one["domain"], one["mailbox"]) for one in listed] == [
        (None, None), ("example.test", None), (None, "alice@example.test"),
    ]  # fmt: skip
    assert "example.test" in cli.run("retention", "list").out

    (tmp_path / "old.mbox").write_bytes(
        b"From a@example.org Mon Jan  2 10:00:00 2023\n" + eml().replace(b"\r\n", b"\n") + b"\n"
    )
    cli.json("import", str(tmp_path / "old.mbox"), "--mailbox", "alice@example.test")
    assert cli.json("retention", "run") == {"dry_run": False, "cleaned": []}
    removed = cli.json("retention", "remove", "--mailbox", "alice@example.test")
    assert removed == {"domain": None, "mailbox": "alice@example.test", "folder": None, "removed": True}
    dry = cli.json("retention", "run", "default", "--dry-run")
    (done,) = dry["cleaned"]
    assert (dry["dry_run"], done["mailbox"], done["folder"], done["messages"]) == (
        True, "alice@example.test", None, 1,
    )  # fmt: skip
    assert "dry run" in cli.run("retention", "run", "--dry-run").out
    assert cli.json("message", "list", "alice@example.test")["total"] == 1
    assert cli.json("retention", "run") == {"dry_run": False, "cleaned": [done]}
    assert cli.json("message", "list", "alice@example.test", "--folder", "Trash")["total"] == 1
    assert cli.run("retention", "run").out == "nothing is over the limits\n"
    assert cli.json("verify")["ok"]


def test_the_forecast_is_switched_on_and_off(cli: Cli) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    assert cli.json("retention", "list")["forecast"]["enabled"] is False
    on = cli.json("retention", "set", "default", "--forecast")
    assert (on["enabled"], on["growth_bytes"]) == (True, None)
    assert on["unknown"] in ("no_figures", "storage_elsewhere")
    assert cli.json("retention", "list")["forecast"] == on
    assert "clean-up by forecast is on" in cli.run("retention", "list").out
    assert cli.json("retention", "run") == {"dry_run": False, "cleaned": []}
    assert cli.json("retention", "set", "--no-forecast") == on | {"enabled": False}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set",), 2),
        (("set", "--days", "-1"), 2),
        (("set", "--days", "0"), 2),
        (("set", "--days", "99999"), 2),
        (("set", "--messages", "x"), 2),
        (("set", "--bytes", "9e9"), 2),
        (("set", "--folder", "trash", "--days", "1"), 2),
        (("set", "--domain", "example.test", "--mailbox", "alice@example.test", "--days", "1"), 2),
        (("set", "nobody", "--days", "1"), 3),
        (("set", "nobody", "--forecast"), 3),
        (("set", "--days", "1", "--forecast"), 2),
        (("set", "other", "--domain", "example.test", "--days", "1"), 3),
        (("set", "other", "--mailbox", "alice@example.test", "--days", "1"), 3),
        (("set", "--domain", "nowhere.test", "--days", "1"), 3),
        (("remove", "default"), 3),
        (("remove", "--mailbox", "nobody@example.test"), 3),
        (("run", "nobody"), 3),
        (("list", "nobody"), 3),
    ],
)
def test_what_is_refused(cli: Cli, words: tuple[str, ...], code: int) -> None:
    cli.json("mailbox", "add", "alice@example.test")
    cli.json("account", "add", "other")
    assert cli.run("retention", *words).code == code
    assert cli.json("retention", "list")["rules"] == []
