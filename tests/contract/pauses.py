"""Time for the pauses of a store that was away: it stands still until a test lets a pause end."""

import time
from collections.abc import Callable
from typing import TypeVar

from restante.errors import Unavailable
from restante.storage.blobs import s3

BACK_SECONDS = 60  # a store that works again answers well within them, on any machine

T = TypeVar("T")


class Pauses:
    """Stands in for the module ``time`` in the store."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Seconds of this clock."""
        return self._seconds

    def end(self) -> None:
        """The pause is over: the store is asked again."""
        self._seconds += s3.PAUSE_SECONDS

    def until_back(self, ask: Callable[[], T]) -> T:
        """What is answered when the store is back; right after an outage a request may still be lost."""
        deadline = time.monotonic() + BACK_SECONDS
        while True:
            try:
                return ask()
            except Unavailable as error:
                if error.code != "blob_store_away" or time.monotonic() > deadline:
                    raise
            self.end()
            time.sleep(0.05)
