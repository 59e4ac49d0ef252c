"""Running commands in this process, on a data directory of the test's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from restante.cli.main import restante


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def value(self) -> Any:
        """Its JSON document."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """``restante`` with ``--data-dir`` by environment."""

    data_dir: Path

    def run(self, *args: str, stdin: str | None = None) -> Ran:
        """Run a command; a bug inside it is raised."""
        runner = CliRunner(env={"RESTANTE_DATA_DIR": str(self.data_dir)})
        result = runner.invoke(restante, list(args), input=stdin, catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)

    def json(self, *args: str) -> Any:
        """Run a command that works, with ``--json``."""
        return self.run(*args, "--json").value


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_on_engine: None) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path / "data")
