"""Build backend of mxnetseg: setuptools, with one addition for editable installs.

An editable install belongs to this checkout, so it may require the distributions in ``wheels/`` by their path: then
``pip install -e .`` builds them too. Wheels and source archives require them by name and version, because a package
index refuses paths. ``setup.py`` reads the variable that is set here.
"""
from __future__ import annotations

import os
from contextlib import contextmanager

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks of PEP 517 and PEP 660)

_VARIABLE = "MXNETSEG_EDITABLE"


def get_requires_for_build_editable(config_settings=None):
    with _editable():
        return build_meta.get_requires_for_build_editable(config_settings)


def prepare_metadata_for_build_editable(metadata_directory, config_settings=None):
    with _editable():
        return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with _editable():
        return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


@contextmanager
def _editable():
    """Set the variable for the duration of one hook."""
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
