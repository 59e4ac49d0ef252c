"""Columns of values that a statement takes as one parameter each; the driver knows them by their type."""


class Numbers(list[int | None]):
    """A column of 64-bit integers."""


class Texts(list[str | None]):
    """A column of texts."""


class Blobs(list[bytes | None]):
    """A column of bytes."""


class Vectors(list[bytes]):
    """A column of ``tsvector`` (``schema.fulltext.postgres.vector``)."""
