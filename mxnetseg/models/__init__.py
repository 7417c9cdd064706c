"""Networks by name: ``get_model('fcn', backbone='resnet18', nclass=19)``."""
from __future__ import annotations

import inspect
from typing import List, Optional, Sequence, Union

from ..errors import ConfigError, MXNetSegError, UnknownNameError, reason, short
from ..registry import Registry
from .backbones import BACKBONES

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


def list_models() -> List[str]:
    """Names of the networks, sorted."""
    return MODELS.names()


def model_arguments(name: str) -> List[str]:
    """What :func:`get_model` takes for this network besides its name and the common arguments."""
    parameters = inspect.signature(MODELS.get(name).__init__).parameters
    return [p for p in parameters if p not in ("self", "norm_layer", "norm_kwargs")]


def build_model(name: str, *, norm_layer: Optional[type] = None, norm_kwargs=None, **arguments):
    """Build a network without initialising its parameters.

    Args:
        name: see :func:`get_model`.
        norm_layer, norm_kwargs: GluonCV's idiom.
        **arguments: of the network's class; None means its default. An unknown one is an error.

    Raises:
        UnknownNameError: no such network, backbone or argument; the message has the nearest ones.
    """
    arguments = {key: value for key, value in arguments.items() if value is not None}
    known = model_arguments(name)
    for key in arguments:
        if key not in known:
            raise UnknownNameError(f"argument of model {MODELS.resolve(name)!r}:", key,
                                   list(dict.fromkeys([*known, *_COMMON])))
    described = dict(arguments)
    if norm_layer is not None:
        arguments.update(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    try:
        net = MODELS.get(name)(**arguments)
    except MXNetSegError:
        raise
    except Exception as error:  # networks check values, but not the type of each
        raise ConfigError("the network cannot be built with these arguments", where=f"model {MODELS.resolve(name)!r}",
                          received=f"{short(described)} ({reason(error)})",
                          fix=f"correct the arguments; `mxnetseg summary {MODELS.resolve(name)}` shows a network that "
                              "can be built") from error
    backbone = inspect.signature(type(net).__init__).parameters.get("backbone")
    net.model_name = MODELS.resolve(name)
    if not net.backbone_name:  # the network has not chosen it by another argument
        net.backbone_name = BACKBONES.resolve(arguments.get("backbone", backbone.default)) if backbone else \
            net.model_name
    return net


# what get_model() takes for every network; GluonCV's ``pretrained`` leads to ``pretrained_base``
_COMMON = ("nclass", "backbone", "norm", "pretrained_base", "root", "ctx")


def get_model(name: str, *, nclass: int = 19, backbone: Optional[str] = None, norm: str = "auto",
              pretrained_base: bool = False, root: Optional[str] = None, ctx: Union[None, object, Sequence] = None,
              norm_layer: Optional[type] = None, norm_kwargs=None, **options):
    """A network, initialised and ready to run; offline unless ``pretrained_base`` asks for weights.

    >>> net = get_model('fcn', backbone='resnet18', nclass=19)
    >>> logits = net(mx.nd.zeros((1, 3, 65, 97)))[0]      # (1, 19, 65, 97)

    Args:
        name: a name of :func:`list_models`; case and separators do not matter.
        nclass: classes.
        backbone: a name of :func:`~mxnetseg.models.backbones.list_backbones`; None: the network's default.
        norm: ``'auto'``, ``'bn'``, ``'syncbn'`` or ``'gn'``, see :func:`mxnetseg.nn.norm.choose_norm`.
        pretrained_base: start the backbone from published ImageNet weights.
        root: file with those weights; None: see :mod:`~mxnetseg.models.weights.imagenet`.
        ctx: an MXNet context or a list of them; None: ``mx.cpu()``.
        norm_layer, norm_kwargs: instead of ``norm``, GluonCV's idiom.
        **options: of this network only (``aux``, ``output_stride``, ...). An unknown one is an error.

    Raises:
        UnknownNameError: no such network, backbone or option; the message has the nearest ones.
        ConfigError: a value that the network cannot take.
        EnvironmentProblem: the ImageNet weights cannot be had.
    """
    import mxnet as mx

    from ..nn.norm import choose_norm
    from .weights.loading import initialize, load_pretrained_base

    if not isinstance(nclass, int) or nclass < 1:
        raise ConfigError("a network needs at least one class", where="nclass", received=nclass)
    contexts = list(ctx) if isinstance(ctx, (list, tuple)) else [ctx or mx.cpu()]
    if norm_layer is None:
        norm_layer, norm_kwargs = choose_norm(norm, contexts)
    net = build_model(name, nclass=nclass, backbone=backbone, norm_layer=norm_layer, norm_kwargs=norm_kwargs,
                      **options)
    initialize(net, contexts)
    if pretrained_base:
        load_pretrained_base(net, root)
    return net
