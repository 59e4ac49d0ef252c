"""A PostgreSQL cluster of one's own, for tests and measurements: made in a temporary folder, reached by a Unix socket.

The program refuses to run as root: there the cluster belongs to Debian's ``postgres`` user, or to ``nobody``.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

DEBIAN = Path("/usr/lib/postgresql")
OWNER = "restante"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
# Text sorts by a language's rules here unless a column says otherwise, as on most people's servers.
INIT = (
    "--username", OWNER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8",
    "--locale-provider", "icu", "--icu-locale", "en-US", "--no-sync", "--no-instructions",
)  # fmt: skip
FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}  # for tests: no machine crashes under them
_WITH_STANDARD_INPUT = 'exec 3<&0; "$@" </dev/null 3<&- & read -r _ <&3; kill -QUIT $!; wait $!'


class Missing(Exception):
    """PostgreSQL's server programs are not on this machine."""


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``: the newest that Debian installed, else from the path."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda found: int(found.parts[-3].split(".")[0]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    if found is None:
        raise Missing("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return Path(found).parent


def _owner() -> pwd.struct_passwd | None:
    """Whose processes these are; None: ours."""
    if os.getuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


class Cluster:
    """One running PostgreSQL server. It ends with this process, whatever ends that."""

    def __init__(self, settings: Mapping[str, str] | None = None, directory: Path | None = None) -> None:
        self._programs = programs()
        owner = _owner()
        self._as: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="restante-pg-", dir=directory))
        if owner is not None:
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.folder.chmod(0o755)  # the socket is for others too
        self.data = self.folder / "data"
        self.log_path = self.folder / "log"
        self._settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        try:
            self._run("initdb", "--pgdata", str(self.data), *INIT)
            self.start()
        except BaseException:
            self.close()
            raise

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._as)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.data), *settings]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WITH_STANDARD_INPUT, "postgres", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(self.log_path.read_text("utf-8", "replace")[-4_000:]) from None
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, as a crash of its machine would but for the disk's caches: nothing is written any more."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(STOP_SECONDS)

    def url(self, database: str) -> str:
        """How a database is named in the settings."""
        return f"postgresql://{OWNER}@/{database}?host={quote(str(self.folder), safe='')}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection of its own, each statement its own transaction."""
        return psycopg.connect(self.url(database), autocommit=True)

    def make_database(self, template: str | None = None) -> str:
        """A new database, empty or as ``template`` is; returns its name."""
        self._made += 1
        name = f"test_{self._made}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect() as conn:
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template0")))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database and whoever is connected to it."""
        with self.connect() as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """End it and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(settings: Mapping[str, str] | None = None, directory: Path | None = None) -> Iterator[Cluster]:
    """A cluster for a while, its files in a new folder of ``directory``. Raises Missing."""
    cluster = Cluster(settings, directory)
    try:
        yield cluster
    finally:
        cluster.close()
