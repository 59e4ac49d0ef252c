"""The newest code opens the data directory of every version that landed, and nothing in it is lost."""

import hashlib
import io
import json
import smtplib
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tools.make_upgrade_sample import listed
from tools.server import Server, command

SAMPLES = sorted(Path(__file__).parent.glob("*.tar.zst"))


def unpack(sample: Path, directory: Path) -> dict[str, Any]:
    """Put the data directory below ``directory``; returns what has to be in it: ``messages`` (mailbox -> file name ->
    SHA-256) and ``lists`` (a command, its list, what tells one from another, those that are there).
    """
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(sample.read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(directory, filter="data")
    expected: dict[str, Any] = json.loads((directory / "expected.json").read_text("utf-8"))
    return expected


def exported(data_dir: Path, address: str, out: Path) -> dict[str, str]:
    """File name -> SHA-256 of what is in a mailbox now."""
    command(data_dir, "export", address, str(out))
    files = sorted(path for path in out.rglob("*.eml"))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_there_is_a_sample() -> None:
    assert SAMPLES, "run python -m tools.make_upgrade_sample"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name.removesuffix(".tar.zst"))
def test_every_version_opens(sample: Path, tmp_path: Path) -> None:
    expected = unpack(sample, tmp_path)
    data_dir = tmp_path / "data"
    with Server(data_dir) as server:
        assert server.first_run is None
        with smtplib.SMTP(*server.smtp, timeout=30) as client:
            client.sendmail("new@example.net", ["alice@example.test"], b"Subject: newer\r\n\r\nafter the upgrade\r\n")
        for words, name, key, values in expected.get("lists", []):
            assert listed(data_dir, words, name, key) == values
        for number, (address, messages) in enumerate(expected["messages"].items()):
            found = exported(data_dir, address, tmp_path / f"out{number}")
            assert {name: found.get(name) for name in messages} == messages
            assert len(found) == len(messages) + (address == "alice@example.test")
        report = command(data_dir, "verify")
        assert report["problem_count"] == 0, report["problems"]
        assert server.stop() == 0
