"""Listeners: opened together, or one line that says what to change."""

import socket

import pytest

from restante.config import Config, ListenAddress, load
from restante.errors import Unavailable
from restante.server import listeners


def _config(http: str, smtp: str, submission: str = "off") -> Config:
    return load({"http.listen": http, "smtp.listen": smtp, "submission.listen": submission}, {})


def test_opens_all_on_loopback() -> None:
    opened = listeners.open_listeners(_config("127.0.0.1:0,localhost:0", "127.0.0.1:0"))
    try:
        assert {name: len(sockets) for name, sockets in opened.items()} == {"http": 2, "smtp": 1, "submission": 0}
        address = listeners.bound_address(opened["smtp"][0])
        assert address.host == "127.0.0.1"
        assert address.port > 0
        with socket.create_connection(address, timeout=5):
            pass
    finally:
        listeners.close_listeners(opened)


def test_a_port_in_use_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"^port {port} is in use; choose another with --smtp$"):
            listeners.open_listeners(_config("127.0.0.1:0", f"127.0.0.1:{port}"))


def test_an_address_of_another_machine() -> None:
    with pytest.raises(Unavailable, match="no address of this machine; choose another with --http"):
        listeners.open_listeners(_config("192.0.2.1:8025", "off"))


def test_shown() -> None:
    assert listeners.shown(ListenAddress("::1", 25)) == "[::1]:25"
    assert listeners.shown(ListenAddress("127.0.0.1", 25)) == "127.0.0.1:25"
