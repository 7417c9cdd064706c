"""Origins of the files that a preparation makes: by them a later run sees what is out of date."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """Digest of everything an output is made from.

    Args:
        parts: a path counts by its name, size and time of the last change, and may be missing; anything else must be
            bytes, a NumPy array, or what JSON can hold.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        kind, data = ("bytes", part) if isinstance(part, bytes) else (
            "json", json.dumps(part, sort_keys=True, default=_plain).encode())
        digest.update(f"{kind} {len(data)} ".encode() + data)
    return digest.hexdigest()


def _file_state(path: Path) -> Any:
    try:
        state = path.stat()
    except OSError:
        return ["missing", path.name]
    return ["file", path.name, state.st_size, state.st_mtime_ns]


def _plain(value: Any) -> Any:
    """JSON's form of a path, or of a NumPy array or number."""
    return {"path": _file_state(value)} if isinstance(value, Path) else {"array": value.tolist()}
