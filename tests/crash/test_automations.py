"""SIGKILL while mail comes in: each message is counted once, called for at least once, sent on once, deleted once."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash import harness
from tests.crash.calls import received, receiving
from tests.receiver import Receiver
from tools.server import Server, command

KILLS = int(os.environ.get("CRASH_AUTOMATION_KILLS", "4"))
MAILS = int(os.environ.get("CRASH_AUTOMATION_MAILS", "300"))
ON_POSTGRES = 2, 150  # kills and mails there: the second run of CI is short
CAUGHT_UP_SECONDS = 240.0
COPIES = "copies@example.test"
INBOX = ("--inbox", "^box@")  # where the load goes; not what was sent on


def add(data_dir: Path, title: str, *words: str) -> str:
    """Make an automation for what comes to the first mailbox; its id."""
    made: str = command(data_dir, "automation", "add", title, *INBOX, *words)["id"]
    return made


def statuses(data_dir: Path, automation: str) -> list[tuple[str, str | None]]:
    """How each run stands, and why."""
    found: list[tuple[str, str | None]] = []
    page: dict[str, Any] = {"cursor": 0, "is_last": False}
    while not page["is_last"]:
        asked = ("--after", str(page["cursor"]), "--limit", "1000")
        page = command(data_dir, "automation", "runs", automation, *asked)
        found += [(run["status"], run["error"]) for run in page["runs"]]
    return found


def called(place: Receiver) -> set[str]:
    """The messages that a place was called for."""
    return {one.headers["webhook-id"].rpartition("_")[2] for one in place.told}


def folder_total(data_dir: Path, mailbox: str, folder: str) -> int:
    """How many messages a folder holds."""
    total: int = command(data_dir, "message", "list", mailbox, "--folder", folder, "--limit", "1")["total"]
    return total


@pytest.mark.timeout(120 + 20 * KILLS + CAUGHT_UP_SECONDS)
@pytest.mark.usefixtures("server_on_engine")
def test_each_message_runs_once(tmp_path: Path, database_url: str) -> None:
    data_dir = tmp_path / "data"
    kills, mails = ON_POSTGRES if database_url else (KILLS, MAILS)
    rng, ledger = random.Random(kills), harness.Ledger(7)
    environment = {**os.environ, "RESTANTE_EGRESS_ALLOW": "127.0.0.0/8"}
    with receiving(0.05, 1) as (raw, raw_works), receiving(0.05, 2) as (json_, json_works):
        made: list[str] = []
        for _ in range(kills):
            with Server(data_dir, environment=environment) as server:
                if server.first_run is not None:
                    alice = server.first_run.mailbox
                    command(data_dir, "mailbox", "add", COPIES)
                    made.append(add(data_dir, "raw", "--url", raw.url, "--format", "raw"))
                    made.append(add(data_dir, "json", "--url", json_.url))
                    made.append(add(data_dir, "copy", "--forward-to", COPIES))
                    made.append(add(data_dir, "delete", "--delete"))

                def end(server: Server = server) -> None:
                    share = mails // kills
                    harness.await_acknowledged(ledger, len(ledger.acknowledged) + rng.randrange(share // 2, share * 2))
                    time.sleep(rng.random())
                    server.kill_group()

                harness.load(server, ledger, end)
        raw_works.set()
        json_works.set()
        with Server(data_dir, environment=environment) as server:
            events = [one for one in received(data_dir) if one["mailbox"] == alice]
            expected = {one["data"]["id"].replace("-", "") for one in events}
            silent = sum(not one["data"]["sender"] for one in events)
            assert len(expected) >= len(ledger.acknowledged) > mails // 2
            until = time.monotonic() + CAUGHT_UP_SECONDS
            wanted = len(expected), len(expected) - silent
            while (
                (
                    folder_total(data_dir, alice, "Trash"),
                    folder_total(data_dir, COPIES, "INBOX"),
                )
                != wanted
                or expected - called(raw)
                or expected - called(json_)
            ):
                assert time.monotonic() < until, [len(expected - called(place)) for place in (raw, json_)]
                time.sleep(0.5)
            listed = command(data_dir, "automation", "list")["automations"]
            assert [one["emails_received"] for one in listed] == [len(expected)] * 4
            for automation in made:
                ended = statuses(data_dir, automation)
                assert len(ended) == len(expected)
                done = len(expected) - (silent if automation == made[2] else 0)
                assert ended.count(("done", None)) == done
                assert len(ended) - done == ended.count(("failed", "null_sender"))
            assert server.stop() == 0
        harness.verify(data_dir)
    assert called(raw) == called(json_) == expected
