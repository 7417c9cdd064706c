"""Networks that are named, not given by a path: the included one, GluonCV's, and those on the Hugging Face hub.

==========================  =====================================================================
name                        network
==========================  =====================================================================
``included``                the one that comes with the package (:mod:`.included`)
``gluoncv:NAME``            a segmentation checkpoint of GluonCV's model store, downloaded once
``hub:USER/NAME@REVISION``  a folder of ``mxnetseg export --format hub`` on the Hugging Face hub
==========================  =====================================================================

Nothing here imports MXNet unless the network is GluonCV's.
"""
from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from .._compat import import_optional
from ..backends.choice import CHECKPOINT, choose_backend
from ..backends.package import HUB_ARRAYS, HUB_CONFIG, HUB_SYMBOL
from ..errors import EnvironmentProblem, UsageError, reason
from ..files import expand
from ..models.weights import gluoncv_zoo
from ..models.weights.downloads import Progress
from .included import describe_included, included_path

log = logging.getLogger(__name__)

INCLUDED, GLUONCV, HUB = "included", gluoncv_zoo.PREFIX, "hub:"
HELP = f"{INCLUDED}, {GLUONCV}NAME, {HUB}USER/NAME"
ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class Located(NamedTuple):
    """A network that a name stands for.

    Attributes:
        network: as :func:`~mxnetseg.engine.network.open_network` takes it.
        description: one line for the user.
    """

    network: Any
    description: str


def is_name(network: Any) -> bool:
    """Return whether a text names a network, and is no path.

    Raises:
        UsageError: it can be read both ways.
    """
    if not isinstance(network, str) or network != INCLUDED and not network.startswith((GLUONCV, HUB)):
        return False
    if os.path.lexists(expand(network)):
        raise UsageError("the name can be read in two ways", received=network,
                         fix=f"./{network} is the file or folder here; rename it to use {_meaning(network)}")
    return True


def locate(name: str, *, backend: str = "auto", revision: str | None = None, local_files_only: bool = False,
           progress: Progress | None = None) -> Located:
    """Find the network that a name stands for; download it if necessary.

    Args:
        name: a text of which :func:`is_name` is true.
        backend: ``'auto'`` or a name of :data:`~mxnetseg.backends.choice.BACKENDS`.
        revision: branch, tag or commit on the hub, if the name has none.
        local_files_only: of the hub, use what was downloaded before.
        progress: called while a checkpoint of GluonCV is downloaded.

    Raises:
        CheckpointError: no network comes with this installation.
        UnknownNameError, UsageError: GluonCV has no such checkpoint, or it is not read; or no id of the hub.
        EnvironmentProblem: the network cannot be downloaded.
    """
    if name == INCLUDED:
        path = included_path(backend)
        return Located(path, describe_included())
    if name.startswith(GLUONCV):
        checkpoint = name[len(GLUONCV):]
        # wrong names and a missing MXNet are refused before the download
        gluoncv_zoo.published(checkpoint)
        choose_backend(backend, CHECKPOINT)
        path = gluoncv_zoo.find(checkpoint, progress)
        from .converted import GluonCVCheckpoint

        return Located(GluonCVCheckpoint(checkpoint, path), f"{name}: {path}")
    folder = hub_folder(name[len(HUB):], revision=revision, local_files_only=local_files_only)
    return Located(folder, f"{name}: {folder}")


def hub_folder(text: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """Return the local folder of a model on the Hugging Face hub, which is downloaded once.

    Args:
        text: ``USER/NAME`` or ``USER/NAME@REVISION``.
        revision: branch, tag or commit; None: that of ``text``, or the main branch.
        local_files_only: use what was downloaded before, without asking the hub.

    Raises:
        UsageError: the text is no id, or two revisions are given.
        EnvironmentProblem: huggingface_hub is not installed, or the model cannot be downloaded.
    """
    identity, at, named = text.partition("@")
    if not ID.fullmatch(identity) or at and not named:
        raise UsageError("not an id of the Hugging Face hub", received=text,
                         fix=f"{HUB}USER/NAME, or {HUB}USER/NAME@REVISION")
    if named and revision is not None:
        raise UsageError("two revisions are given", received=f"{named} and {revision}", fix="leave one out")
    revision = named or revision
    hub = import_optional("huggingface_hub", "a name of the hub", where=identity,
                          fix="pip install 'mxnetseg[hub]', or give a folder")
    try:
        found = hub.snapshot_download(identity, revision=revision, local_files_only=local_files_only,
                                      allow_patterns=[HUB_CONFIG, HUB_SYMBOL, HUB_ARRAYS, "README.md"])
    except Exception as error:  # of many classes, of several libraries
        where = identity if revision is None else f"{identity}, revision {revision}"
        raise EnvironmentProblem("the model cannot be downloaded from the Hugging Face hub", where=where,
                                 received=reason(error),
                                 fix="check the id, the revision, the network, and HF_TOKEN for a private model"
                                 ) from error
    log.info("%s: %s", identity, found)
    return Path(found)


def _meaning(name: str) -> str:
    if name == INCLUDED:
        return "the network that comes with the package"
    return "GluonCV's checkpoint" if name.startswith(GLUONCV) else "the model on the hub"
