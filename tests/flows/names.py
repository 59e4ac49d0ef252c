"""An authoritative name server (Knot DNS) on loopback, for servers that look each other up."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query

CONFIG = """\
server:
    listen: 127.0.0.1@{port}
    rundir: {base}
    pidfile: {base}/knot.pid
database:
    storage: {base}/db
log:
  - target: stderr
    any: error
zone:
  - domain: test.
    file: {base}/test.zone
    zonefile-sync: -1
    journal-content: none
"""
HEAD = """\
$ORIGIN test.
$TTL 1
@ SOA ns.test. root.test. 1 60 60 60 1
@ NS ns.test.
ns A 127.0.0.1
"""


TRIES = 5


@contextlib.contextmanager
def serving(base: Path, records: str) -> Iterator[str]:
    """Serve the zone ``test.`` with these records; yields ``address:port``."""
    base.mkdir()
    (base / "db").mkdir()
    (base / "test.zone").write_text(HEAD + records)
    port, process = _start(base)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _start(base: Path) -> "tuple[int, subprocess.Popen[str]]":
    """A server that answers. It cannot choose its port: one free a moment ago may be another's by now."""
    said = []
    for _ in range(TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (base / "knot.conf").write_text(CONFIG.format(base=base, port=port))
        process = subprocess.Popen(["knotd", "-c", str(base / "knot.conf")], stderr=subprocess.PIPE, text=True)
        if _answers(port, process):
            return port, process
        process.kill()
        said.append(process.communicate()[1])
    raise AssertionError(f"knotd does not start: {said}")


def _answers(port: int, process: "subprocess.Popen[str]", seconds: float = 30) -> bool:
    query = dns.message.make_query("test.", "SOA")
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(dns.exception.DNSException, OSError):
            if dns.query.udp(query, "127.0.0.1", 0.5, port).answer:
                return True
        time.sleep(0.05)
    return False
