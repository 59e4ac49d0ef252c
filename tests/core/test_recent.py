"""Texts that were looked at of late."""

from restante.core.recent import Recent


def test_kept_texts_are_bounded() -> None:
    texts: Recent[str] = Recent(100)
    for number in range(50):
        texts.put(number, "x" * 30)
        assert texts.get(number) is not None
        texts.get(0)
    kept = [number for number in range(50) if texts.get(number) is not None]
    assert 0 in kept
    assert len(kept) <= 6
