"""Intake: messages that come at nearly the same time are examined together.

When ten go through a stage one after the other each takes a fifth less time. They also go to the writer as one group,
and while it commits that, the next ones are examined (ADR 0023).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from restante.mail.structure import Buffer

if TYPE_CHECKING:
    from restante.services.storing import Examined

TOGETHER = 16  # messages at most, and
TOGETHER_BYTES = 256 * 1024  # so long the event loop stands still; the last one may go over it
WAIT_SECONDS = 0.003  # for others that are arriving, at most


class Incoming(NamedTuple):
    """A message to be examined; ``envelope_sender`` is "" for the null reverse-path."""

    raw: Buffer
    envelope_sender: str


class _Waiting(NamedTuple):
    """A message, and who waits for what is found out about it. Its bytes may be gone when its caller is."""

    message: Incoming
    size: int
    future: "asyncio.Future[Examined]"


class Intake:
    """Gathers messages for ``examine``, which takes some of them and returns as much about each.

    Half of those that are under way make a group, so that there are two: one is examined, one committed. A message
    that comes alone does not wait.
    """

    def __init__(self, examine: Callable[[Sequence[Incoming]], "Sequence[Examined]"]) -> None:
        self._examine = examine
        self._loop = asyncio.get_running_loop()
        self._expected = 0
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def expect(self, messages: int) -> None:
        """So many more messages (or fewer, when negative) are under way: their bytes arrive or they wait for an answer.

        It only decides for how many the next message waits; what waits already stays as it is.
        """
        self._expected += messages

    def examine(self, message: Incoming) -> "asyncio.Future[Examined]":
        """Examine a message with those that come along."""
        future: asyncio.Future[Examined] = self._loop.create_future()
        self._waiting.append(_Waiting(message, len(message.raw), future))
        if self._expected < 2 and len(self._waiting) == 1:
            self._work()
        else:
            self._plan()
        return future

    @property
    def _wanted(self) -> int:
        under_way = max(self._expected, len(self._waiting))  # not all are expected: what programs send is not
        return max(1, min(under_way // 2, TOGETHER))

    def _plan(self) -> None:
        """See to it that what waits is worked on: soon when there is enough of it, otherwise a little later."""
        if self._is_due or not self._waiting:
            return
        size = sum([each.size for each in self._waiting])
        if len(self._waiting) >= self._wanted or size >= TOGETHER_BYTES:
            self._is_due = True
            self._stop_timer()
            # What was examined just now goes to the writer first: its callers go on in the next turn of the loop, and
            # their calls leave at the end of that.
            self._loop.call_soon(self._loop.call_soon, self._work)
        elif self._timer is None:
            self._timer = self._loop.call_later(WAIT_SECONDS, self._work)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _work(self) -> None:
        self._is_due = False
        self._stop_timer()
        taken = self._take()
        try:
            if taken:
                self._examine_together(taken)
        finally:
            self._plan()

    def _take(self) -> list[_Waiting]:
        """The next group, without those whose caller has gone."""
        waiting = [each for each in self._waiting if not each.future.done()]
        count = size = 0
        for each in waiting[: self._wanted]:
            if size >= TOGETHER_BYTES:
                break
            count, size = count + 1, size + each.size
        self._waiting = waiting[count:]
        return waiting[:count]

    def _examine_together(self, taken: Sequence[_Waiting]) -> None:
        try:
            examined = self._examine([each.message for each in taken])
            for each, found in zip(taken, examined, strict=True):
                each.future.set_result(found)
        except Exception:  # noqa: BLE001 - it is one message's; the others are not to suffer
            for each in taken:
                if not each.future.done():
                    self._examine_alone(each)

    def _examine_alone(self, one: _Waiting) -> None:
        try:
            (found,) = self._examine([one.message])
            one.future.set_result(found)
        except Exception as error:  # noqa: BLE001 - its caller is told
            one.future.set_exception(error)
