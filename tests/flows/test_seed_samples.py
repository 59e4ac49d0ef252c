"""The Mail API guide's own code samples, read in place, run by their interpreters against a real server.

Only the base URL, the token and sample ids (a message's id, a uid) are put in; the addresses are the guide's, and the
server has mailboxes for them. Python samples get back the indentation that the guide's text lost.
"""

import ast
import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest
import requests

from tools import server as live
from tools.server import Server

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
GUIDE = "".join(path.read_text("utf-8") for path in SEEDS.glob("003_*.txt"))
HEADING = re.compile(r"^(?:\d+\. )?(.*)¶\n", re.MULTILINE)
EXAMPLE = re.compile(r"^Example - \w+:\n", re.MULTILINE)
OPENING = re.compile(r"^(?:curl |import requests|const axios|<\?php)", re.MULTILINE)
INTERPRETERS = {"curl ": "sh", "import requests": sys.executable, "const axios": "node", "<?php": "php"}
QUICK = ("cURL", "Python", "JavaScript (Node.js)", "PHP")
SENDER, USER, RECIPIENT = "sender@yourdomain.com", "user@yourdomain.com", "recipient@example.com"
PDF = b"%PDF-1.4\n" + bytes(range(256))

pytestmark = pytest.mark.skipif(not GUIDE, reason="the shared seeds are not beside this repository")


def samples() -> dict[str, str]:
    """Every code sample of the guide, by the heading that it stands under."""
    _, *pieces = HEADING.split(GUIDE)
    sources = {title: EXAMPLE.split(body)[-1] for title, body in zip(pieces[::2], pieces[1::2], strict=True)}
    found = {title: source for title, source in sources.items() if OPENING.match(source)}
    return {title: indented(source) if source.startswith("import ") else source for title, source in found.items()}


def indented(source: str) -> str:
    """Python that lost its indentation, indented again: of a line only the spaces in front of it change.

    A line that ends in a colon outside of brackets opens a block. Where a block ends the text no longer says; three
    guesses do for this guide: that of ``with`` is one statement; ``elif`` and ``else`` end the block above them; of
    ``return`` lines in a row the last stands in the function's block and each other one block deeper than the next,
    which it would hide otherwise. This reads no Python in general: another document needs another look.
    """
    lines = source.splitlines()
    found = []
    level, depth, in_with = 0, 0, False
    for number, line in enumerate(lines):
        if line.startswith(("elif ", "else:")):
            level -= 1
        if line.startswith("return"):
            level = next(i for i, later in enumerate([*lines[number:], ""]) if not later.startswith("return"))
        found.append("    " * level + line)
        depth += len(re.findall(r"[(\[{]", line)) - len(re.findall(r"[)\]}]", line))
        if depth == 0:
            level += line.endswith(":") - in_with
            in_with = line.startswith("with ")
    return "\n".join(found) + "\n"


