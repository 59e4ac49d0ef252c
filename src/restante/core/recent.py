"""What was looked at of late, kept in memory: for what is made of rows that never change."""

from collections.abc import Sized
from typing import Generic, TypeVar

T = TypeVar("T", bound=Sized)


class Recent(Generic[T]):
    """Texts by a number that never stands for another one.

    Two generations, of ``most`` characters or bytes each: what was not asked for in the younger one's time is dropped.
    """

    __slots__ = ("_before", "_most", "_now", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._now: dict[int, T] = {}
        self._before: dict[int, T] = {}
        self._size = 0

    def get(self, number: int) -> T | None:
        """The text, if it is here."""
        found = self._now.get(number)
        if found is None and (found := self._before.get(number)) is not None:
            self.put(number, found)
        return found

    def put(self, number: int, text: T) -> None:
        """Keep a text."""
        if self._size + len(text) > self._most:
            self._before, self._now, self._size = self._now, {}, 0
        self._now[number] = text
        self._size += len(text)
