"""Networks by name: ``get_model('fcn', backbone='resnet18', nclass=19)``."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MXNetSegError, UnknownNameError, reason, short
from ..registry import Registry
from .backbones import BACKBONES

if TYPE_CHECKING:
    from ._base import SegModel

__all__ = ["MODELS", "build_model", "get_model", "list_models", "model_arguments"]

# A new network is one file, one line here, one configuration and one golden file.
MODELS = Registry("model", {
    "acfnet": "mxnetseg.models.acfnet:ACFNet",
    "alignseg": "mxnetseg.models.alignseg:AlignSeg",
    "att2scale": "mxnetseg.models.att2scale:AttentionToScale",
    "attanet": "mxnetseg.models.attanet:AttaNet",
    "bisenet": "mxnetseg.models.bisenet:BiSeNet",
    "canet": "mxnetseg.models.canet:CANet",
    "canetv2": "mxnetseg.models.canetv2:CANetv2",
    "danet": "mxnetseg.models.danet:DANet",
    "ddrnet": "mxnetseg.models.ddrnet:DDRNet",
    "deeplabv3": "mxnetseg.models.deeplabv3:DeepLabv3",
    "deeplabv3plus": "mxnetseg.models.deeplabv3plus:DeepLabv3Plus",
    "denseaspp": "mxnetseg.models.denseaspp:DenseASPP",
    "eprnet": "mxnetseg.models.eprnet:EPRNet",
    "fapn": "mxnetseg.models.fapn:FaPN",
    "fastscnn": "mxnetseg.models.fastscnn:FastSCNN",
    "fcn": "mxnetseg.models.fcn:FCN",
    "flattenet": "mxnetseg.models.flattenet:FlatteNet",
    "gffnet": "mxnetseg.models.gffnet:GFFNet",
    "hrnet": "mxnetseg.models.hrnet:HRNet",
    "icnet": "mxnetseg.models.icnet:ICNet",
    "ladderdensenet": "mxnetseg.models.ladderdensenet:LadderDenseNet",
    "ocrnet": "mxnetseg.models.ocrnet:OCRNet",
    "ovenet": "mxnetseg.models.ovenet:OVeNet",
    "pidnet": "mxnetseg.models.pidnet:PIDNet",
    "pspnet": "mxnetseg.models.pspnet:PSPNet",
    "seenet": "mxnetseg.models.seenet:SeENet",
    "segformer": "mxnetseg.models.segformer:SegFormer",
    "semanticfpn": "mxnetseg.models.semanticfpn:SemanticFPN",
    "setr": "mxnetseg.models.setr:SETR",
    "sfnet": "mxnetseg.models.sfnet:SFNet",
    "swiftnet": "mxnetseg.models.swiftnet:SwiftNet",
    "swiftnetpr": "mxnetseg.models.swiftnetpr:SwiftNetPr",
    "upernet": "mxnetseg.models.upernet:UPerNet",
}, aliases={
    "AttentionToScale": "att2scale",
    "FCNResNet": "fcn", "FCNMobileNet": "fcn", "FCN32s": "fcn",
    "DeepLabv3PlusR": "deeplabv3plus", "DeepLabv3PlusX": "deeplabv3plus",
    "BiSeNetR": "bisenet", "BiSeNetX": "bisenet",
    "SwiftResNet": "swiftnet",
    "SwiftResNetPr": "swiftnetpr",
    "CANetv1": "canet",
}, listed_by="mxnetseg models")


def list_models() -> list[str]:
    """Return the names of the networks, sorted.

    >>> from mxnetseg.models import list_models
    >>> [name for name in list_models() if name.startswith("deeplab")]
    ['deeplabv3', 'deeplabv3plus']
    """
    return MODELS.names()


def model_arguments(name: str) -> list[str]:
    """Return the names of the arguments that this network's class takes, norms aside.

    >>> from mxnetseg.models import model_arguments
    >>> model_arguments("fcn")
    ['nclass', 'backbone', 'output_stride', 'head_channels', 'variant', 'aux']

    Raises:
        UnknownNameError: unknown network; the message has the nearest names.
    """
    parameters = inspect.signature(MODELS.get(name).__init__).parameters
    return [p for p in parameters if p not in ("self", "norm_layer", "norm_kwargs")]


def build_model(name: str, *, norm_layer: type | None = None, norm_kwargs: Mapping | None = None,
                **arguments: Any) -> SegModel:
    """Build a network without initialising its parameters.

    Args:
        name: see :func:`get_model`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
        **arguments: arguments of the network's class, see :func:`model_arguments`. None means the class's default.

    Raises:
        UnknownNameError: unknown network, backbone or argument; the message has the nearest names.
        ConfigError: a value that the network does not accept.
    """
    arguments = {key: value for key, value in arguments.items() if value is not None}
    known, parameters = model_arguments(name), inspect.signature(MODELS.get(name).__init__).parameters
    for key, value in arguments.items():
        if key not in known:
            raise UnknownNameError(f"argument of model {MODELS.resolve(name)!r}:", key,
                                   list(dict.fromkeys([*known, *_COMMON])))
        default = parameters[key].default
        if isinstance(default, bool) and not isinstance(value, bool):  # "no" would count as true
            raise ConfigError(f"{key} must be true or false", where=f"model {MODELS.resolve(name)!r}",
                              received=repr(value), fix=f"{key}={default} (the default), or {key}={not default}")

    described = dict(arguments)
    if norm_layer is not None:
        arguments.update(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    try:
        net = MODELS.get(name)(**arguments)
    except MXNetSegError:
        raise
    except Exception as error:  # networks check the values of their arguments, but not every type
        raise ConfigError("the network cannot be built with these arguments", where=f"model {MODELS.resolve(name)!r}",
                          received=f"{short(described)} ({reason(error)})",
                          fix=f"correct the arguments; `mxnetseg summary {MODELS.resolve(name)}` shows a network that "
                              "can be built") from error

    backbone = inspect.signature(type(net).__init__).parameters.get("backbone")
    net.model_name = MODELS.resolve(name)
    if not net.backbone_name:  # set already where another argument chose the backbone
        net.backbone_name = BACKBONES.resolve(arguments.get("backbone", backbone.default)) if backbone else \
            net.model_name
    return net


# common arguments of get_model(): suggested for misspelt ones; GluonCV's ``pretrained`` leads to ``pretrained_base``
_COMMON = ("nclass", "backbone", "norm", "pretrained_base", "root", "ctx")


def get_model(name: str, *, nclass: int = 19, backbone: str | None = None, norm: str = "auto",
              pretrained_base: bool = False, root: str | None = None, ctx: Any | Sequence[Any] | None = None,
              norm_layer: type | None = None, norm_kwargs: Mapping | None = None, **options: Any) -> SegModel:
    """Return a network, initialised and ready to run. Works offline unless ``pretrained_base`` is set.

    >>> import mxnet as mx
    >>> from mxnetseg.models import get_model
    >>> net = get_model("fcn", backbone="resnet18", nclass=19)
    >>> images = mx.nd.zeros((1, 3, 65, 97))  # (N, 3, H, W), normalised with net.mean and net.std
    >>> net(images)[0].shape  # the logits
    (1, 19, 65, 97)

    Args:
        name: a name of :func:`list_models`; case and separators do not matter.
        nclass: number of classes.
        backbone: a name of :func:`~mxnetseg.models.backbones.list_backbones`; None: the network's default.
        norm: ``'auto'``, ``'bn'``, ``'syncbn'`` or ``'gn'``, see :func:`mxnetseg.nn.norm.choose_norm`.
        pretrained_base: start the backbone from published ImageNet weights.
        root: file with these weights; None: see :mod:`~mxnetseg.models.weights.imagenet`.
        ctx: an MXNet context or a list of them; None: ``mx.cpu()``.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV; they replace ``norm``.
        **options: further arguments of this network (``aux``, ``output_stride``, ...), see :func:`model_arguments`.

    Raises:
        UnknownNameError: unknown network, backbone or option; the message has the nearest names.
        ConfigError: a value that the network does not accept.
        EnvironmentProblem: the ImageNet weights are not available.
    """
    import mxnet as mx

    from ..nn.norm import choose_norm
    from .weights.loading import initialize
    from .weights.pretrained import load_pretrained_base

    if not isinstance(nclass, int) or nclass < 1:
        raise ConfigError("a network needs at least one class", where="nclass", received=nclass,
                          fix="the number of classes of the data set, for example nclass=19")

    contexts = list(ctx) if isinstance(ctx, (list, tuple)) else [ctx or mx.cpu()]
    if norm_layer is None:
        norm_layer, norm_kwargs = choose_norm(norm, contexts)
    net = build_model(name, nclass=nclass, backbone=backbone, norm_layer=norm_layer, norm_kwargs=norm_kwargs,
                      **options)
    initialize(net, contexts)
    if pretrained_base:
        load_pretrained_base(net, root)
    return net
