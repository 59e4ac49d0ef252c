"""The log: fields, context, and nothing in it that could harm a terminal or tell a secret."""

import asyncio
import io
import json
import logging

import pytest

from restante import log


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines() -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    log.logger("restante.smtp").info("delivered", message_id=7, ms=1.5, peer="::1", level="x")
    log.logger("restante.smtp").debug("not shown")
    (line,) = _lines(stream)
    assert line["time"]
    assert {key: line[key] for key in ("level", "source", "event", "message_id", "ms", "peer", "level_")} == {
        "level": "info",
        "source": "restante.smtp",
        "event": "delivered",
        "message_id": 7,
        "ms": 1.5,
        "peer": "::1",
        "level_": "x",
    }


def test_secrets_and_control_characters() -> None:
    stream = io.StringIO()
    log.configure("text", "info", stream)
    log.logger("restante.x").info("odd\n\x1b[31m", token="abc", subject="private", helo="a\r\nb\x9b", long="y" * 5000)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "abc" not in text
    assert "private" not in text
    assert "a\\r\\nb\\x9b" in text
    assert len(text) < 2000


def test_bytes_and_lone_surrogates_do_not_break_it() -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    log.logger("restante.x").info("odd", data=b"\xff\x00", text="\udcff", number=float("inf"), other=object())
    assert stream.getvalue().encode()


async def test_context_belongs_to_the_task() -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    source = log.logger("restante.x")

    async def one(name: str) -> None:
        with log.bound(connection=name):
            await asyncio.sleep(0)
            source.info("inside")
        source.info("outside")

    await asyncio.gather(one("a"), one("b"))
    lines = _lines(stream)
    assert sorted(str(line.get("connection")) for line in lines if line["event"] == "inside") == ["a", "b"]
    assert all("connection" not in line for line in lines if line["event"] == "outside")


def test_exceptions_carry_their_traceback() -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    try:
        raise ValueError("a bug")
    except ValueError:
        log.logger("restante.x").exception("failed", step=1)
    (line,) = _lines(stream)
    assert "ValueError: a bug" in str(line["traceback"])


def test_a_closed_stream_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    stream.close()
    log.logger("restante.x").info("nobody hears")
    assert capsys.readouterr().err == ""


def test_other_peoples_libraries_show_warnings_only() -> None:
    stream = io.StringIO()
    log.configure("text", "debug", stream)
    logging.getLogger("someone").info("chatter %s", 1)
    logging.getLogger("someone").warning("trouble %s", 1)
    assert "trouble 1" in stream.getvalue()
    assert "chatter" not in stream.getvalue()
