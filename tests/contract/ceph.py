"""One Ceph node with an S3 gateway, by hand in a temporary folder: a durable service, unlike the fakes.

Needs Debian's packages ceph-mon, ceph-osd and radosgw. There is no manager and no authentication inside the cluster:
neither matters to the gateway.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.contract.s3_service import Service

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin")
PRESENT = all(shutil.which(program) for program in PROGRAMS)
START_SECONDS = 90

_CONF = """
[global]
fsid = {fsid}
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
keyring = {folder}/keyring
mon host = [v2:127.0.0.1:{mon_port}/0]
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr1 = false
ms mon client mode = crc
ms client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
[mon.a]
mon data = {folder}/mon
public addr = v2:127.0.0.1:{mon_port}/0
mon cluster log file = {folder}/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block create = true
bluestore block size = 4294967296
bluestore fsck on mount = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = {osd_port}
ms bind port max = {osd_last}
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw data = {folder}/rgw
"""


@dataclass(slots=True)
class Cluster:
    """A running node."""

    folder: Path
    service: Service
    osd_id: str = "0"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *arguments: str) -> str:
        """Run one of Ceph's tools; returns what it prints."""
        done = subprocess.run(
            arguments, env=self._environment(), capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def start(self, name: str, *arguments: str) -> None:
        """Start one of the daemons in the foreground."""
        with (self.folder / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [*arguments, "-f"], env=self._environment(), stdout=output, stderr=subprocess.STDOUT
            )

    def _environment(self) -> dict[str, str]:
        return os.environ | {"CEPH_CONF": str(self.folder / "ceph.conf")}

    def start_osd(self) -> None:
        """The part that keeps the bytes."""
        self.start("osd", "ceph-osd", "-i", self.osd_id)

    def start_gateway(self) -> None:
        """The part that speaks S3; returns when it answers."""
        self.start("gateway", "radosgw", "-n", "client.admin")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.processes["gateway"].poll() is None, (self.folder / "gateway.out").read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.service.port), 1):
                return
            time.sleep(0.1)
        raise AssertionError("the gateway does not start")

    def kill(self, name: str) -> None:
        """End a daemon at once, as a power failure would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(20)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Bring a node up: monitor, one OSD on a file, gateway, one user. About 20 seconds on two cores."""
    ports = _free_ports(7)
    fsid = str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    text = _CONF.format(
        folder=folder, fsid=fsid, mon_port=ports[0], gateway_port=ports[1], osd_port=ports[2], osd_last=ports[2] + 400
    )
    (folder / "ceph.conf").write_text(text)
    cluster = Cluster(folder, Service(ports[1], "ceph-access", "ceph-secret"))
    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
    cluster.run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    cluster.run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *")
    where = f"[v2:127.0.0.1:{ports[0]}/0]"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", where, monmap)
    cluster.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    try:
        cluster.start("mon", "ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        cluster.osd_id = re.sub(r"\D", "", cluster.run("ceph", "--connect-timeout", "60", "osd", "new", osd))
        cluster.run("ceph-osd", "-i", cluster.osd_id, "--mkfs", "--osd-uuid", osd)
        cluster.start_osd()
        keys = f"--access-key={cluster.service.access_key}", f"--secret={cluster.service.secret_key}"
        cluster.run("radosgw-admin", "user", "create", "--uid=test", "--display-name=Test", *keys)
        cluster.start_gateway()
        yield cluster
    finally:
        for name in list(cluster.processes):
            cluster.kill(name)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
