"""The client against servers that do all a server may do, and much that it may not."""

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from restante.clock import now
from restante.errors import Invalid
from restante.net import certificates, smtp_client
from restante.net.smtp_client import Endpoint, Login, Lost, Outgoing, Result, Session, Timeouts
from tests.peers import DEAF, HANG, Answer, Peer

RAW = b"From: a@a.example\r\nSubject: x\r\n\r\none\r\n.two\r\n"
PATIENT = Timeouts(60, 60, 60, 60, 60, 60)
QUICK = Timeouts(60, 0.3, 0.3, 0.3, 0.3, 0.3)  # where silence is the point


async def connect(peer: Peer, timeouts: Timeouts = PATIENT, login: Login | None = None) -> Session:
    endpoint = Endpoint("mx.peer.example", *peer.address)
    context = smtp_client.opportunistic_context()
    return await smtp_client.connect(endpoint, "us.example", timeouts, context=context, login=login)


def mail(*to: str, raw: bytes = RAW, sender: str = "a@a.example") -> Outgoing:
    return Outgoing(sender, to or ("b@b.example",), raw, not raw.isascii(), not all(map(str.isascii, to)))


async def send(peer: Peer, outgoing: Outgoing | None = None, timeouts: Timeouts = PATIENT) -> list[Result]:
    session = await connect(peer, timeouts)
    try:
        return await session.send(outgoing or mail())
    finally:
        await session.quit()


def statuses(results: list[Result]) -> list[tuple[str, str]]:
    return [(each.status, each.dsn_code) for each in results]


@pytest.mark.parametrize("extensions", [(), ("PIPELINING", "SIZE"), ("8BITMIME", "SIZE 1000")])
async def test_a_message_arrives_as_it_is(extensions: tuple[str, ...]) -> None:
    async with Peer(extensions=extensions).running() as peer:
        (result,) = await send(peer)
        assert result == Result("sent", "2.0.0", "250 2.0.0 queued as 1", "mx.peer.example", None)
        ((sender, recipients, raw),) = peer.messages
    assert sender.startswith(b"MAIL FROM:<a@a.example>")
    assert (b" SIZE=" in sender) == bool(extensions)
    assert recipients == [b"RCPT TO:<b@b.example>\r\n"]
    assert raw == RAW.replace(b"\r\n.two", b"\r\n..two")


async def test_recipients_have_answers_of_their_own() -> None:
    answers: dict[bytes, bytes] = {b"no": b"550 5.1.1 nobody\r\n", b"la": b"450-4.2.1 slow\r\n450 4.2.1 down\r\n"}
    for extensions in (("PIPELINING",), ()):
        peer = Peer(extensions=extensions, answers={"RCPT": lambda line: answers.get(line[9:11], b"250 ok\r\n")})
        async with peer.running():
            results = await send(peer, mail("no@b.example", "yes@b.example", "late@b.example"))
            assert statuses(results) == [("bounced", "5.1.1"), ("sent", "2.0.0"), ("deferred", "4.2.1")]
            assert results[2].response == "450 4.2.1 slow down"
            assert len(peer.messages) == 1


async def test_nobody_is_taken_and_the_session_goes_on() -> None:
    for extensions in (("PIPELINING",), ()):
        peer = Peer(extensions=extensions)
        peer.answers["RCPT"] = lambda line: b"550 no\r\n" if b"<no" in line else b"250 ok\r\n"
        async with peer.running():
            session = await connect(peer)
            assert statuses(await session.send(mail("no@b.example"))) == [("bounced", "5.0.0")]
            assert session.is_open
            assert statuses(await session.send(mail())) == [("sent", "2.0.0")]
            assert (peer.connections, len(peer.messages)) == (1, 1)
            await session.quit()


@pytest.mark.parametrize(
    ("verb", "answer", "expected"),
    [
        ("MAIL", b"552 5.3.4 too much\r\n", ("bounced", "5.3.4")),
        ("MAIL", b"451 later\r\n", ("deferred", "4.0.0")),
        ("RCPT", b"250 5.1.1 odd\r\n", ("sent", "2.0.0")),
        ("DATA", b"554 5.7.1 no\r\n", ("bounced", "5.7.1")),
        ("DATA", b"452 4.3.1 full\r\n", ("deferred", "4.3.1")),
        ("MESSAGE", b"554 5.6.0 no\r\n", ("bounced", "5.6.0")),
        ("MESSAGE", b"451 4.7.1 no\r\n", ("deferred", "4.7.1")),
        ("MESSAGE", b"354 what\r\n", ("deferred", "4.0.0")),
        ("MESSAGE", b"251\r\n", ("sent", "2.0.0")),
        ("MESSAGE", b"250 4.0.0 odd\r\n", ("sent", "2.0.0")),
        ("MESSAGE", None, ("deferred", "4.4.2")),
        ("MESSAGE", HANG, ("deferred", "4.4.2")),
        ("MESSAGE", b"\xff\xfe garbage\r\n", ("deferred", "4.4.2")),
        ("MESSAGE", b"421 4.3.2 going\r\n", ("deferred", "4.3.2")),
    ],
)
@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
async def test_answers(verb: str, answer: bytes | None, expected: tuple[str, str], extensions: tuple[str, ...]) -> None:
    timeouts = replace(PATIENT, data_end=0.3) if answer == HANG else PATIENT
    async with Peer(extensions=extensions, answers={verb: answer}).running() as peer:
        assert statuses(await send(peer, timeouts=timeouts)) == [expected]


