"""SIGKILL while mail comes in and webhooks fail at random: every event is told at least once, in order where asked."""

import json
import os
import random
import time
import urllib.request
from pathlib import Path

import pytest

from tests.crash import harness
from tests.crash.calls import received, receiving
from tools.server import Server, command

KILLS = int(os.environ.get("CRASH_WEBHOOK_KILLS", "10"))
MAILS = int(os.environ.get("CRASH_WEBHOOK_MAILS", "10000"))
ON_POSTGRES = 3, 1_000  # kills and mails there: the second run of CI is short
CAUGHT_UP_SECONDS = 240.0


def add(server: Server, token: str, url: str, *, is_ordered: bool) -> str:
    """Make a webhook; its secret."""
    body = json.dumps({"url": url, "types": ["message.received"], "is_ordered": is_ordered}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.http}/restante/v1/webhooks", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        secret: str = json.load(answer)["secret"]
    return secret


@pytest.mark.timeout(120 + 20 * KILLS + CAUGHT_UP_SECONDS)
@pytest.mark.usefixtures("server_on_engine")
def test_every_event_is_told(tmp_path: Path, database_url: str) -> None:
    data_dir = tmp_path / "data"
    kills, mails = ON_POSTGRES if database_url else (KILLS, MAILS)
    rng, ledger = random.Random(kills), harness.Ledger(5)
    environment = {**os.environ, "RESTANTE_EGRESS_ALLOW": "127.0.0.0/8"}
    with receiving(0.003, 1) as (ordered, ordered_works), receiving(0.05, 2) as (others, others_work):
        secrets: list[str] = []
        for _ in range(kills):
            with Server(data_dir, environment=environment) as server:
                if not secrets:
                    token = command(data_dir, "token", "create", "--dialect", "native", "--account", "default")["token"]
                    secrets.append(add(server, token, ordered.url, is_ordered=True))
                    secrets.append(add(server, token, others.url, is_ordered=False))

                def end(server: Server = server) -> None:
                    share = mails // kills
                    harness.await_acknowledged(ledger, len(ledger.acknowledged) + rng.randrange(share // 2, share * 2))
                    time.sleep(rng.random() * 0.05)
                    server.kill_group()

                harness.load(server, ledger, end)
        ordered_works.set()
        others_work.set()
        with Server(data_dir, environment=environment) as server:
            expected = {event["id"] for event in received(data_dir)}
            assert len(expected) >= len(ledger.acknowledged) > mails // 2
            until = time.monotonic() + CAUGHT_UP_SECONDS
            while any(expected - set(place.numbers) for place in (ordered, others)):
                missing = [len(expected - set(place.numbers)) for place in (ordered, others)]
                assert time.monotonic() < until, f"{missing} events were not told"
                time.sleep(0.2)
            assert server.stop() == 0
        harness.verify(data_dir)
    for place, secret in zip((ordered, others), secrets, strict=True):
        assert set(place.numbers) == expected
        for told in place.told[-500:]:
            assert told.is_signed_with(secret)
    first_times = list(dict.fromkeys(ordered.numbers))
    assert first_times == sorted(expected)
