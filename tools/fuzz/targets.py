"""All targets by name: adding one is one module and one line."""

from collections.abc import Callable

from tools.fuzz.api import Api
from tools.fuzz.compose import Compose
from tools.fuzz.engine import Target
from tools.fuzz.header import Header
from tools.fuzz.mime import Mime
from tools.fuzz.report import Replies, Report
from tools.fuzz.smtp import Smtp

TARGETS: dict[str, Callable[[int], Target]] = {
    "smtp": Smtp,
    "mime": Mime,
    "header": Header,
    "api": Api,
    "compose": Compose,
    "report": lambda _seed: Report(),
    "replies": Replies,
}