LOSING: list[tuple[str, Answer, str]] = [
    ("GREETING", None, "deferred"),
    ("GREETING", HANG, "deferred"),
    ("GREETING", b"554 5.7.1 not you\r\n", "bounced"),
    ("GREETING", b"421 busy\r\n", "deferred"),
    ("GREETING", b"HTTP/1.1 400 Bad Request\r\n", "deferred"),
    ("GREETING", b"\x00\x01\x02\r\n", "deferred"),
    ("EHLO", None, "deferred"),
    ("EHLO", HANG, "deferred"),
    ("EHLO", b"421 4.3.2 no\r\n", "deferred"),
    ("EHLO", b"250-x\r\n" * 1000, "deferred"),
    ("EHLO", b"250-" + b"x" * 100_000, "deferred"),
    ("MAIL", None, "deferred"),
    ("MAIL", HANG, "deferred"),
    ("MAIL", b"250 ok\r\n" * 1000, "deferred"),
    ("RCPT", None, "deferred"),
    ("RCPT", HANG, "deferred"),
    ("DATA", None, "deferred"),
    ("DATA", HANG, "deferred"),
    ("DATA", b"250 what\r\n", "deferred"),
]


@pytest.mark.parametrize(("verb", "answer", "status"), LOSING)
async def test_what_ends_the_session_before_the_message(verb: str, answer: Answer, status: str) -> None:
    async with Peer(answers={verb: answer}).running() as peer:
        with pytest.raises(Lost) as caught:
            await send(peer, timeouts=QUICK if answer == HANG else PATIENT)
        assert caught.value.result.status == status
        assert caught.value.result.remote_mta == "mx.peer.example"
        assert not peer.messages


async def test_nobody_listens() -> None:
    with socket.socket() as held:  # bound, so that nobody else listens there meanwhile
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Lost) as caught:
            await connect(Peer(address=held.getsockname()))
    assert caught.value.result.dsn_code == "4.4.1"
    assert "refused" in caught.value.result.response


async def test_helo_for_old_servers() -> None:
    async with Peer(answers={"EHLO": b"502 5.5.2 what?\r\n"}).running() as peer:
        assert statuses(await send(peer)) == [("sent", "2.0.0")]
        assert peer.lines[1:3] == [b"HELO us.example\r\n", b"MAIL FROM:<a@a.example>\r\n"]
    async with Peer(answers={"EHLO": b"502 what?\r\n", "HELO": b"550 no\r\n"}).running() as peer:
        with pytest.raises(Lost) as caught:
            await send(peer)
        assert caught.value.result.status == "bounced"


async def test_what_a_server_cannot_take_is_not_tried() -> None:
    async with Peer(extensions=("SIZE 10",)).running() as peer:
        assert statuses(await send(peer)) == [("bounced", "5.3.4")]
        assert statuses(await send(peer, mail("grün@b.example", raw=b"x"))) == [("bounced", "5.6.7")]
        assert statuses(await send(peer, mail(raw=b"\xfc"))) == [("bounced", "5.6.3")]
        assert not any(line.startswith(b"MAIL") for line in peer.lines)


async def test_parameters_for_8bit_and_utf8() -> None:
    async with Peer(extensions=("SMTPUTF8", "8BITMIME")).running() as peer:
        await send(peer, mail("grün@b.example", raw="Subject: grün\r\n\r\nx\r\n".encode()))
        ((sender, recipients, _),) = peer.messages
    assert sender == b"MAIL FROM:<a@a.example> BODY=8BITMIME SMTPUTF8\r\n"
    assert recipients == ["RCPT TO:<grün@b.example>\r\n".encode()]


async def test_a_bare_newline_never_leaves() -> None:
    async with Peer().running() as peer:
        session = await connect(peer)
        assert statuses(await session.send(mail(raw=b"a\nb\r\n"))) == [("bounced", "5.6.0")]
        assert not session.is_open
        assert not peer.messages


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<x@y.example>", "a b@c.example", "a>@c.example", "x" * 400])
async def test_addresses_that_would_be_commands(address: str) -> None:
    async with Peer().running() as peer:
        session = await connect(peer)
        with pytest.raises(Invalid):
            await session.send(mail(address))
        session.abort()
        assert not any(line.startswith(b"MAIL") for line in peer.lines)


