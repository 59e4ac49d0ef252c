"""The blocks marked ``<!-- run -->`` in README and docs are run as they stand, beside a server of the test's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.serving import environment, serving

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


def _blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


PROGRAM = re.compile(r"<!-- program: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)
PROGRAMS = PROGRAM.findall((ROOT / "docs" / "mail_api.md").read_text())
RUNNABLE = [page for page in PAGES if _blocks(page)]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_work(page: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir, "--json") as server:
        ready = json.loads(server.lines[0])
        http, smtp = (ready[name][0].rpartition(":")[2] for name in ("http", "smtp"))
        for block in _blocks(page):
            script = block.replace(":8025", f":{http}").replace(", 2525)", f", {smtp})")
            done = subprocess.run(
                ["sh", "-eu", "-c", script],
                cwd=tmp_path,
                env=environment(data_dir),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (block, done.stdout, done.stderr)
            if page.name == "README.md":
                assert json.loads(done.stdout.splitlines()[-1])["messages"][0]["subject"] == "Two chairs"


@pytest.fixture(scope="module")
def mail_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server with Ann and Bob: where its HTTP is, and an admin token."""
    data_dir = tmp_path_factory.mktemp("programs") / "data"

    def run(*words: str) -> Any:
        command = ["restante", *words, "--json"]
        done = subprocess.run(
            command, env=environment(data_dir), capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    with serving(data_dir, "--json") as server:
        for name in ("ann", "bob"):
            run("mailbox", "add", f"{name}@example.test")
        token = run("token", "create", "--dialect", "mail-api", "--admin")["token"]
        yield json.loads(server.lines[0])["http"][0], token


@pytest.mark.parametrize(("program", "source"), PROGRAMS, ids=[program for program, _ in PROGRAMS])
def test_programs_work(mail_api: tuple[str, str], tmp_path: Path, program: str, source: str) -> None:
    """As their readers run them: nothing is changed but the server and the token."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    address, token = mail_api
    path = tmp_path / "program"
    path.write_text(source.replace("127.0.0.1:8025", address.rpartition("/")[2]).replace("YOUR-TOKEN", token))
    interpreter = sys.executable if program == "python3" else program
    libraries = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}  # where Debian has them
    done = subprocess.run(
        [interpreter, path], cwd=tmp_path, env=libraries, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"bob@example\.test (pending|sent)\n", done.stdout), done.stdout
    wrong = path.read_text().replace(token, "wrong")
    path.write_text(wrong)
    done = subprocess.run(
        [interpreter, path], cwd=tmp_path, env=libraries, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "INVALID_TOKEN" in done.stderr


def test_there_are_examples() -> None:
    assert {page.name for page in RUNNABLE} >= {"README.md", "operations.md", "cli.md"}
    assert [program for program, _ in PROGRAMS] == ["python3", "node", "php"]
