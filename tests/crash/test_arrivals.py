"""SIGKILL while lists over an account follow its log: they end as if nothing had happened."""

import functools
import http.client
import json
import random
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.crash import harness
from tests.crash.test_kill import end
from tools.server import Server, command

ROUNDS = 4
VICTIMS = ("group", "writer")


class Poller:
    """Asks for the list again and again, so that it is brought up to date while mail comes, until the server ends."""

    def __init__(self, server: Server, path: str, token: str) -> None:
        self._address, self._path, self._token = urlsplit(server.http), path, token
        self._answers = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self.total()
                self._answers.release()
        except (OSError, http.client.HTTPException):
            pass

    def await_answers(self, count: int) -> None:
        """Wait for so many answers."""
        for _ in range(count):
            assert self._answers.acquire(timeout=60)

    def total(self) -> int:
        """How many there are."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)
        connection.request("GET", self._path, headers={"Authorization": f"Bearer {self._token}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status in (200, 503), body
        return int(json.loads(body)["meta"]["total"]) if answer.status == 200 else -1

    def join(self) -> None:
        """Wait for the end, which the server's brings."""
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()


def kill(number: int, server: Server, poller: Poller, rng: random.Random, ledger: harness.Ledger) -> None:
    """Kill somebody in the middle of it."""
    poller.await_answers(rng.randrange(3, 10))
    end(server, VICTIMS[number % len(VICTIMS)], rng, ledger)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("server_on_engine")
def test_lists_survive(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    rng, ledger = random.Random("arrivals"), harness.Ledger(7)
    path = token = mailbox = ""
    for number in range(ROUNDS):
        with Server(data_dir) as server:
            if server.first_run:
                mailbox = server.first_run.mailbox
                options = ("--dialect", "mailcare", "--account", "default", "--rate-limit", "none")
                token = command(data_dir, "token", "create", *options)["token"]
                (account,) = command(data_dir, "account", "list")["accounts"]
                path = f"/api/teams/{account['public_id']}/emails?limit=1"
            poller = Poller(server, path, token)
            harness.load(server, ledger, functools.partial(kill, number, server, poller, rng, ledger))
            poller.join()
        harness.verify(data_dir)
    there = ledger.compare(data_dir, mailbox)
    with Server(data_dir) as server:
        last = Poller(server, path, token)
        end = time.monotonic() + 60
        while (total := last.total()) < 0:  # it takes a slow machine longer than a reader may wait
            assert time.monotonic() < end, "the list is not brought up to date"
        assert total == there
        assert server.stop() == 0
        last.join()
