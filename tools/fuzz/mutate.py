"""Mutations of byte strings: flips, cuts, copies, splices with other seeds and with a dictionary of the target."""

import random
from collections.abc import Sequence

INTERESTING = (0, 9, 10, 13, 32, 34, 39, 40, 41, 44, 45, 46, 47, 58, 59, 60, 61, 62, 63, 64, 92, 127, 128, 194, 255)
HUGE_BYTES = 65_536  # one input in two hundred may grow to it


class Mutator:
    """Makes inputs from a pool of seeds; ``pool`` may grow while it is used."""

    def __init__(
        self, rng: random.Random, seeds: Sequence[bytes], dictionary: Sequence[bytes], largest_bytes: int
    ) -> None:
        self._rng = rng
        self.pool = list(seeds) or [b""]
        self._largest_bytes = largest_bytes
        self._dictionary = tuple(dictionary) or (b"\r\n",)

    def next(self) -> bytes:
        """An input: a seed changed in one to eight places."""
        rng = self._rng
        data = bytearray(self.pool[int(rng.random() * len(self.pool))])
        for _ in range(1 << int(rng.random() * 4)):
            self._change(data)
        return bytes(data[: HUGE_BYTES if rng.random() < 0.005 else self._largest_bytes])

    def _change(self, data: bytearray) -> None:
        rng = self._rng
        kind = int(rng.random() * 11)
        size = len(data)
        at = int(rng.random() * (size + 1))
        length = 1 + int(rng.random() ** 3 * min(size, 400))
        if kind == 0 and at < size:
            data[at] ^= 1 << int(rng.random() * 8)
        elif kind == 1 and at < size:
            data[at] = rng.choice(INTERESTING)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind in (4, 5):
            data[at:at] = rng.choice(self._dictionary)
        elif kind == 6:
            token = rng.choice(self._dictionary)
            data[at : at + len(token)] = token
        elif kind == 7:
            other = self.pool[int(rng.random() * len(self.pool))]
            start = int(rng.random() * (len(other) + 1))
            data[at:at] = other[start : start + 1 + int(rng.random() ** 2 * 400)]
        elif kind == 8:
            self._swap_lines(data)
        elif kind == 9:
            data[at:at] = bytes([rng.choice(INTERESTING)])
        elif rng.random() < 0.02:
            data[at:at] = rng.choice(self._dictionary) * rng.randrange(2, 2_000)
        elif rng.random() < 0.2:
            del data[at:]

    def _swap_lines(self, data: bytearray) -> None:
        lines = data.split(b"\n")
        if len(lines) > 2:
            first, second = self._rng.randrange(len(lines)), self._rng.randrange(len(lines))
            lines[first], lines[second] = lines[second], lines[first]
            data[:] = b"\n".join(lines)