async def test_many_recipients_are_several_transactions() -> None:
    async with Peer().running() as peer:
        results = await send(peer, mail(*[f"u{number}@b.example" for number in range(250)]))
        assert [each.status for each in results] == ["sent"] * 250
        assert [len(recipients) for _, recipients, _ in peer.messages] == [100, 100, 50]


async def test_what_an_earlier_transaction_sent_stays_sent() -> None:
    peer = Peer()
    peer.answers["MAIL"] = lambda _line: b"250 ok\r\n" if not peer.messages else None
    async with peer.running():
        results = await send(peer, mail(*[f"u{number}@b.example" for number in range(150)]))
        assert [each.status for each in results] == ["sent"] * 100 + ["deferred"] * 50


async def test_a_server_that_does_not_read() -> None:
    async with Peer(extensions=(), answers={"MESSAGE": DEAF}).running() as peer:
        session = await connect(peer, replace(PATIENT, data_block=0.3))
        with pytest.raises(Lost) as caught:
            await session.send(mail(raw=(b"x" * 70 + b"\r\n") * 200_000))
        assert "the message" in caught.value.result.response


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    return certificates.server_context(*certificates.ensure(tmp_path, "mx.peer.example", now()))


async def test_starttls_when_offered(server_tls: ssl.SSLContext) -> None:
    peer = Peer(extensions=("STARTTLS",), answers={"STAR": b"220 go\r\n"}, tls=server_tls)
    async with peer.running():
        (result,) = await send(peer)
    assert result.status == "sent"
    assert result.tls is not None
    assert result.tls.startswith("TLSv1.3 ")
    assert [line[:4] for line in peer.lines[:3]] == [b"EHLO", b"STAR", b"EHLO"]


async def test_a_broken_handshake_leads_to_clear_text() -> None:
    async with Peer(extensions=("STARTTLS",), answers={"STAR": b"220 go\r\n"}).running() as peer:
        assert statuses(await send(peer)) == [("sent", "2.0.0")]
        assert peer.connections == 2


async def test_a_refused_starttls_too() -> None:
    async with Peer(extensions=("STARTTLS",), answers={"STAR": b"454 4.7.0 not now\r\n"}).running() as peer:
        assert statuses(await send(peer)) == [("sent", "2.0.0")]
        assert peer.connections == 1


async def test_what_comes_in_clear_after_starttls_is_not_believed(server_tls: ssl.SSLContext) -> None:
    answers: dict[str, Answer] = {"STAR": b"220 go\r\n250 2.0.0 injected\r\n"}
    async with Peer(extensions=("STARTTLS",), answers=answers, tls=server_tls).running() as peer:
        endpoint = Endpoint("mx.peer.example", *peer.address)
        with pytest.raises(Lost):
            await smtp_client.connect(
                endpoint, "us.example", PATIENT, tls="required", context=smtp_client.opportunistic_context()
            )


async def test_required_tls_is_required(server_tls: ssl.SSLContext) -> None:
    for extensions, tls in (((), None), (("STARTTLS",), server_tls)):  # none at all; a certificate nobody vouches for
        async with Peer(extensions=extensions, answers={"STAR": b"220 go\r\n"}, tls=tls).running() as peer:
            with pytest.raises(Lost) as caught:
                await smtp_client.connect(
                    Endpoint("mx.peer.example", *peer.address),
                    "us.example",
                    PATIENT,
                    tls="required",
                    context=ssl.create_default_context(),
                )
            assert caught.value.result.status == "deferred"


async def test_login() -> None:
    for mechanism, answers in (
        ("PLAIN", {"AUTH": b"235 ok\r\n"}),
        (
            "LOGIN",
            {"AUTH": b"334 VXNlcg==\r\n", "dXNl": b"334 UGFz\r\n", "DXNL": b"334 UGFz\r\n", "CGFZ": b"235 ok\r\n"},
        ),
    ):
        async with Peer(extensions=(f"AUTH {mechanism}",), answers=dict(answers)).running() as peer:
            session = await connect(peer, login=Login("user", "pass"))
            assert statuses(await session.send(mail())) == [("sent", "2.0.0")]
            await session.quit()
            assert peer.lines[1].startswith(b"AUTH " + mechanism.encode())
    for extensions in (("AUTH PLAIN",), ("AUTH CRAM-MD5",)):
        async with Peer(extensions=extensions, answers={"AUTH": b"535 5.7.8 no\r\n"}).running() as peer:
            with pytest.raises(Lost) as caught:
                await connect(peer, login=Login("user", "secret"))
            assert caught.value.result.status == "deferred"
            assert "secret" not in repr(caught.value.result)


async def test_an_idle_session_notices_that_the_server_has_gone() -> None:
    async with Peer().running() as peer:
        session = await connect(peer)
        await session.send(mail())
    with pytest.raises(Lost):
        await session.send(mail())
    assert not session.is_open