@dataclass(frozen=True, slots=True)
class Post:
    """A server with the guide's mailboxes, an admin token of the Mail API and an account's of the native one."""

    server: Server
    token: str
    native_token: str

    def get(self, path: str) -> requests.Response:
        """A GET below /api/v1."""
        answer = requests.get(f"{self.server.http}/api/v1{path}", headers={"X-MAILAPI-TOKEN": self.token}, timeout=60)
        answer.raise_for_status()
        return answer

    def await_message(self, address: str, subject: str) -> int:
        """The uid of the first message of that subject that the mailbox ever got, once it is there."""
        answer = requests.post(
            f"{self.server.http}/restante/v1/mailboxes/{address}/wait",
            headers={"Authorization": f"Bearer {self.native_token}"},
            json={"after": 0, "subject": subject, "timeout_seconds": 60},
            timeout=90,
        )
        return int(answer.json()["message"]["uid"])

    def run(self, cwd: Path, source: str, *words: str, token: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a sample's source against this server, as the holder of a token; the admin's by default."""
        opening = OPENING.findall(source)[0]
        interpreter = shutil.which(INTERPRETERS[opening])
        if interpreter is None or (opening == "curl " and shutil.which("curl") is None):
            pytest.skip(f"what runs {opening!r} is not installed")
        source = re.sub(r"https://[^/\"']+(?=/api/v1)", self.server.http, source)
        assert "https://" not in source
        (cwd / "sample").write_text(source.replace("your-token-here", token or self.token), "utf-8")
        command = [interpreter, "sample", *words]
        libraries = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}  # where Debian has them
        done = subprocess.run(command, cwd=cwd, env=libraries, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    data_dir = tmp_path_factory.mktemp("samples") / "data"
    with Server(data_dir) as server:
        assert server.first_run is not None
        for address in (SENDER, USER, RECIPIENT):
            live.command(data_dir, "mailbox", "add", address)
        native = live.command(data_dir, "token", "create", "--dialect", "native", "--account", "default")["token"]
        yield Post(server, server.first_run.token, native)


@pytest.fixture(scope="module")
def sent(post: Post, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id that the sample of sending printed."""
    cwd = tmp_path_factory.mktemp("sending")
    (cwd / "document.pdf").write_bytes(PDF)
    printed = re.fullmatch(r"Message ID: ([0-9a-f-]{36})\n", post.run(cwd, samples()["Send Email"]).stdout)
    assert printed is not None
    post.await_message(RECIPIENT, "Invoice Attached")  # it is delivered and recorded as that in one transaction
    return printed[1]


@pytest.fixture(scope="module")
def uid(post: Post) -> int:
    """A message with an attachment that came in by SMTP for the guide's user."""
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "john@x.example", USER, "Meeting tomorrow"
    letter.set_content("See the agenda.")
    letter.add_attachment(PDF, maintype="application", subtype="pdf", filename="agenda.pdf")
    with smtplib.SMTP(*post.server.smtp, timeout=60) as client:
        client.send_message(letter)
    return post.await_message(USER, "Meeting tomorrow")


def test_no_sample_is_left_out() -> None:
    assert len(OPENING.findall(GUIDE)) == len(samples()) == 9


@pytest.mark.parametrize("title", QUICK)
def test_quick_start(post: Post, sent: str, tmp_path: Path, title: str) -> None:
    printed = post.run(tmp_path, samples()[title]).stdout
    assert sent in printed
    if title in ("cURL", "Python"):  # the others print in forms of their own
        read = json.loads if title == "cURL" else ast.literal_eval
        assert read(printed) == post.get("/mail/sent").json()  # nothing is on its way between tests
    wrong = post.run(tmp_path, samples()[title], token="wrong")
    assert "INVALID_TOKEN" in (wrong.stderr if title.startswith("JavaScript") else wrong.stdout)  # its catch() ran


def test_what_was_sent_arrived(post: Post, sent: str) -> None:
    message = f"/mailbox/{RECIPIENT}/messages/{post.await_message(RECIPIENT, 'Invoice Attached')}"
    found = post.get(message).json()
    assert (found["from"]["email"], [one["email"] for one in found["to"]]) == (SENDER, [RECIPIENT])
    assert found["body"]["html"].strip() == f"<p>{found['body']['text'].strip()}</p>"
    assert [one["filename"] for one in found["attachments"]] == ["invoice.pdf"]
    assert post.get(f"{message}/attachment/0").content == PDF


def test_status(post: Post, sent: str, tmp_path: Path) -> None:
    source = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sent, samples()["Check Message Status"])
    assert re.fullmatch(rf"Overall status: sent\n +{RECIPIENT}: sent\n", post.run(tmp_path, source).stdout)


def test_list_and_download(post: Post, uid: int, tmp_path: Path) -> None:
    assert post.run(tmp_path, samples()["List Messages in Folder"]).stdout == "Meeting tomorrow - john@x.example\n"
    post.run(tmp_path, re.sub(r"(?<=\nuid = )\d+", str(uid), samples()["Download Attachment"]))
    assert (tmp_path / "agenda.pdf").read_bytes() == PDF


def test_error_handling(post: Post, sent: str, tmp_path: Path) -> None:
    """The sample is a function that takes its constants from the others: they are put in front, a call of it behind."""
    constants = re.findall(r"^(?:API_URL|TOKEN) = .*\n", samples()["Python"], re.MULTILINE)
    call = "import json, sys\nprint(json.dumps(send_email(json.loads(sys.argv[1]))))\n"
    source = "".join([*constants, samples()["Example Error Handling - Python:"], call])

    def send(sender: str, subject: str, token: str = "") -> list[str]:
        body = {"from": sender, "to": [RECIPIENT], "subject": subject, "body": {"text": "It works."}}
        return post.run(tmp_path, source, json.dumps(body), token=token).stdout.splitlines()

    before = post.get("/mail/sent").json()["total"]
    domain, advice, nothing = send("sender@elsewhere.example", "foreign")
    assert (domain[:7], "allowed domain" in advice, nothing) == ("Error: ", True, "null")
    assert send(SENDER, "wrong", token="wrong") == ["Error: Your API token is invalid.", "null"]
    other, nothing = send("no address", "invalid")
    assert (other.partition(": ")[0], nothing) == ("Error (VALIDATION_ERROR)", "null")
    assert post.get("/mail/sent").json()["total"] == before
    (result,) = send(SENDER, "accepted")
    assert json.loads(result)["status"] == "submitted"
    post.await_message(RECIPIENT, "accepted")
