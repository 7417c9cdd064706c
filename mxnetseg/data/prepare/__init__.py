"""Convert downloads and the user's own annotations for a data set: ``prepare('nyuv2', source, target)``.

Each conversion has one file and one line in the registry. It lists the files to make. Each file is written atomically,
with a digest of its sources (:mod:`~mxnetseg.data.prepare.stamp`). So a second run makes only the files whose sources
have changed, and an interrupted run resumes.
"""
from __future__ import annotations

from .auto import Recognised, recognise
from .base import Preparation, Prepared, prepare
from .registry import PREPARATIONS

__all__ = ["PREPARATIONS", "Preparation", "Prepared", "Recognised", "prepare", "recognise"]
