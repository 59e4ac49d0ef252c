"""Listening sockets: opened before anything else starts, with errors that say what to do."""

import errno
import socket

from restante.config import Config, ListenAddress, parse_listen
from restante.errors import Unavailable

BACKLOG = 1024  # connections that wait to be accepted; the kernel's own limit may be lower

FLAGS = {"http": "--http", "smtp": "--smtp", "submission": "--submission"}


def open_listeners(config: Config) -> dict[str, list[socket.socket]]:
    """Bind and listen for ``http``, ``smtp`` and ``submission``; all or none.

    Raises ``Unavailable`` with one line for people: ``port 2525 is in use; choose another with --smtp``.
    """
    opened: dict[str, list[socket.socket]] = {}
    try:
        for service, flag in FLAGS.items():
            opened[service] = []
            for address in parse_listen(getattr(config, service).listen):
                opened[service].append(open_listener(address, flag))
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def close_listeners(opened: dict[str, list[socket.socket]]) -> None:
    """Close every socket of ``open_listeners``."""
    for sockets in opened.values():
        for each in sockets:
            each.close()


def open_listener(address: ListenAddress, flag: str) -> socket.socket:
    """One listening, non-blocking TCP socket; ``flag`` is what the error tells people to change."""
    try:
        family, kind, proto, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise Unavailable(f"the host {address.host} of {flag} is not known here", code="cannot_listen") from error
    opened = socket.socket(family, kind, proto)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(target)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise Unavailable(_reason(error, address, flag), code="cannot_listen") from error
    return opened


def _reason(error: OSError, address: ListenAddress, flag: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {address.port} is in use; choose another with {flag}"
        case errno.EACCES | errno.EPERM:
            return f"port {address.port} needs more rights; choose one above 1023 with {flag}"
        case errno.EADDRNOTAVAIL:
            return f"{address.host} is no address of this machine; choose another with {flag}"
        case _:
            return f"cannot listen on {shown(address)} ({flag}): {error.strerror}"


def shown(address: ListenAddress) -> str:
    """``127.0.0.1:8025`` or ``[::1]:8025``."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def bound_address(opened: socket.socket) -> ListenAddress:
    """Where a socket really listens (port 0 has become a number)."""
    name = opened.getsockname()
    return ListenAddress(name[0], name[1])
