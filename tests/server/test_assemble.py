"""Assembly: what is said of a data directory that is not whole."""

import logging

import pytest

from restante.config import Config
from restante.server import assemble


async def test_a_lost_instance_secret_is_told(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "restante"):
        async with assemble.open_runtime(config):
            assert caplog.records == []
        (config.data_dir / "secret.key").unlink()
        async with assemble.open_runtime(config):
            assert [record.message for record in caplog.records] == ["secret key missing; a new one is made"]
