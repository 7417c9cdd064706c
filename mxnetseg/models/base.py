"""What every network is: ``backbone -> decoder and heads -> resize``, and the loss its paper gives it."""
from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from ..losses import CrossEntropy, MixedLoss, Term
from .backbones.base import Backbone, Tap

# of ImageNet's pixels in [0, 1], RGB: what GluonCV's weights were trained with
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegModel(HybridBlock):
    """Base of the networks.

    x: (N, 3, H, W) float32, normalised with :attr:`mean` and :attr:`std`, any H and W of at least the
    output stride -> a tuple of logits (N, nclass, H, W), the main ones first. The others serve the
    loss; inference drops them and what computes them.

    Args:
        backbone: the feature extractor; registered as ``backbone``, so all other parameters are the
            decoder's and heads'.
        nclass: classes.

    Attributes:
        mean, std: of the pixels in [0, 1] that the weights expect; saved with every checkpoint.
        needs_batch: images that a norm must see at once in training (on one device, or on all together
            where norms are synchronised), for networks that normalise a map of one place: over a single
            value batch norm gives zero.
        zero_gradient_at_start: patterns (:mod:`fnmatch`) of the parameters whose gradient is zero until
            another parameter has left its first value, such as what lies behind a gate that starts at 0.
        mxnetseg_classes: names of the classes of MXNetSeg whose ``.params`` files this network reads.
        mxnetseg_prefixes: beginnings of parameter names in those files -> in this network, where they
            differ by more than the backbone's prefix. The first that fits is taken.
    """

    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    needs_batch: int = 1
    zero_gradient_at_start: Sequence[str] = ()
    mxnetseg_classes: Sequence[str] = ()
    mxnetseg_prefixes: Mapping[str, str] = {}

    def __init__(self, backbone: Backbone, nclass: int):
        super().__init__()
        self.nclass = nclass
        with self.name_scope():
            self.backbone = backbone

    def terms(self, pixel_loss: CrossEntropy, aux_weight: float) -> Sequence[Term]:
        """The loss of this network's paper: which outputs, which weights, which losses.

        Here: the main output, and with weight ``aux_weight`` the next one where the network has an
        ``aux_head``. A network whose paper says otherwise overrides it.

        Args:
            pixel_loss: the cross-entropy that the configuration asks for.
            aux_weight: weight of auxiliary heads.
        """
        terms = [Term(0, 1.0, pixel_loss)]
        if getattr(self, "aux_head", None) is not None:
            terms.append(Term(1, aux_weight, pixel_loss))
        return terms

    def loss(self, *, aux_weight: float = 0.5, class_weights: Optional[Sequence[float]] = None,
             label_smoothing: float = 0.0, ohem_thresh: Optional[float] = None,
             ohem_min_kept: int = 100000) -> MixedLoss:
        """This network's loss, initialised on no device yet.

        Args: see :class:`~mxnetseg.losses.CrossEntropy`; ``aux_weight`` is for auxiliary heads.
        """
        pixel_loss = CrossEntropy(self.nclass, class_weights=class_weights, label_smoothing=label_smoothing,
                                  ohem_thresh=ohem_thresh, ohem_min_kept=ohem_min_kept)
        return MixedLoss(self.terms(pixel_loss, aux_weight))

    def named_parameters(self) -> Dict[str, object]:
        """Structural name -> parameter, as ``save_parameters`` names them (without constants)."""
        return {name: p for name, p in self._collect_params_with_prefix().items()}

    def from_mxnetseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in MXNetSeg's ``.params`` files, which have no ``backbone.`` prefix.

        None for one that none of MXNetSeg's outputs reads and that we do not have.
        """
        for theirs, ours in self.mxnetseg_prefixes.items():
            if name.startswith(theirs):
                return ours + name[len(theirs):]
        stem = name.split(".", 1)[0]
        return f"backbone.{name}" if stem in self.backbone._children else name


def norm_options(norm_layer: type, norm_kwargs: Optional[Mapping]) -> Dict[str, object]:
    """The two as the keyword arguments that blocks take."""
    return {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}


def four_taps(backbone: Backbone, name: str) -> Sequence[Tap]:
    """The taps of a backbone, fine to coarse, for a decoder that climbs over all four.

    Raises:
        ConfigError: ``backbone`` (called ``name``) has another number of taps.
    """
    if len(backbone.taps) != 4:
        raise ConfigError("this network needs a backbone with four taps", where="model.backbone",
                          received=f"{name}, which has {len(backbone.taps)}",
                          fix="take a ResNet, DenseNet or MobileNetV2")
    return backbone.taps
