"""Limits of size, number and time; peers that are slow, idle or do not read."""

from dataclasses import replace
from pathlib import Path

from restante.smtp.port import Settings
from restante.smtp.submission import Submission
from restante.smtp.transaction import DRAIN_BYTES
from restante.storage import spool
from tests.smtp.dialogue import Dialogue, MemoryBackend, settings

ENVELOPE = b"EHLO a\r\nMAIL FROM:<x@peer.test>\r\nRCPT TO:<alice@example.test>\r\n"
KIB64 = 64 * 1024


def dialogue(options: Settings | None = None) -> Dialogue:
    return Dialogue(MemoryBackend(), None, options)


def test_a_declared_size_over_the_limit_is_refused_at_mail() -> None:
    session = dialogue(settings(max_message_bytes=KIB64))
    assert session.say(b"EHLO a\r\nMAIL FROM:<x@peer.test> SIZE=65537\r\n").endswith(
        b"552 5.3.4 The message is larger than allowed\r\n"
    )
    assert session.say(b"MAIL FROM:<x@peer.test> SIZE=65536\r\n").startswith(b"250 ")
    assert (
        dialogue()
        .say(b"EHLO a\r\nMAIL FROM:<x@peer.test> SIZE=99999999999999999999\r\n")
        .endswith(b"552 5.3.4 The message is larger than allowed\r\n")
    )


def test_a_message_over_the_limit_is_read_away_and_refused() -> None:
    session = dialogue(settings(max_message_bytes=KIB64))
    session.say(ENVELOPE + b"DATA\r\n")
    for _ in range(100):
        assert session.say(b"x" * 1022 + b"\r\n") == b""
    assert session.say(b".\r\nMAIL FROM:<x@peer.test>\r\n").startswith(b"552 5.3.4 ")
    assert not session.backend.messages
    assert not session.transport.is_closed
    assert session.port.receiving == 0


