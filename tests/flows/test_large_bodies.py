"""Many large messages at once: memory stays within what the settings say, whichever way they come."""

import base64
import http.client
import json
import os
import smtplib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.server import Server

MIB = 1024 * 1024
ATTACHED = 9 * MIB
AT_ONCE = 8
MORE = 130 * MIB  # eight messages of 12 MiB take 96 MiB in their bytes alone
MORE_BY_HTTP = 200 * MIB  # what is worked on at one time, and those bytes, when all are delivered at once; else 275
SETTINGS = {"RESTANTE_HTTP_BODY_MEMORY_BYTES": "64M"}


class Gauge(threading.Thread):
    """The most memory of its own that a process had while watched."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._path = Path(f"/proc/{pid}/smaps_rollup")
        self._over = threading.Event()
        self.before = self.most = self._now()
        self.start()

    def _now(self) -> int:
        lines = self._path.read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._now())

    def growth(self) -> int:
        self._over.set()
        self.join()
        return self.most - self.before


def by_http(server: Server) -> int:
    assert server.first_run is not None
    content = base64.b64encode(os.urandom(ATTACHED)).decode()
    message = {"from": server.first_run.mailbox, "to": [server.first_run.mailbox], "body": {"text": "hello"}}
    data = json.dumps(message | {"attachments": [{"filename": "a.bin", "content": content}]}).encode()
    headers = {"X-MAILAPI-TOKEN": server.first_run.token, "Content-Type": "application/json"}
    while True:
        connection = http.client.HTTPConnection(server.http.removeprefix("http://").rstrip("/"), timeout=120)
        connection.request("POST", "/api/v1/mail/send", data, headers)
        status = connection.getresponse().status
        connection.close()
        if status != 503:
            return status
        time.sleep(0.5)  # the others took a minute, and we are asked to try again


def by_submission(server: Server) -> int:
    assert server.first_run is not None
    address = server.first_run.mailbox
    lines = base64.encodebytes(os.urandom(ATTACHED)).replace(b"\n", b"\r\n")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(*server.submission, timeout=120) as client:
        client.starttls(context=trusting)
        client.login(address, server.first_run.password)
        client.sendmail(address, [address], f"From: {address}\r\nSubject: x\r\n\r\n".encode() + lines)
    return 250


def by_reception(server: Server) -> int:
    assert server.first_run is not None
    lines = base64.encodebytes(os.urandom(ATTACHED)).replace(b"\n", b"\r\n")
    with smtplib.SMTP(*server.smtp, timeout=120) as client:
        client.sendmail("eve@far.example", [server.first_run.mailbox], b"Subject: x\r\n\r\n" + lines)
    return 250


@pytest.mark.parametrize(
    ("send", "status", "more"), [(by_http, 202, MORE_BY_HTTP), (by_submission, 250, MORE), (by_reception, 250, MORE)]
)
def test_memory_is_bounded(tmp_path: Path, send: Callable[[Server], int], status: int, more: int) -> None:
    answers = Counter[int]()
    with Server(tmp_path / "data", environment={**os.environ, **SETTINGS}) as server:
        gauge = Gauge(server.process.pid)
        senders = [threading.Thread(target=lambda: answers.update([send(server)])) for _ in range(AT_ONCE)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        growth = gauge.growth()
        assert server.stop() == 0
    assert answers == {status: AT_ONCE}
    assert growth < more, f"{growth / MIB:.0f} MiB"
