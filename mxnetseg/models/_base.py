"""Base class of the networks: ``backbone -> decoder and heads -> resize``, and the loss that the paper declares."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from ..losses import Blend, CrossEntropy, Dice, Focal, LovaszSoftmax, Mining, MixedLoss, Term
from .backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap


class SegModel(HybridBlock):
    """Base class of the networks.

    x: (N, 3, H, W) float32, normalised with :attr:`mean` and :attr:`std`; H and W are at least the output stride
    -> a tuple of maps of the input's size. The first holds the logits (N, nclass, H, W) of the prediction. The others,
    mostly logits too, are used by the loss only; inference does not compute them.

    Args:
        backbone: the feature extractor, registered as ``backbone``. All other parameters belong to the decoder
            and the heads.
        nclass: number of classes.

    Attributes:
        model_name, backbone_name: registered names; set by :func:`~mxnetseg.models.build_model`.
        mean, std: statistics of pixels in [0, 1] that the weights expect as normalisation; saved with every
            checkpoint.
        needs_batch: smallest number of images that a norm must see at once in training, per device, or over all
            devices if the norms are synchronised. It is 2 for networks that normalise 1 x 1 maps, since batch norm
            maps a single value to zero.
        smallest_side: shortest side of an input, in pixels, that the backbone accepts.
        aligned_stride: stride of the map that the network ends by resizing with aligned corners, if all other maps of
            the prediction lie on the same grid or are computed from global context; else 1. Large images are cut
            into tiles that agree with the whole image (:mod:`~mxnetseg.engine.tiles`).
        zero_gradient_at_start: patterns (:mod:`fnmatch`) of the parameters whose gradient is zero until another
            parameter changes, such as the layers multiplied by a gate that starts at 0.
        mxnetseg_classes: names of the classes of MXNetSeg whose ``.params`` files this network reads.
        mxnetseg_prefixes: prefix of a parameter's name in these files -> its prefix in this network, where they
            differ by more than the backbone's prefix. The first match counts.
        foreign_options: format of a weight file -> the arguments, other than the defaults, with which this network
            has the parameters of such a file: ``{"gluoncv": {"rates": (12, 24, 36)}}``. ``mxnetseg convert`` uses
            them.
        structures: sets of arguments of this network that change its parameters, such as the decoder's type.
            ``mxnetseg convert`` tries them, besides the backbones and ``aux``, if the user specifies none.

    Weights of other libraries: :mod:`~mxnetseg.models._foreign` reads the files and lists their formats. A
    network reads a format, for example ``gluoncv``, if it has the method ``from_gluoncv(name)``, which returns our name
    of a tensor, or None for a tensor that this network does not use. The method accepts any string: it returns an
    unknown name as it is, or changed to one that no parameter has. :meth:`adapt_foreign` changes the tensors
    themselves where renaming is not enough.
    """

    backbone_name: str = ""
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    needs_batch: int = 1
    aligned_stride: int = 1
    zero_gradient_at_start: Sequence[str] = ()
    mxnetseg_classes: Sequence[str] = ()
    mxnetseg_prefixes: Mapping[str, str] = {}
    foreign_options: Mapping[str, Mapping[str, object]] = {}
    structures: Sequence[Mapping[str, object]] = ({},)

    def __init__(self, backbone: Backbone, nclass: int):
        super().__init__()
        self.nclass = nclass
        # a user's own network may have any block as its feature extractor
        self.needs_batch = max(type(self).needs_batch, getattr(backbone, "needs_batch", 1))
        self.smallest_side = getattr(backbone, "smallest_side", 1)
        with self.name_scope():
            self.backbone = backbone

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of this network's paper: which outputs have which losses and weights.

        By default these are the main output, weight 1, and, if the network has an ``aux_head``, the next output,
        weight ``aux_weight``. A network whose paper differs overrides this method.

        Args:
            pixel_loss: the losses that the configuration selects, such as cross-entropy.
            aux_weight: weight of the auxiliary heads.
        """
        terms = [Term(0, 1.0, pixel_loss)]
        if getattr(self, "aux_head", None) is not None:
            terms.append(Term(1, aux_weight, pixel_loss))
        return terms

    def loss(self, *, aux_weight: float = 0.5, class_weights: Sequence[float] | None = None,
             label_smoothing: float = 0.0, mining: Mining | None = None, ce: float = 1.0, focal: float = 0.0,
             focal_gamma: float = 2.0, dice: float = 0.0, lovasz: float = 0.0) -> MixedLoss:
        """Return this network's loss. The caller initialises it on the devices.

        Args:
            aux_weight: weight of the auxiliary heads.
            class_weights: class weights of the cross-entropy and the focal loss.
            label_smoothing, mining: see :class:`~mxnetseg.losses.CrossEntropy`.
            ce, focal, dice, lovasz: weights of the losses on each supervised output; a loss with weight 0 is not
                computed.
            focal_gamma: see :class:`~mxnetseg.losses.Focal`.
        """
        losses = [(ce, lambda: CrossEntropy(self.nclass, class_weights=class_weights,
                                            label_smoothing=label_smoothing, mining=mining)),
                  (focal, lambda: Focal(self.nclass, gamma=focal_gamma, class_weights=class_weights)),
                  (dice, lambda: Dice(self.nclass)), (lovasz, lambda: LovaszSoftmax(self.nclass))]
        return MixedLoss(self.terms(Blend([(weight, make()) for weight, make in losses if weight]), aux_weight))

    def named_parameters(self) -> dict[str, object]:
        """Return structural name -> parameter, as ``save_parameters`` names them, without constants."""
        return {name: p for name, p in self._collect_params_with_prefix().items()}

    def from_mxnetseg(self, name: str) -> str | None:
        """Return our name of a parameter in MXNetSeg's ``.params`` files, which have no ``backbone.`` prefix.

        The result is None for a parameter that no output of MXNetSeg's depends on and that this network does not have.
        """
        for theirs, ours in self.mxnetseg_prefixes.items():
            if name.startswith(theirs):
                return ours + name[len(theirs):]
        stem = name.split(".", 1)[0]
        return f"backbone.{name}" if stem in self.backbone._children else name

    @classmethod
    def arguments_of(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
        """Return the arguments of this network that follow from the shapes in a weight file; by default none.

        This is for arguments with too many possible values for :attr:`structures`.

        Args:
            shapes: our name of a parameter -> its shape in the file.
        """
        return {}

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors of a weight file so that only their names still differ from this network's parameters.

        By default these are the same tensors. A network whose original stores a weight in another shape, order or
        number of tensors overrides this method. Since it may be called with the tensors of any file, an override
        changes the tensors that it knows and ignores missing and unknown ones.

        Args:
            form: the file's format, a key of :data:`mxnetseg.models._foreign.FORMS`.
            tensors: name in the file -> tensor; not changed in place.
        """
        return tensors


def norm_options(norm_layer: type, norm_kwargs: Mapping | None) -> dict[str, object]:
    """Return both as the keyword arguments of blocks."""
    return {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}


def four_taps(backbone: Backbone, name: str) -> Sequence[Tap]:
    """Return the taps, fine to coarse, of a backbone that must have four of them.

    Args:
        backbone: the backbone.
        name: its name, for the error message.

    Raises:
        ConfigError: the backbone has another number of taps.
    """
    if len(backbone.taps) != 4:
        raise ConfigError("this network needs a backbone with four taps", where="model.backbone",
                          received=f"{name}, which has {len(backbone.taps)}",
                          fix="a ResNet, DenseNet or MobileNetV2, for example resnet18")
    return backbone.taps