def test_a_message_without_end_is_cut() -> None:
    session = dialogue(settings(max_message_bytes=KIB64))
    session.say(ENVELOPE + b"DATA\r\n")
    chunk = b"x" * 262_144
    for _ in range((DRAIN_BYTES + KIB64) // len(chunk) + 2):
        session.say(chunk)
    assert session.transport.is_closed
    assert session.transport.written[-1].startswith(b"552 5.3.4 ")


def test_chunks_over_the_limit_are_drained() -> None:
    session = dialogue(settings(max_message_bytes=KIB64))
    session.say(ENVELOPE)
    assert session.say(b"BDAT 65530\r\n" + b"x" * 65_530).startswith(b"250 ")
    assert session.say(b"BDAT 7\r\n") == b""
    assert session.say(b"NOOP\r\n") == b""
    assert session.say(b"xNOOP\r\n").startswith(b"552 5.3.4 The message is larger than allowed\r\n250 ")
    assert session.say(b"BDAT 2 LAST\r\nxx").startswith(b"503 ")
    assert not session.backend.messages


def test_recipients_over_the_limit_are_told_to_come_again() -> None:
    session = dialogue(settings(max_recipients=100))
    session.say(b"EHLO a\r\nMAIL FROM:<x@peer.test>\r\n")
    assert session.say(b"RCPT TO:<alice@example.test>\r\n" * 100).count(b"250 2.1.5") == 100
    assert session.say(b"RCPT TO:<alice@example.test>\r\n" * 50).count(b"452 4.5.3 ") == 50
    assert session.say(b"DATA\r\nx\r\n.\r\n").endswith(b"250 2.0.0 Kept as receipt1\r\n")


def test_a_line_that_is_too_long_is_skipped() -> None:
    session = dialogue()
    assert session.say(b"NOOP " + b"x" * 5000) == b""
    assert session.say(b"MAIL FROM:<x@peer.test>\r\nNOOP\r\n") == (
        b"500 5.5.2 The line is too long\r\n250 2.0.0 Ok\r\n"
    )
    assert session.say(b"y" * 4095 + b"\n").startswith(b"500 5.5.2 ")
    assert session.say(b"z" * 200_000).startswith(b"421 ")


def test_errors_are_counted() -> None:
    session = dialogue(settings(max_errors=5))
    replies = session.say(b"FOO\r\n" * 100)
    assert replies.count(b"500 5.5.1 ") == 5
    assert replies.endswith(b"421 4.7.0 Too many errors, closing the connection\r\n")
    assert session.transport.is_closed


def test_guessing_recipients_ends_the_connection() -> None:
    session = dialogue(settings(max_errors=5))
    replies = session.say(b"EHLO a\r\nMAIL FROM:<x@peer.test>\r\n" + b"RCPT TO:<guess@example.test>\r\n" * 100)
    assert replies.count(b"550 5.1.1 ") == 5
    assert session.transport.is_closed


def test_commands_without_mail_are_counted_and_a_message_starts_over() -> None:
    session = dialogue()
    for _ in range(3):
        session.say(b"NOOP\r\n" * 90)
        session.say(ENVELOPE + b"DATA\r\nx\r\n.\r\n")
    assert len(session.backend.messages) == 3
    assert session.say(b"RSET\r\n" * 300).endswith(b"421 4.7.0 Too many commands without a message\r\n")


def test_messages_of_one_connection_are_limited() -> None:
    session = dialogue(settings(max_messages=1))
    session.say(ENVELOPE + b"DATA\r\nx\r\n.\r\n")
    assert session.say(b"MAIL FROM:<x@peer.test>\r\n").startswith(b"421 4.7.0 ")


def test_connections_of_one_peer_are_limited_but_not_our_own() -> None:
    for peer, greeting in (("192.0.2.1", b"421 4.7.0 "), ("127.0.0.1", b"220 ")):
        first = Dialogue(options=settings(max_connections_per_peer=1), peer=peer)
        second = Dialogue(peer=peer)
        second.port = first.port
        session = type(first.session)(first.port)
        transport = type(first.transport)(peer)
        session.connection_made(transport)
        assert transport.written[0].startswith(greeting)
        session.connection_lost(None)
        first.end()
        assert not first.port.sessions


def test_an_idle_peer_is_let_go() -> None:
    session = dialogue()
    assert session.pass_time(299) == b""
    session.say(b"NOOP\r\n")
    assert session.pass_time(299) == b""
    assert session.pass_time(2).startswith(b"421 4.4.2 ")
    assert session.transport.is_closed
    assert not session.transport.is_aborted
    session.pass_time(6)  # it does not even take the goodbye
    assert session.transport.is_aborted


def test_a_session_ends_some_day() -> None:
    session = dialogue(settings(session_timeout_seconds=600))
    for _ in range(2):
        assert session.pass_time(290) == b""
        session.say(b"NOOP\r\n")
    assert session.pass_time(21).startswith(b"421 4.4.2 ")


def test_data_that_stops_or_drips_is_cut_and_forgotten() -> None:
    session = dialogue()
    session.say(ENVELOPE + b"DATA\r\n")
    assert session.pass_time(50) == b""
    session.say(b"x")
    assert session.pass_time(15).startswith(b"421 4.4.2 ")  # a byte in 65 s is no rate
    assert session.port.receiving == 0
    session = dialogue(replace(settings(data_timeout_seconds=10), min_data_rate=0))
    session.say(ENVELOPE + b"BDAT 100\r\n")
    assert session.pass_time(11).startswith(b"421 4.4.2 ")


def test_a_slow_link_that_keeps_its_rate_may_finish() -> None:
    session = dialogue()
    session.say(ENVELOPE + b"DATA\r\n")
    for _ in range(30):
        session.say(b"x" * 9_000 + b"\r\n")
        assert session.pass_time(30) == b""
    assert session.say(b".\r\n").startswith(b"250 ")


def test_a_peer_that_does_not_read_is_not_served_further() -> None:
    session = dialogue()
    session.session.pause_writing()
    assert session.transport.is_paused
    assert session.say(b"NOOP\r\n" * 3) == b""
    session.session.resume_writing()
    assert session.transport.written[-1] == b"250 2.0.0 Ok\r\n" * 3
    assert not session.transport.is_paused


def test_many_unfinished_messages_share_the_memory(tmp_path: Path) -> None:
    options = replace(settings(tmp_path), spool_memory_bytes=64 * 1024)
    session = dialogue(options)
    assert session.port.new_spool()._memory_limit == 64 * 1024
    session.port.receiving = 1000
    assert session.port.new_spool()._memory_limit == 4096
    session.port.receiving = 0
    assert dialogue().port.new_spool()._memory_limit == spool.MEMORY_LIMIT


def test_one_byte_at_a_time_holds_little(tmp_path: Path) -> None:
    session = dialogue(settings(tmp_path))
    session.say(ENVELOPE + b"DATA\r\n")
    for _ in range(20_000):
        session.say(b"x")
    transaction = session.session._transaction
    assert transaction is not None
    assert transaction._spool is not None
    assert isinstance(transaction._spool._buffer, bytearray)
    assert session.say(b"\r\n.\r\n").startswith(b"250 ")


def test_a_login_is_not_taken_in_the_clear_from_afar() -> None:
    session = Dialogue(policy=Submission())
    assert b"AUTH" not in session.say(b"EHLO a\r\n")
    assert session.say(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"538 5.7.11 ")
    assert session.say(b"MAIL FROM:<alice@example.test>\r\n").startswith(b"530 5.7.0 ")
    near = Dialogue(policy=Submission(), peer="::1")
    assert b"250-AUTH PLAIN LOGIN\r\n" in near.say(b"EHLO a\r\n")


def test_a_tls_hello_is_answered_in_the_clear() -> None:
    session = dialogue()
    assert session.say(b"\x16\x03\x01\x02\x00\x01").startswith(b"554 ")
    assert session.transport.is_closed
