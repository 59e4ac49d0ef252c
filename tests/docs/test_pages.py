"""The pages say what is: settings, JSON fields, RFCs, links, words."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from restante.api.mail_api import app as mail_api
from restante.api.mail_api import errors as mail_api_errors
from restante.api.mailcare import app as mailcare
from restante.api.mailcare import auth as mailcare_auth
from restante.cli.main import restante
from restante.core.event_types import TYPES
from restante.http.routing import Route
from tools import config_docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def test_configuration_is_the_definitions() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert page == config_docs.render(), "run: python -m tools.config_docs > docs/configuration.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert not target.startswith("http"), "the pages hold no addresses that could move"
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_decisions_fit_a_page(page: Path) -> None:
    text = page.read_text()
    assert len(text.split()) <= 450
    for part in ("**Decision.**", "**Why", "**Costs.**"):
        assert part in text
    assert text.startswith(f"# {page.stem[:4]} ")


def _rfc_rows() -> list[list[str]]:
    lines = (DOCS / "rfc.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["rfc", "title", "sections", "status", "where"]
    return [line.split("\t") for line in lines[1:]]


def test_every_rfc_in_the_source_has_a_row() -> None:
    cited = {
        int(number)
        for path in (ROOT / "src").rglob("*.py")
        for number in re.findall(r"RFCs? (\d{3,5})", path.read_text())
    }
    listed = [int(row[0]) for row in _rfc_rows()]
    assert listed == sorted(set(listed))
    assert cited - set(listed) == set(), "rows are missing in docs/rfc.tsv"
    assert set(listed) - cited == set(), "rows of docs/rfc.tsv that no source file cites"


def test_rfc_rows_are_whole() -> None:
    for row in _rfc_rows():
        assert len(row) == 5
        assert row[3].startswith(("yes", "partly", "no"))
        for place in row[4].split():
            text = (ROOT / "src" / "restante" / place).read_text()
            assert f"RFC {row[0]}" in text, f"{place} does not cite RFC {row[0]}"


def test_the_floors_are_those_of_the_contract() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    floors = [layer.split(" : ") for layer in layers]
    drawn = " > ".join(f"{{ {' '.join(floor)} }}" if len(floor) > 1 else floor[0] for floor in floors)
    page = (DOCS / "architecture.md").read_text()
    assert drawn in " ".join(page.split("```")[1].split())


# --- docs/cli.md --------------------------------------------------------------------------------------------------


def _table(title: str) -> list[tuple[str, str]]:
    section = (DOCS / "cli.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [(left.strip(), right.strip()) for left, right in rows[2:]]


def _fields(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


OBJECTS = {name: _fields(text) for name, text in _table("Objects")}


def _answers() -> dict[str, set[str]]:
    """Command to the fields that the page gives its JSON."""
    found: dict[str, set[str]] = {}
    for commands, text in _table("Commands"):
        named = re.match(r"(\w+)(?=,|$)", text)
        fields = _fields(text) | (OBJECTS[named[1]] if named else set())
        for command in re.findall(r"`([^`]+)`", commands):
            found[command] = fields
    return found


ANSWERS = _answers()


def _leaves(command: click.Command, path: str = "") -> list[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        subs = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [leaf for name, sub in subs if sub is not None for leaf in _leaves(sub, f"{path} {name}".strip())]
    return [path]


def test_every_command_is_on_the_page() -> None:
    assert sorted(ANSWERS) == sorted(_leaves(restante))


MESSAGE = b"""From: Ann <ann@example.org>\r\nTo: b@example.test\r\nSubject: a\r\nMIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x\r\nContent-Type: text/csv\r
Content-Disposition: attachment; filename=a.csv\r\n\r\n1,2\r\n--x--\r\n"""

# in this order; what a command prints is kept under its name
RUN = [
    ("account add", "workshop"),
    ("account suspend", "workshop"),
    ("account resume", "workshop"),
    ("account quota", "workshop 1G"),
    ("account list", ""),
    ("mailbox add", "alice@example.test"),
    ("mailbox password", "alice@example.test"),
    ("mailbox quota", "alice@example.test none"),
    ("mailbox role", "alice@example.test member"),
    ("mailbox list", ""),
    ("domain add", "example.com --catch-all alice@example.test --account workshop2"),
    ("domain verify", "example.com --force"),
    ("domain list", ""),
    ("alias add", "sales@example.test alice@example.test"),
    ("alias list", ""),
    ("alias remove", "sales@example.test"),
    ("token create", "--dialect mail-api --admin"),
    ("token list", ""),
    ("token revoke", "1"),
    ("events", ""),
    ("webhook add", "https://app.example/in --type message.received"),
    ("webhook list", ""),
    ("webhook calls", "{hook}"),
    ("webhook redeliver", "{hook} --dead"),
    ("webhook remove", "{hook}"),
    ("automation add", "Orders --subject ^order --forward-to carol@far.example"),
    ("automation update", "{automation} --delete --inbox @example.test"),
    ("automation list", ""),
    ("automation runs", "{automation}"),
    ("automation test", "{automation} --since 2026-01-01T00:00:00Z"),
    ("automation remove", "{automation}"),
    ("retention set", "--domain example.com --folder junk --days 7"),
    ("retention list", ""),
    ("import", "a.eml --mailbox alice@example.test --folder Trash"),
    ("message list", "alice@example.test --folder Trash"),
    ("message undelete", "{trashed}"),
    ("retention set", "--mailbox alice@example.test --bytes 1"),
    ("retention run", "--dry-run"),
    ("retention remove", "--mailbox alice@example.test"),
    ("message show", "alice@example.test 1"),
    ("message raw", "alice@example.test 1"),
    ("send", "--from alice@example.test --to bob@example.org --text hello"),
    ("queue list", ""),
    ("queue hold", "{sent}"),
    ("queue release", "{sent}"),
    ("queue retry", "{sent}"),
    ("queue drop", "{sent}"),
    ("queue show", "{sent}"),
    ("export", "alice@example.test out"),
    ("verify", ""),
    ("backup", "copy.tar"),
    ("restore", "copy.tar --data-dir other"),
    ("secret rotate", ""),
    ("domain remove", "example.com"),
    ("mailbox remove", "alice@example.test --with-mail"),
    ("config", ""),
    ("version", ""),
]


def test_what_commands_print_is_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    runner = CliRunner(env={"RESTANTE_DATA_DIR": str(tmp_path / "data")})
    printed: dict[str, Any] = {}
    for command, arguments in RUN:
        sent = printed.get("send", {}).get("queue_id", "")
        given = arguments.replace("--account workshop2", "--account default").replace("{sent}", sent)
        given = given.replace("{hook}", printed.get("webhook add", {}).get("id", ""))
        given = given.replace("{automation}", printed.get("automation add", {}).get("id", ""))
        given = given.replace("{trashed}", printed["message list"]["messages"][0]["id"]) if "{t" in given else given
        words = [*command.split(), *given.split(), "--json"]
        if command == "account add":
            runner.invoke(restante, ["account", "add", "default"], catch_exceptions=False)
        result = runner.invoke(restante, words, catch_exceptions=False)
        assert result.exit_code == 0, (command, result.stderr)
        assert result.stdout.count("\n") == 1
        printed[command] = json.loads(result.stdout)
        assert set(printed[command]) == ANSWERS[command], command
    for command, field in (
        ("account list", "accounts"),
        ("domain list", "domains"),
        ("mailbox list", "mailboxes"),
        ("alias list", "aliases"),
        ("token list", "tokens"),
        ("events", "events"),
        ("webhook list", "webhooks"),
        ("automation list", "automations"),
        ("retention list", "rules"),
        ("message list", "messages"),
        ("queue list", "submissions"),
    ):
        kind = field.removesuffix("es") if field in ("mailboxes", "aliases") else field.removesuffix("s")
        assert {frozenset(one) for one in printed[command][field]} == {frozenset(OBJECTS[kind])}, command
    assert set(printed["retention list"]["forecast"]) == OBJECTS["forecast"]
    assert [set(one) for one in printed["retention run"]["cleaned"]] == [OBJECTS["cleaning"]]
    shown = printed["message show"]
    assert set(shown["attachment_list"][0]) == OBJECTS["attachment"]
    assert set(shown["from"]) == set(shown["to"][0]) == OBJECTS["person"]
    (recipient,) = printed["queue show"]["recipient_list"]
    assert set(recipient) == OBJECTS["recipient"]
    assert set(ANSWERS) - set(printed) == {"serve", "domain approve", "secret reset"}


def test_problems_of_verify_have_the_fields_of_the_page() -> None:
    from restante.services.verification import Report

    report = Report()
    report.add("structure", 1, "x")
    assert set(report.as_dict()) == ANSWERS["verify"]
    assert set(report.problems[0]) == OBJECTS["problem"]


def test_kinds_of_problems_are_explained() -> None:
    source = (ROOT / "src/restante/services/verification.py").read_text()
    kinds = set(re.findall(r'report\.add\(\s*"(\w+)"', source))
    page = (DOCS / "operations.md").read_text()
    assert kinds
    assert {kind for kind in kinds if f"`{kind}`" not in page} == set()


def test_dependencies_are_in_the_decision() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[<>=~ ]", one)[0] for one in project["dependencies"]]
    listed = re.findall(r"^\| ([\w-]+) \|", (DOCS / "decisions" / "0004-dependencies.md").read_text(), re.MULTILINE)
    assert listed[1:] == sorted(names)


def test_every_type_of_event_is_on_the_page() -> None:
    page = (DOCS / "events.md").read_text()
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", page, re.MULTILINE))
    fields = {name: " ".join(f"`{field}`" for field in kind.body.__struct_fields__) for name, kind in TYPES.items()}
    assert {name: text.strip() for name, text in told.items()} == fields


# --- docs/mail_api.md ---------------------------------------------------------------------------------------------


def test_every_call_of_the_mail_api_is_on_its_page() -> None:
    page = (DOCS / "mail_api.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+) (/\S+)` \|", page, re.MULTILINE)
    routes = [(one.method, one.path_format) for one in mail_api.build().router.routes]
    assert sorted(listed) == sorted((method, path.removeprefix(mail_api.PREFIX)) for method, path in routes)


def test_every_code_of_the_mail_api_is_on_its_page() -> None:
    page = (DOCS / "mail_api.md").read_text().split("## Codes")[1]
    known = {code for code, _ in mail_api_errors.NAMED.values()} | {code for _, code, _ in mail_api_errors.BY_CLASS}
    assert {code for code in known if f"`{code}`" not in page} == set()


# --- docs/mailcare.md ---------------------------------------------------------------------------------------------


def test_every_call_of_mailcare_is_on_its_page() -> None:
    page = (DOCS / "mailcare.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+) (/\S+)` \| `(\S+)` \|", page, re.MULTILINE)
    routes = {(one.method, one.path_format.removeprefix(base)) for base, one in _mailcare_routes()}
    assert {(method, path) for method, path, _ in listed} == routes
    assert {scope for _, _, scope in listed} == set(mailcare_auth.SCOPES)


def _mailcare_routes() -> list[tuple[str, Route]]:
    found = []
    for route in mailcare.build().router.routes:
        base = mailcare.HOSTED if route.path.startswith(mailcare.HOSTED) else mailcare.OLDER
        found.append((base, route))
    return found
