"""PLAIN and LOGIN: what yields credentials, what is refused, what is bounded."""

import pytest

from restante import errors
from restante.wire import sasl


def test_plain() -> None:
    exchange = sasl.start("plain")
    assert exchange.step(None) == b""
    assert exchange.step(b"\0user\0pass") == sasl.Credentials("user", "pass")
    assert exchange.step(b"user\0user\0p\xc3\xa4ss") == sasl.Credentials("user", "päss")


@pytest.mark.parametrize(
    "response",
    [b"", b"user", b"\0user", b"\0\0pass", b"\0user\0", b"other\0user\0pass", b"\0u\0p\0x", b"\0\xff\0p",
     b"\0" + b"u" * 321 + b"\0p", b"\0u\0" + b"p" * 1025],
)  # fmt: skip
def test_plain_refuses(response: bytes) -> None:
    with pytest.raises(errors.Invalid) as caught:
        sasl.start("PLAIN").step(response)
    assert caught.value.code == "sasl_syntax"


def test_login() -> None:
    exchange = sasl.start("LOGIN")
    assert exchange.step(None) == b"Username:"
    assert exchange.step(b"user") == b"Password:"
    assert exchange.step(b"pass") == sasl.Credentials("user", "pass")
    early = sasl.start("login")
    assert early.step(b"user") == b"Password:"
    assert early.step(b"pass") == sasl.Credentials("user", "pass")
    for username, password in ((b"", b"p"), (b"u", b""), (b"u\0", b"p")):
        exchange = sasl.start("LOGIN")
        exchange.step(username)
        with pytest.raises(errors.Invalid):
            exchange.step(password)


def test_mechanisms_and_base64() -> None:
    with pytest.raises(errors.Invalid) as caught:
        sasl.start("CRAM-MD5")
    assert caught.value.code == "sasl_mechanism"
    assert sasl.decode(b"=") == b""
    assert sasl.decode(sasl.encode(b"\0a\0b")) == b"\0a\0b"
    for bad in (b"!!!", b"YQ", b"YQ==\n", b"A" * 5000):
        with pytest.raises(errors.Invalid):
            sasl.decode(bad)
    assert "geheim" not in repr(sasl.Credentials("u", "geheim"))
