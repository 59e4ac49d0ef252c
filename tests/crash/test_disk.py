"""A disk that is full, read-only or failing, and a clock that jumps: nothing acknowledged is lost, and it goes on."""

import errno
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import uvloop

from tests.crash import harness
from tools import smtp_load
from tools.powerloss.faults import Faults, build
from tools.server import NotReady, Server

DAY_MICROS = 86_400_000_000


@dataclass
class House:
    """A server whose disk and clock the test holds in its hand."""

    data_dir: Path
    faults: Faults
    server: Server
    ledger: harness.Ledger
    mailbox: str
    token: str

    def send(self, count: int) -> smtp_load.Load:
        """Send so many messages over four connections."""
        mails = islice(self.ledger.mails(), count)
        return uvloop.run(
            smtp_load.send(self.server.smtp, mails, connections=4, seconds=60, on_accept=self.ledger.accept)
        )

    def uids(self) -> list[int]:
        """The UIDs of the newest messages as the Mail API lists them."""
        url = f"{self.server.http}/api/v1/mailbox/{self.mailbox}/messages?limit=200"
        request = urllib.request.Request(url, headers={"X-MAILAPI-TOKEN": self.token})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return [row["uid"] for row in json.load(answer)["messages"]]

    def check(self) -> None:
        """End the server and look at everything."""
        assert self.server.stop() == 0
        harness.verify(self.data_dir)
        assert self.ledger.compare(self.data_dir, self.mailbox) == len(self.ledger.acknowledged)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    faults = Faults(build(tmp_path), data_dir, tmp_path / "side")
    with Server(data_dir, environment=faults.environment()) as server:
        assert server.first_run is not None
        first = server.first_run
        yield House(data_dir, faults, server, harness.Ledger(21), first.mailbox, first.token)


def only_temporary(load: smtp_load.Load) -> bool:
    """Every refusal was a 451 or 452, and no connection broke."""
    return load.lost_connections == 0 and all(answer[:3] in ("451", "452") for answer in load.refused)


def test_a_full_disk_delays_mail(house: House) -> None:
    assert house.send(20).accepted == 20
    house.faults.set(free_bytes=200_000)
    refused = 0
    for _ in range(10):  # no more on one connection than a server takes errors
        full = house.send(20)
        refused += sum(full.refused.values())
        assert only_temporary(full), full.refused
    assert refused > 0
    house.faults.set(free_bytes=0)
    none = house.send(20)
    assert none.accepted == 0
    assert only_temporary(none), none.refused
    house.faults.set(free_bytes=-1)
    assert house.send(20).accepted == 20
    house.check()


def test_a_read_only_disk_delays_mail(house: House) -> None:
    assert house.send(5).accepted == 5
    house.faults.set(read_only=1)
    refused = house.send(10)
    assert refused.accepted == 0
    assert only_temporary(refused), refused.refused
    house.faults.set(read_only=0)
    assert house.send(5).accepted == 5
    house.check()


def test_a_sync_that_fails_acknowledges_nothing(house: House) -> None:
    """What the kernel dropped with the failed sync cannot be synced again: the server ends and starts afresh."""
    assert house.send(5).accepted == 5
    house.faults.set(sync_errno=errno.EIO)
    assert house.send(10).accepted == 0
    assert house.server.await_end() != 0
    house.faults.set(sync_errno=0)
    with Server(house.data_dir, environment=house.faults.environment()) as again:
        house.server = again
        assert house.send(5).accepted == 5
    harness.verify(house.data_dir)
    house.ledger.compare(house.data_dir, house.mailbox)


def test_a_clock_that_jumps_back_changes_no_order(house: House) -> None:
    assert house.send(5).accepted == 5
    house.faults.set(clock_offset_micros=-DAY_MICROS)
    assert house.send(5).accepted == 5
    house.faults.set(clock_offset_micros=-400 * DAY_MICROS)
    assert house.send(5).accepted == 5
    assert house.uids() == list(range(15, 0, -1))  # newest first is by arrival, not by the clock
    assert house.server.stop() == 0
    with Server(house.data_dir, environment=house.faults.environment()) as again:
        house.server = again
        assert house.send(5).accepted == 5
        assert house.uids() == list(range(20, 0, -1))
        house.check()


def test_a_read_only_directory_is_said_at_the_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    faults = Faults(build(tmp_path), data_dir, tmp_path / "side")
    faults.set(read_only=1)
    with pytest.raises(NotReady) as refusal, Server(data_dir, environment=faults.environment()):
        pass
    assert "Traceback" not in str(refusal.value)
    assert str(refusal.value).strip(), "it ended without a word"
