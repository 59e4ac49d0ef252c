"""The corpus of real mail beside the repository: read in place, never copied; every tool works without it too."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import zstandard

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of the corpus: ``name`` is its path as in ``MANIFEST.tsv``, ``raw`` the bytes as found."""

    name: str
    raw: bytes


def available() -> bool:
    """Whether the corpus lies beside the repository."""
    return (CORPUS / "MANIFEST.tsv").is_file()


def manifest() -> list[dict[str, str]]:
    """The rows of ``MANIFEST.tsv``, column name -> value."""
    lines = (CORPUS / "MANIFEST.tsv").read_text("utf-8").splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"), strict=False)) for line in lines[1:] if line]


def archives() -> Iterator[Sample]:
    """Every file of every archive, in archive order."""
    for path in sorted(CORPUS.glob("*.tar.zst")):
        with path.open("rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file).read()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield Sample(member.name.removeprefix("./"), content.read())


@cache
def samples() -> tuple[Sample, ...]:
    """Every message that the manifest lists, in its order; () when the corpus is absent."""
    if not available():
        return ()
    files = {(sample.name, hashlib.sha256(sample.raw).hexdigest()[:16]): sample for sample in archives()}
    return tuple(files[row["path"], row["sha256_16"]] for row in manifest())  # one archive has a name twice
