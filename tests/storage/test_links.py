"""Frames over a link between two processes."""

import pytest

from restante.storage import links


@pytest.mark.parametrize("step", [1, 3, 4, 7, 100])
def test_frames_are_found_wherever_the_bytes_are_cut(step: int) -> None:
    sent = [b"", b"a", b"bc" * 10, b"\0" * 5]
    data = b"".join(map(links.frame, sent))
    buffer, found = bytearray(), []
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        found += links.frames(buffer)
    assert found == sent
    assert not buffer
