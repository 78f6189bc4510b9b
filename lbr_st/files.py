"""Writing so that nothing half-written is ever taken for finished, and fingerprints of what was read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What a name ends with until the file is whole.
UNFINISHED = ".unfinished"


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write a text, or pieces of one, whole or not at all: to a neighbour first, then renamed over ``path``."""
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
        file.writelines([text] if isinstance(text, str) else text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON Lines file whole or not at all."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of one file, as ``sha256sum`` gives it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(paths: Iterable[str | Path]) -> str:
    """Return the SHA-256 of the files' contents in the order given, as 64 hex digits."""
    return hashlib.sha256(b"".join(bytes.fromhex(file_sha256(path)) for path in paths)).hexdigest()
