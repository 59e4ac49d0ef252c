"""The resolver against a name server of our own on a free port."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from restante.errors import RemoteUnavailable
from restante.net.dns import Mx, SystemResolver
from tests.fakes import FakeResolver

ZONE = {
    ("a.example.", "TXT"): ['"v=spf1 " "a -all"', '"other"', '"gr\\195\\188n \\255"'],
    ("a.example.", "MX"): ["20 mx2.a.example.", "10 MX1.a.example."],
    ("null.example.", "MX"): ["0 ."],
    ("a.example.", "A"): ["192.0.2.1"],
    ("a.example.", "AAAA"): ["2001:db8::1"],
}
NAMES = {name for name, _ in ZONE} | {"empty.example."}


class _Server(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text()
        if name == "silent.example.":
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        kind = dns.rdatatype.to_text(question.rdtype)
        if name == "broken.example.":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in NAMES:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif records := ZONE.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
        self._transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Server, local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")
    transport.close()


@pytest.fixture
def resolver(server: tuple[str, int]) -> SystemResolver:
    return SystemResolver((server,), timeout_seconds=60)


async def test_answers(resolver: SystemResolver) -> None:
    assert set(await resolver.txt("a.example")) == {"v=spf1 a -all", "other", "grün \ufffd"}
    assert await resolver.mx("a.example.") == (Mx(10, "mx1.a.example"), Mx(20, "mx2.a.example"))
    assert await resolver.mx("null.example") == (Mx(0, ""),)
    assert await resolver.addresses("LocalHost.") == ("::1", "127.0.0.1"), "name servers know nothing of it"
    assert await resolver.addresses("a.example") == ("2001:db8::1", "192.0.2.1")


@pytest.mark.parametrize("name", ["empty.example", "nowhere.example"])
async def test_nothing_there(resolver: SystemResolver, name: str) -> None:
    assert await resolver.txt(name) == ()
    assert await resolver.mx(name) == ()
    assert await resolver.addresses(name) == ()


@pytest.mark.parametrize("name", ["broken.example", "silent.example", "x" * 70 + ".example", "a..example"])
async def test_trouble_is_not_an_empty_answer(server: tuple[str, int], name: str) -> None:
    resolver = SystemResolver((server,), timeout_seconds=0.5)
    with pytest.raises(RemoteUnavailable) as caught:
        await resolver.txt(name)
    assert (caught.value.code, caught.value.host) == ("dns_failed", name)


async def test_the_fake_answers_alike() -> None:
    fake = FakeResolver(
        {("a.example", "TXT"): ["x"], ("a.example", "MX"): ["20 b", "10 a"], ("b.example", "TXT"): None}
    )
    assert await fake.txt("A.example.") == ("x",)
    assert await fake.mx("a.example") == (Mx(10, "a"), Mx(20, "b"))
    assert await fake.addresses("a.example") == ()
    with pytest.raises(RemoteUnavailable):
        await fake.txt("b.example")
    assert fake.asked[0] == ("a.example", "TXT")
