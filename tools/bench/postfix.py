"""The peer: a Postfix of its own under a temporary directory that queues durably and delivers nothing.

Three kinds. ``plain`` does its duties as Debian ships it: it logs, resolves addresses, and its queue manager takes each
message up; the delivery agent is told to defer, so the mail stays queued. ``lean`` has everything off that can be: mail
is put on hold as it arrives and nothing is logged; what is left is smtpd, cleanup and one fsync of a queue file before
250. ``relay`` hands everything on to one other server. None looks names up or has a chroot. The system's own
configuration is neither read nor touched.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SORTING_SECONDS = 120.0
REMOVAL_SECONDS = 30.0
DAEMONS = Path("/usr/lib/postfix/sbin")

MAIN = """\
compatibility_level = 3.6
config_directory = {base}/config
queue_directory = {base}/queue
data_directory = {base}/data
daemon_directory = {daemons}
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example.test
mydestination = example.test
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
alias_database =
default_process_limit = 200
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
syslog_name = restante-bench
"""

LEAN = """\
smtpd_recipient_restrictions = check_client_access static:HOLD, permit
"""

PLAIN = """\
defer_transports = local
maillog_file = {base}/data/maillog
maillog_file_prefixes = {base}
"""

RELAY = """\
mydestination =
maillog_file = {base}/data/maillog
maillog_file_prefixes = {base}
disable_dns_lookups = yes
smtp_host_lookup = native
"""

KINDS = {"plain": PLAIN, "lean": LEAN, "relay": RELAY}

MASTER = """\
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Missing(Exception):
    """There is no Postfix to compare with; the text says why."""


class Postfix:
    """A running instance; ``address`` is where its smtpd listens, ``queue`` the directory that holds the mail."""

    def __init__(self, base: Path, address: tuple[str, int]) -> None:
        self.address = address
        self.queue = base / "queue"

    def queued(self) -> int:
        """How many messages lie in the queue, once its manager has sorted them all away."""
        end = time.monotonic() + SORTING_SECONDS
        while self._count("incoming", "active") and time.monotonic() < end:
            time.sleep(0.05)
        return self._count("hold", "incoming", "active", "deferred")

    def _count(self, *names: str) -> int:
        folders = (self.queue / name for name in names)
        return sum(1 for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file())

    def forget(self) -> None:
        """Take the kept mail out of the queue, so that rounds do not slow each other down."""
        config = self.queue.parent / "config"
        subprocess.run(["postsuper", "-c", str(config), "-d", "ALL"], capture_output=True, check=False, timeout=300)


def version() -> str:
    """Postfix's version; Missing when it is not installed."""
    if not (DAEMONS / "master").exists():
        raise Missing("Postfix is not installed (Debian: apt-get install postfix, 'No configuration')")
    shown = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
    return shown.stdout.strip()


@contextmanager
def running(
    base: Path, kind: str = "lean", settings: str = "", listen: tuple[str, int] | None = None
) -> Iterator[Postfix]:
    """Start an instance whose files all lie under ``base`` (other users must be able to enter it); stop it later.

    ``settings`` are further lines of main.cf: a ``relay`` needs its ``relayhost``. It listens on a free loopback port
    unless told where.
    """
    version()
    if os.geteuid() != 0:
        raise Missing("Postfix's master needs root to start, and this is not root")
    if listen is None:
        listen = _free_address()
    for name in ("config", "queue", "data"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for path in (base, *base.parents):
        if not path.stat().st_mode & 0o001:
            raise Missing(f"the user 'postfix' cannot enter {path}")
    shutil.chown(base / "data", "postfix")
    written = (MAIN + KINDS[kind]).format(base=base, daemons=DAEMONS) + settings
    (base / "config" / "main.cf").write_text(written)
    (base / "config" / "master.cf").write_text(MASTER.format(host=listen[0], port=listen[1]))
    command = ["postfix", "-c", str(base / "config")]
    started = subprocess.run([*command, "start"], capture_output=True, text=True, check=False, timeout=60)
    if started.returncode != 0:
        raise Missing(f"Postfix did not start: {(started.stderr or started.stdout).strip()[-400:]}")
    try:
        _await_greeting(listen)
        yield Postfix(base, listen)
    finally:
        subprocess.run([*command, "abort"], capture_output=True, check=False, timeout=60)
        _remove(base)


def _remove(base: Path) -> None:
    """Remove what an instance left; its daemons end a moment after their master, and may write until then."""
    end = time.monotonic() + REMOVAL_SECONDS
    while base.exists():
        shutil.rmtree(base, ignore_errors=time.monotonic() < end)
        time.sleep(0.05)


def _free_address() -> tuple[str, int]:
    """A port that nothing else is given before Postfix has it: below those that the system gives out by itself."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        address = "127.0.0.1", random.SystemRandom().randrange(first // 2, first)
        with contextlib.suppress(OSError), socket.create_server(address):
            return address


def _await_greeting(address: tuple[str, int], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(address, timeout=5) as connection:
                if connection.recv(512).startswith(b"220"):
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise Missing(f"Postfix did not greet within {seconds:.0f} s")
        time.sleep(0.05)
