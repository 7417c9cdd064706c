"""Speed, measured side by side: competitors take turns in one run, each in a process of its own."""
from __future__ import annotations

from pathlib import Path


def theirs_path() -> Path:
    """The script of the competitors in PyTorch, which a Python without mxnetseg can run."""
    return Path(__file__).with_name("theirs.py")
