"""``restante serve`` in a process of its own, for tests that talk to it from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0


@dataclass
class Server:
    """A running ``restante serve``."""

    process: subprocess.Popen[str]
    lines: list[str]
    errors: list[str]


def environment(data_dir: Path) -> dict[str, str]:
    """Free ports, that data directory, the engine of the run, and `restante` on the path."""
    engine = "RESTANTE_STORAGE_DATABASE"
    kept = {name: value for name, value in os.environ.items() if name == engine or not name.startswith("RESTANTE_")}
    ports = {f"RESTANTE_{name}_LISTEN": "127.0.0.1:0" for name in ("HTTP", "SMTP", "SUBMISSION")}
    here = Path(sys.executable).parent
    return {**kept, **ports, "RESTANTE_DATA_DIR": str(data_dir), "PATH": f"{here}:{kept.get('PATH', '')}"}


@contextlib.contextmanager
def serving(data_dir: Path, *flags: str) -> Iterator[Server]:
    """Start a server, wait until it says that it is ready, stop it as an operator does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "restante", "serve", *flags],
        env=environment(data_dir),
        cwd=data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process, [], [])
    ready = threading.Event()

    def read_out() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.lines.append(line.rstrip("\n"))
            if "--json" in flags or line.startswith("  Data"):
                ready.set()

    def read_err() -> None:
        assert process.stderr is not None
        server.errors.extend(process.stderr)
        ready.set()

    threads = [threading.Thread(target=target, daemon=True) for target in (read_out, read_err)]
    for thread in threads:
        thread.start()
    try:
        assert ready.wait(START_SECONDS)
        assert process.poll() is None, "".join(server.errors)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join(10)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert process.returncode == 0, "".join(server.errors)
