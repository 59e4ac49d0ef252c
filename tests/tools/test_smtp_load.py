"""The load generator: distinct messages of real sizes, bytes as made, and only a 250 counts."""

import email
from email.policy import default

from tools import mailgen, smtp_load, smtp_sink


def test_messages_are_distinct_and_well_formed() -> None:
    mails = mailgen.Generator(3).take(300)
    assert len({mail.raw for mail in mails}) == 300
    assert mailgen.Generator(3).take(3) == mails[:3]
    sizes = sorted(len(mail.raw) for mail in mails)
    assert sizes[0] > 1_000
    assert sizes[150] > 4_000
    assert sizes[-1] < 40_000
    kinds = set()
    for mail in mails:
        bare = mail.raw.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare
        assert b"\n." not in mail.raw
        assert all(len(line) < 998 for line in mail.raw.split(b"\r\n"))
        parsed = email.message_from_bytes(mail.raw, policy=default)
        assert not parsed.defects
        assert mail.key in parsed["subject"]
        kinds.add(parsed.get_content_type())
    assert kinds == {"text/plain", "multipart/alternative", "multipart/mixed"}


async def test_every_message_arrives_once_as_made() -> None:
    received: list[bytes] = []

    def receive(raw: bytes) -> bytes:
        received.append(raw)
        return b"250 2.0.0 kept\r\n"

    mails = mailgen.Generator(4).take(200)
    accepted: list[str] = []
    async with smtp_sink.serve(receive) as address:
        load = await smtp_load.send(address, mails, connections=5, on_accept=lambda mail, _: accepted.append(mail.key))
    assert sorted(received) == sorted(mail.raw for mail in mails)
    assert load.accepted == 200 == len(load.latencies)
    assert sorted(accepted) == sorted(mail.key for mail in mails)
    assert not load.lost_connections
    assert not load.refused


async def test_a_refusal_is_not_counted_as_accepted() -> None:
    answers = iter([b"451 4.3.0 later\r\n", b"250 ok\r\n"] * 10)
    async with smtp_sink.serve(lambda _raw: next(answers)) as address:
        load = await smtp_load.send(address, mailgen.Generator(5).take(20), connections=1)
    assert load.accepted == 10
    assert load.refused == {"451 4.3.0": 10}


async def test_the_time_limit_ends_the_load() -> None:
    source = iter(mailgen.Generator(6).next, None)
    async with smtp_sink.serve() as address:
        load = await smtp_load.send(address, source, connections=2, seconds=0.0)
    assert load.accepted == 2, "one of each connection"
    assert not load.lost_connections
