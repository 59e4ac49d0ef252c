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


@contextlib.contextmanager
def serving(base: Path, records: str) -> Iterator[str]:
    """Serve the zone ``test.`` with these records; yields ``address:port``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base.mkdir()
    (base / "knot.conf").write_text(CONFIG.format(base=base, port=port))
    (base / "test.zone").write_text(HEAD + records)
    process = subprocess.Popen(["knotd", "-c", str(base / "knot.conf")], stderr=subprocess.PIPE, text=True)
    try:
        _await_answer(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()


def _await_answer(port: int, process: "subprocess.Popen[str]", seconds: float = 30) -> None:
    query = dns.message.make_query("test.", "SOA")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(dns.exception.DNSException, OSError):
            if dns.query.udp(query, "127.0.0.1", 0.5, port).answer:
                return
        time.sleep(0.05)
    raise TimeoutError("knotd does not answer")
