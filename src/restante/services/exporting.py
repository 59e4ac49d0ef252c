"""Writing messages to files: ``FOLDER/UID.eml`` with the bytes as stored, and ``manifest.jsonl`` with the rest.

Runs in the command's process. The manifest has one JSON object a line: ``file, folder, uid, id, flags, received_at,
size_bytes, sha256``; ``restante import`` reads it back.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any, Self

from restante.errors import Conflict, Unavailable
from restante.services.importing import MANIFEST

MAX_NAME = 200  # bytes of a folder's name on disk
_UNSAFE = re.compile(rb"[^A-Za-z0-9 _.+@-]|^[. ]|[. ]$")


def safe_name(name: str) -> str:
    """A folder's name as one path component: all but letters, digits and ``_.+@-`` as ``%XX``; never hidden."""
    encoded = _UNSAFE.sub(lambda found: f"%{found[0][0]:02X}".encode(), name.encode("utf-8", "surrogatepass"))
    if len(encoded) > MAX_NAME:
        encoded = encoded[: MAX_NAME - 17] + b"~" + hashlib.sha256(encoded).hexdigest()[:16].encode()
    return encoded.decode("ascii")


class Export:
    """One export being written; it appears under its name when it is complete."""

    def __init__(self, target: Path) -> None:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise Conflict(f"{target} is there and not empty", code="target_exists")
        self._target = target
        self._beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        self.messages = 0
        self.size_bytes = 0

    def __enter__(self) -> Self:
        try:
            self._beside.mkdir(mode=0o700, parents=True)
            self._manifest = (self._beside / MANIFEST).open("x", encoding="utf-8")
        except OSError as error:
            raise Unavailable(f"{self._target} cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._manifest.close()
        if kind is None:
            if self._target.exists():
                self._target.rmdir()
            self._beside.rename(self._target)
        else:
            shutil.rmtree(self._beside, ignore_errors=True)

    def add(self, row: dict[str, Any], raw: bytes) -> None:
        """Write one message; ``row`` is its entry of ``message list``. Raises Unavailable."""
        file = f"{safe_name(row['folder'])}/{row['uid']}.eml"
        entry = {
            "file": file,
            "folder": row["folder"],
            "uid": row["uid"],
            "id": row["id"],
            "flags": row["flags"],
            "received_at": row["received_at"],
            "size_bytes": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        path = self._beside / file
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(raw)
            self._manifest.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise Unavailable(f"{self._target} cannot be written: {error.strerror}") from error
        self.messages += 1
        self.size_bytes += len(raw)
