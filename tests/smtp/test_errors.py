"""Every class of the error tree has a reply at every stage; known codes have theirs; strangers tell nothing."""

from typing import get_args

import pytest

from restante import errors
from restante.smtp.errors import Stage, reply_for
from restante.wire.smtp import Reply
from tests.smtp.dialogue import Dialogue, MemoryBackend


def _make(kind: type[errors.RestanteError], code: str | None = None) -> errors.RestanteError:
    if issubclass(kind, errors.RateLimited):
        return kind("m", retry_after_seconds=1, code=code)
    if issubclass(kind, errors.RemoteUnavailable):
        return kind("m", host="h", code=code)
    if issubclass(kind, errors.SendFailed):
        return kind("m", submission="7a9b")
    return kind("m", code=code)


@pytest.mark.parametrize("stage", get_args(Stage))
@pytest.mark.parametrize("kind", [k for k in errors.walk() if k.__module__ == "restante.errors"])
def test_every_error_has_a_reply(kind: type[errors.RestanteError], stage: Stage) -> None:
    reply = reply_for(_make(kind), stage)
    assert 400 <= reply.code < 600
    assert reply.enhanced[0] == str(reply.code)[0]
    assert reply.encode().endswith(b"\r\n")
    is_temporary = issubclass(kind, errors.Unavailable | errors.Conflict | errors.RateLimited)
    assert not is_temporary or reply.code < 500


@pytest.mark.parametrize(
    ("kind", "code", "stage", "expected"),
    [
        (errors.NotFound, "mailbox_not_found", "recipient", "550 5.1.1"),
        (errors.QuotaExceeded, "over_quota", "recipient", "452 4.2.2"),
        (errors.Forbidden, "domain_inactive", "recipient", "550 5.7.1"),
        (errors.Forbidden, "relay_denied", "recipient", "550 5.7.1"),
        (errors.Forbidden, "mailbox_disabled", "recipient", "550 5.2.1"),
        (errors.Unavailable, "account_suspended", "recipient", "451 4.3.0"),
        (errors.Invalid, None, "recipient", "553 5.1.3"),
        (errors.Invalid, "loop", "message", "554 5.4.6"),
        (errors.Invalid, None, "message", "554 5.6.0"),
        (errors.TooLarge, None, "message", "552 5.3.4"),
        (errors.QuotaExceeded, None, "message", "452 4.2.2"),
        (errors.Unavailable, "storage_full", "message", "452 4.3.1"),
        (errors.Unavailable, None, "message", "451 4.3.0"),
        (errors.Unauthenticated, None, "login", "535 5.7.8"),
        (errors.RateLimited, None, "login", "454 4.7.0"),
        (errors.Unavailable, None, "login", "454 4.7.0"),
        (errors.Forbidden, "sender_not_authorized", "sender", "553 5.7.1"),
    ],
)
def test_known_errors(kind: type[errors.RestanteError], code: str | None, stage: Stage, expected: str) -> None:
    reply = reply_for(_make(kind, code), stage)
    assert f"{reply.code} {reply.enhanced}" == expected


def test_strangers_are_temporary_and_tell_nothing() -> None:
    assert reply_for(RuntimeError("secret"), "message") == Reply(
        451, "4.3.0", "Temporary local problem, try again later"
    )


@pytest.mark.parametrize("failure", [*map(_make, errors.walk()), OSError("secret detail"), KeyError("secret detail")])
def test_a_failed_delivery_is_never_acknowledged(failure: Exception) -> None:
    dialogue = Dialogue(MemoryBackend(failure=failure))
    dialogue.say(b"EHLO a\r\nMAIL FROM:<x@peer.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    replies = dialogue.say(b"x\r\n.\r\nMAIL FROM:<x@peer.test>\r\n")
    assert replies[:1] in (b"4", b"5")
    assert b"secret" not in replies
    assert replies.endswith(b"250 2.1.0 Sender ok\r\n")  # the session goes on, in a new transaction
