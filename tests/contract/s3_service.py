"""An S3 service on a free port, in a process of its own, and a way to look at its objects behind the store's back."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import requests
from obstore.store import S3Store

from restante.clock import Clock
from restante.config import S3
from restante.storage.blobs.s3 import S3Blobs

START_SECONDS = 60
_ADDRESS = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service listens and who may use it."""

    port: int
    access_key: str = "test-access"
    secret_key: str = "test-secret"

    def settings(self, bucket: str, port: int | None = None, **more: Any) -> S3:
        """Settings for a bucket, by way of another port when that is given."""
        base = S3(bucket=bucket, access_key=self.access_key, secret_key=self.secret_key)
        return replace(base, endpoint=f"http://127.0.0.1:{port or self.port}", **more)

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket, by a signed ``PUT`` of nothing under the name of nothing."""
        signed = obstore.sign(self.behind(bucket), "PUT", "", timedelta(minutes=1))
        answer = requests.put(signed, timeout=60)
        assert answer.status_code == 200, answer.text

    def behind(self, bucket: str) -> S3Store:
        """The bucket itself, for tests that change what is in it."""
        return S3Store(
            bucket,
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
        )

    def blobs(self, bucket: str, clock: Clock, scratch: Path, port: int | None = None, **more: Any) -> S3Blobs:
        """Our store over a bucket."""
        return S3Blobs(self.settings(bucket, port, **more), clock, scratch)


def paths(store: S3Store) -> list[str]:
    """The names of all objects."""
    return sorted(one["path"] for page in obstore.list(store) for one in page)


@contextmanager
def moto(folder: Path) -> Iterator[Service]:
    """Moto's server: it keeps objects in memory and believes every signature."""
    log = folder / "moto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := _ADDRESS.search(log.read_text(errors="replace"))):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, "moto does not start"
            time.sleep(0.05)
        yield Service(int(found[1]))
    finally:
        process.terminate()
        process.wait(60)
