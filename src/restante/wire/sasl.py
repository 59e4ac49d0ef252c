"""SASL for servers: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), with their base64 (RFC 4954 §4).

An exchange is started with the mechanism's name and stepped with each decoded response until it yields credentials.
Every failure is Invalid(code="sasl_syntax"); whether the credentials hold is decided elsewhere.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Protocol

from restante import errors

MECHANISMS = ("PLAIN", "LOGIN")
MAX_RESPONSE = 4096  # characters of base64, or decoded bytes
MAX_USERNAME = 320  # bytes, as long as an address may be
MAX_PASSWORD = 1024  # bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims; the password never shows in a ``repr``."""

    username: str
    password: str = field(repr=False)


class Exchange(Protocol):
    """One authentication under way."""

    def step(self, response: bytes | None) -> bytes | Credentials:
        """Take the next response (None: there was no initial one); return the next challenge, or the credentials."""
        ...


class Plain:
    """``[authzid] NUL authcid NUL passwd`` in one response; acting as another identity is not offered."""

    __slots__ = ()

    def step(self, response: bytes | None) -> bytes | Credentials:
        if response is None:
            return b""
        fields = response.split(b"\0")
        if len(fields) != 3:
            raise _invalid()
        identity, username, password = fields
        if identity not in (b"", username):
            raise _invalid()
        return _credentials(username, password)


class Login:
    """The user's name, then the password, each asked for; some clients send the name at once."""

    __slots__ = ("_username",)

    def __init__(self) -> None:
        self._username: bytes | None = None

    def step(self, response: bytes | None) -> bytes | Credentials:
        if response is None:
            return b"Username:"
        if self._username is None:
            self._username = response
            return b"Password:"
        return _credentials(self._username, response)


def start(mechanism: str) -> Exchange:
    """A new exchange of a mechanism (any case). Raises Invalid(code="sasl_mechanism") for one that is not known."""
    match mechanism.upper():
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case _:
            raise errors.Invalid("unknown authentication mechanism", code="sasl_mechanism")


def decode(text: bytes) -> bytes:
    """The bytes of a base64 response; ``=`` stands for an empty one (RFC 4954 §4)."""
    if text == b"=":
        return b""
    if len(text) > MAX_RESPONSE:
        raise _invalid()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid() from None


def encode(challenge: bytes) -> bytes:
    """A challenge as base64."""
    return base64.b64encode(challenge)


def _credentials(username: bytes, password: bytes) -> Credentials:
    if not 0 < len(username) <= MAX_USERNAME or not 0 < len(password) <= MAX_PASSWORD:
        raise _invalid()
    if b"\0" in username or b"\0" in password:
        raise _invalid()
    try:
        return Credentials(username.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        raise _invalid() from None


def _invalid() -> errors.Invalid:
    return errors.Invalid("the authentication data cannot be read", code="sasl_syntax")
