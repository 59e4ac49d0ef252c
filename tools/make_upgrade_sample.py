"""``python -m tools.make_upgrade_sample``: keep a small data directory of this version for ``tests/upgrades``.

A real server is started, gets some of everything that is stored, and is stopped; its directory goes into
``tests/upgrades/VERSION.tar.zst``, with what a reader has to find in it. Run once for each version that lands.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import smtplib
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

import restante
from tools.server import Server, command

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "upgrades"
VOLATILE = (".sock", ".log", "-shm", "lock")
ALICE, SALES = "alice@example.test", "sales@example.test"
NOWHERE = {"RESTANTE_TRANSFER_SMARTHOST": "127.0.0.1:1", "RESTANTE_EGRESS_ALLOW": "127.0.0.1"}
# what else is stored, by the command that lists it: its list and what tells one from another
LISTS = {
    ("alias", "list"): ("aliases", "address"),
    ("domain", "list"): ("domains", "name"),
    ("token", "list"): ("tokens", "prefix"),
    ("queue", "list", "--status", "any"): ("submissions", "queue_id"),
    ("webhook", "list"): ("webhooks", "id"),
    ("automation", "list"): ("automations", "id"),
}


def messages() -> list[tuple[str, bytes]]:
    """(recipient, bytes): plain, alternative with an attachment, 8-bit, one that lies beside the database."""
    head = b"From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.net>\r\nMIME-Version: 1.0\r\n"
    attachment = base64.encodebytes(b"%PDF sample " * 30).replace(b"\n", b"\r\n")
    state, noise = b"restante", []
    for _ in range(200):  # bytes that do not compress, the same each time
        state = hashlib.sha256(state).digest()
        noise.append(state)
    large = base64.encodebytes(b"".join(noise)).replace(b"\n", b"\r\n")
    return [
        (ALICE, head + b"To: alice@example.test\r\nSubject: plain\r\n\r\nA few words about pelicans.\r\n"),
        (
            SALES,
            head + b"To: sales@example.test\r\nSubject: =?utf-8?B?w4RuZGVydW5n?=\r\n"
            b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n'
            b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            + attachment
            + b"--b--\r\n",
        ),
        ("alice+tag@example.test", head + "Subject: Größe\r\n\r\nRaw eight-bit: naïve café\r\n".encode()),
        (
            "anyone@example.test",
            head + b"Subject: large\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + large,
        ),
    ]


def make(version: str) -> Path:
    """Write the sample of this code under the name of a version; returns its path."""
    with tempfile.TemporaryDirectory() as base:
        data_dir = Path(base) / "data"
        environment = {**os.environ, **NOWHERE, "RESTANTE_STORAGE_INLINE_BYTES": "2048"}
        with Server(data_dir, flags=("--hostname", "mail.example.test"), environment=environment) as server:
            assert server.first_run is not None
            admin = server.first_run.mailbox
            command(data_dir, "mailbox", "add", ALICE, "--password", "correct horse battery staple")
            command(data_dir, "alias", "add", SALES, ALICE)
            command(data_dir, "token", "create", "--dialect", "mail-api", "--mailbox", ALICE)
            with smtplib.SMTP(*server.smtp, timeout=30) as client:
                for recipient, raw in messages():
                    client.sendmail("joerg@example.net", recipient, raw, ["BODY=8BITMIME"])
            _send(data_dir)
            _program(data_dir)
            if server.stop() != 0:
                raise SystemExit("the server did not end well")
        expected = {address: _exported(data_dir, address) for address in (admin, ALICE)}
        told = [[command, *place, listed(data_dir, command, *place)] for command, place in LISTS.items()]
        path = FOLDER / f"{version}.tar.zst"
        path.write_bytes(_packed(data_dir, {"version": version, "messages": expected, "lists": told}))
    return path


def listed(data_dir: Path, words: Sequence[str], name: str, key: str) -> list[str]:
    """What a command lists, by what tells one from another."""
    return sorted(one[key] for one in command(data_dir, *words)[name])


def _send(data_dir: Path) -> None:
    """One message that is delivered here, and one that waits for its turn, held so that it stays as it is."""
    words = "send", "--from", ALICE, "--subject", "sent", "--text", "A letter.", "--to"
    command(data_dir, *words, ALICE)
    command(data_dir, "queue", "hold", command(data_dir, *words, "far@example.net")["queue_id"])


def _program(data_dir: Path) -> None:
    """What calls programs: about things that do not happen when the sample is opened."""
    command(data_dir, "webhook", "add", "https://app.example/in", "--type", "domain.removed")
    command(data_dir, "automation", "add", "never", "--subject", "^never$", "--url", "https://app.example/in")
    command(data_dir, "retention", "set", "--days", "10000")


def _exported(data_dir: Path, address: str) -> dict[str, str]:
    """File name -> SHA-256 of each message as ``restante export`` writes it."""
    out = data_dir.with_name("out-" + address)
    command(data_dir, "export", address, str(out))
    files = sorted(path for path in out.rglob("*.eml"))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _packed(data_dir: Path, expected: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(data_dir.rglob("*")):
            if path.is_file() and not path.name.endswith(VOLATILE):
                archive.add(path, f"data/{path.relative_to(data_dir)}", filter=_anonymous)
        body = json.dumps(expected, indent=1, sort_keys=True).encode()
        entry = tarfile.TarInfo("expected.json")
        entry.size = len(body)
        archive.addfile(entry, io.BytesIO(body))
    return zstandard.ZstdCompressor(level=19).compress(buffer.getvalue())


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def main() -> int:
    """Make it and say where."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_upgrade_sample", description=__doc__)
    parser.add_argument("--version", default=restante.__version__, help="the sample's name (this code's version)")
    path = make(parser.parse_args().version)
    print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
