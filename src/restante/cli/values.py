"""Kinds of argument: sizes, rate limits, passwords."""

import sys
from typing import Any

import click

from restante.config import parse_size


class Size(click.ParamType[int]):
    """A number of bytes such as ``10G``; ``none`` for no limit (given back as -1)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.lower() == "none":
            return -1
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(f"'{value}' is not {error}, or none", param, ctx)


class Limit(click.ParamType[int]):
    """A number of 1 or more; ``none`` for no limit (given back as 0, as it is stored)."""

    name = "n|none"

    def __init__(self, what: str = "a number of 1 or more", digits: int = 18) -> None:
        self._what, self._digits = what, digits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.lower() == "none":
            return 0
        if not (value.isascii() and value.isdigit() and len(value) <= self._digits and int(value)):
            self.fail(f"'{value}' is not {self._what}, or none", param, ctx)
        return int(value)


RATE_LIMIT = Limit("a number of requests a minute", 9)


def limit(size: int | None) -> int | None:
    """A quota as the operations take it: None for no limit."""
    return None if size is None or size < 0 else size


def password_from(password: str | None, from_stdin: bool) -> str | None:
    """The password given, or the first line of standard input."""
    if not from_stdin:
        return password
    if password is not None:
        raise click.UsageError("--password and --password-stdin exclude each other")
    line = sys.stdin.readline(4096).rstrip("\r\n")
    if not line:
        raise click.UsageError("standard input holds no password")
    return line
