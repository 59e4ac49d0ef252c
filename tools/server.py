"""A real ``restante serve`` in processes of its own, for tools and tests that need one to load, kill and ask."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FREE_PORTS = ("--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--submission", "127.0.0.1:0")
START_SECONDS = 120.0
REST_SECONDS = 1.0


class NotReady(Exception):
    """The server did not start; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What a first run creates, with its credentials."""

    mailbox: str
    password: str
    token: str


class Server:
    """One running server. Its log goes to ``log_path``; it has a process group of its own."""

    def __init__(
        self, data_dir: Path, *, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "restante", "serve", "--json", "--data-dir", str(data_dir), *FREE_PORTS, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        try:
            ready = json.loads(self._first_line())
        except (NotReady, ValueError):
            self.kill_group()
            raise NotReady(self.log_path.read_text("utf-8", "replace")[-4_000:]) from None
        self.http: str = ready["http"][0]
        self.smtp = _address(ready["smtp"][0])
        self.submission = _address(ready["submission"][0])
        first = ready["first_run"]
        self.first_run = first and FirstRun(first["mailbox"], first["password"], first["token"])

    def _first_line(self) -> bytes:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else b""
        if not line.endswith(b"\n"):
            raise NotReady
        return line

    @property
    def pids(self) -> list[int]:
        """The server's processes, the front first."""
        return [self.process.pid, *descendants(self.process.pid)]

    def pid_of(self, word: str) -> int:
        """The process whose command line has ``word`` in it (``restante.storage.writer``)."""
        for pid in self.pids:
            with contextlib.suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise NotReady(f"no process {word}")

    def cpu_seconds(self) -> dict[str, float]:
        """Process, by the name of its module, -> seconds of CPU that it has used so far, user and system together."""
        found: dict[str, float] = {}
        for pid in self.pids:
            with contextlib.suppress(OSError):
                user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                name = process_name(pid)
                found[name] = found.get(name, 0.0) + (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return found

    def await_rest(self, seconds: float = 120.0) -> None:
        """Wait until the work that a start brings is done: until all its processes hardly use any CPU."""
        end = time.monotonic() + seconds
        used = sum(self.cpu_seconds().values())
        while time.monotonic() < end:
            time.sleep(REST_SECONDS)
            before, used = used, sum(self.cpu_seconds().values())
            if used - before < REST_SECONDS / 20:
                return
        raise TimeoutError("the server does not come to rest")

    def kill_group(self) -> None:
        """SIGKILL for every process at once, as near to a crash of the machine as signals come."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.await_end()

    def await_end(self, seconds: float = 60.0) -> int:
        """Wait until no process of it is left; the front's exit status."""
        status = self.process.wait(timeout=seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        end = time.monotonic() + seconds
        while _group_lives(self.process.pid):
            if time.monotonic() > end:
                raise TimeoutError(f"processes outlive their server: {self.process.pid}")
            time.sleep(0.01)
        return status

    def stop(self) -> int:
        """An orderly end; the exit status."""
        self.process.terminate()
        return self.await_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            try:
                self.stop()
            except (TimeoutError, subprocess.TimeoutExpired):
                self.kill_group()


def command(data_dir: Path, *arguments: str, check: bool = True, seconds: float = 300.0) -> Any:
    """Run a command of ours with ``--json`` and return what it prints, decoded; {} when it prints nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "restante", *arguments, "--json", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"restante {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else {}


def process_name(pid: int) -> str:
    """The module that a process of ours runs: ``restante.storage.writer``."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return next((word.decode() for word in words if word.startswith(b"restante")), f"process {pid}")


def descendants(pid: int) -> list[int]:
    """All processes below one, nearest first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):  # a task's list of its children may miss some that live
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
