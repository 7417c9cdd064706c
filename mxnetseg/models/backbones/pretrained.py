"""Where ImageNet weights of GluonCV's classifiers come from.

In this order: a file that is named; a cache (``$MXNETSEG_HOME/models``, then GluonCV's own); a mirror
(``$MXNETSEG_MIRROR``); GluonCV's store, which may be gone. Whatever is found must have the SHA-1 that
GluonCV publishes for it.
"""
from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
import zipfile
import zlib
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import List, Optional, Union

from ...errors import CheckpointError, EnvironmentProblem
from ...files import atomic_write, home

log = logging.getLogger(__name__)

MIRROR_VARIABLE = "MXNETSEG_MIRROR"
_STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
_TIMEOUT = 30.0  # seconds without an answer
# no server, no such file, no address, an answer cut short, no zip file, one without the member, a damaged one
_BROKEN = (OSError, ValueError, http.client.HTTPException, zipfile.BadZipFile, KeyError, zlib.error)


def caches() -> List[Path]:
    """Folders that may hold weight files, first ours, then GluonCV's."""
    gluoncv = Path(os.environ.get("MXNET_HOME") or Path.home() / ".mxnet")
    return [home() / "models", gluoncv / "models"]


def mirrors() -> List[str]:
    """Addresses below which ``gluon/models/FILE.zip`` is looked for."""
    named = [os.environ.get(MIRROR_VARIABLE), os.environ.get("MXNET_GLUON_REPO")]
    return [url.rstrip("/") + "/" for url in [*filter(None, named), _STORE]]


def find_weights(gluoncv_name: str, path: Optional[Union[str, Path]] = None) -> Path:
    """A file with GluonCV's weights for ``gluoncv_name``, downloaded if it must be.

    Args:
        gluoncv_name: as in GluonCV's model zoo, ``'resnet50_v1s'``.
        path: take this file and look nowhere else (its checksum is yours to answer for).

    Raises:
        CheckpointError: ``path`` does not exist.
        EnvironmentProblem: nowhere to be had; the message says where to put the file by hand.
    """
    if path is not None:
        if not Path(path).is_file():
            raise CheckpointError("the backbone's weight file is not there", where=path,
                                  fix="correct model.pretrained_path, or leave it out to look in the caches")
        return Path(path)
    sha1 = _published_sha1(gluoncv_name)
    name = f"{gluoncv_name}-{sha1[:8]}"
    tried = []
    for folder in caches():
        candidate = folder / f"{name}.params"
        if candidate.is_file() and _sha1(candidate.read_bytes()) == sha1:
            return candidate
        tried.append(f"{candidate}: " + ("wrong checksum" if candidate.is_file() else "not there"))
    target = caches()[0] / f"{name}.params"
    for mirror in mirrors():
        url = f"{mirror}gluon/models/{name}.zip"
        try:
            weights = _download(url, f"{name}.params")
        except _BROKEN as error:
            tried.append(f"{url}: {error}")
            continue
        if _sha1(weights) != sha1:
            tried.append(f"{url}: wrong checksum")
            continue
        with atomic_write(target) as file:
            file.write(weights)
        log.info("downloaded %s to %s", url, target)
        return target
    raise EnvironmentProblem(
        f"the ImageNet weights of {gluoncv_name} could not be had", where="\n".join(tried),
        fix=f"copy {name}.params (SHA-1 {sha1}) to {target.parent}, or set {MIRROR_VARIABLE} to a server that "
            f"has gluon/models/{name}.zip, or name a file with model.pretrained_path, or start without "
            "(pretrained_base=False)")


def _published_sha1(gluoncv_name: str) -> str:
    known = import_module("gluoncv.model_zoo.model_store")._model_sha1
    if gluoncv_name not in known:
        raise EnvironmentProblem(f"GluonCV has published no weights of {gluoncv_name}",
                                 fix="start without (pretrained_base=False), or name a file")
    return known[gluoncv_name]


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _download(url: str, member: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
        archive = zipfile.ZipFile(BytesIO(answer.read()))
    return archive.read(member)
