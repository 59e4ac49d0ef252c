"""The text of a stored message that search sees, as indexers take it out of a row of ``contents``."""

import zstandard

from restante.mail import message, words
from restante.schema.fulltext.plan import unfold


def folded_text(
    unzip: zstandard.ZstdDecompressor, structure: bytes, raw: bytes | None, folded: bytes | None, size_bytes: int
) -> bytes:
    """The folded text in UTF-8; damaged bytes give an empty one (``verify`` reports them).

    Without ``raw`` (the bytes are in the blob store) it is ``folded``, which reception left there.
    """
    if raw is None:
        return unfold(unzip, folded or b"").encode()
    try:
        text = message.searchable(message.load(structure), unzip.decompress(raw, max_output_size=size_bytes))
    except Exception:  # noqa: BLE001 - no stored message may stop the index
        text = ""
    return words.fold_letters(text).encode()
