"""The self-made certificate: made once, renewed when it must be, and good for a TLS client."""

import asyncio
import ssl
import stat
from datetime import timedelta
from pathlib import Path

from restante import clock
from restante.net import certificates


def test_it_is_made_once_and_renewed_when_needed(tmp_path: Path) -> None:
    now = clock.now()
    certificate, key = certificates.ensure(tmp_path, "mail.example.test", now)
    first = certificate.read_bytes(), key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    certificates.ensure(tmp_path, "mail.example.test", now + timedelta(days=366))
    assert (certificate.read_bytes(), key.read_bytes()) == first
    certificates.ensure(tmp_path, "mail.example.test", now + timedelta(days=368))
    second = certificate.read_bytes(), key.read_bytes()
    assert second[0] != first[0]
    certificates.ensure(tmp_path, "other.example.test", now + timedelta(days=368))
    third = certificate.read_bytes()
    assert third != second[0]
    key.write_bytes(first[1])  # no pair any more, as after a crash between the two writes
    certificates.ensure(tmp_path, "other.example.test", now + timedelta(days=368))
    assert certificate.read_bytes() != third
    certificate.write_text("nonsense")
    certificates.server_context(*certificates.ensure(tmp_path, "other.example.test", now))
    assert {path.name for path in tmp_path.iterdir()} == {"cert.pem", "key.pem"}


async def test_a_client_that_trusts_it_checks_the_name(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, "mail.example.test", clock.now())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.server_context(*files))
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(files[0]))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="mail.example.test")
    assert await reader.read() == b"hello"
    assert writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
    writer.close()
    server.close()
