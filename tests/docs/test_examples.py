"""The blocks marked ``<!-- run -->`` in README and docs are run as they stand, beside a server of the test's own."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.serving import environment, serving

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


def _blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


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


def test_there_are_examples() -> None:
    assert {page.name for page in RUNNABLE} >= {"README.md", "operations.md", "cli.md"}
