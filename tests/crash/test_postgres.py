"""PostgreSQL crashes under load and comes back: what got 250 is there once, and the server mends by itself."""

import smtplib
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.crash import harness
from tools import postgres
from tools.server import NotReady, Server

BACK_SECONDS = 60.0


def _send(server: Server, ledger: harness.Ledger, to: str) -> int:
    """The reply to one more message."""
    mail = next(ledger.mails())
    try:
        with smtplib.SMTP(*server.smtp, timeout=30) as client:
            client.sendmail("a@far.example", to, mail.raw)
    except smtplib.SMTPRecipientsRefused as refused:
        return next(iter(refused.recipients.values()))[0]
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    ledger.accept(mail, b"250")
    return 250


def _list(server: Server, mailbox: str, token: str) -> tuple[int, str | None]:
    """Status and Retry-After of a list of messages."""
    url = f"{server.http}/api/v1/mailbox/{mailbox}/messages"
    request = urllib.request.Request(url, headers={"X-MAILAPI-TOKEN": token})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers["Retry-After"]


@pytest.mark.timeout(240)
def test_a_crash_of_the_database_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = tmp_path / "data"
    ledger = harness.Ledger(7)
    with postgres.running() as cluster:
        monkeypatch.setenv("RESTANTE_STORAGE_DATABASE", cluster.url(cluster.make_database()))
        with Server(data_dir) as server:
            assert server.first_run is not None
            mailbox, token = server.first_run.mailbox, server.first_run.token
            for _ in range(3):
                load = harness.load(server, ledger, lambda: _crash(cluster, ledger), then_seconds=3.0)
                assert all(answer.startswith("4") for answer in load.refused), load.refused
                assert _send(server, ledger, mailbox) == 451
                status, retry_after = _list(server, mailbox, token)
                assert status in (500, 503)  # the Mail API's contract has a 500 for it
                assert retry_after == "5"
                cluster.start()
                end = time.monotonic() + BACK_SECONDS
                while _send(server, ledger, mailbox) != 250:
                    assert time.monotonic() < end, "it does not come back"
                    time.sleep(0.1)
                assert _list(server, mailbox, token)[0] == 200
        harness.verify(data_dir)
        assert ledger.compare(data_dir, mailbox) >= len(ledger.acknowledged)


def _crash(cluster: postgres.Cluster, ledger: harness.Ledger) -> None:
    harness.await_acknowledged(ledger, len(ledger.acknowledged) + 40)
    cluster.stop()


def test_without_its_database_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTANTE_STORAGE_DATABASE", f"postgresql://someone:secret@/mail?host={tmp_path}")
    with pytest.raises(NotReady) as caught:
        Server(tmp_path / "data")
    assert "cannot reach the PostgreSQL database mail" in str(caught.value)
    assert "secret" not in str(caught.value)
