"""What every network is: ``backbone -> decoder and heads -> resize``, and the loss its paper gives it."""
from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

import numpy as np
from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from ..losses import Blend, CrossEntropy, Dice, Focal, LovaszSoftmax, Mining, MixedLoss, Term
from .backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap


class SegModel(HybridBlock):
    """Base of the networks.

    x: (N, 3, H, W) float32, normalised with :attr:`mean` and :attr:`std`, any H and W of at least the
    output stride -> a tuple of maps of the input's size, first the logits (N, nclass, H, W) that predict. The others,
    mostly logits too, serve the loss; inference drops them and what computes them.

    Args:
        backbone: the feature extractor; registered as ``backbone``, so all other parameters are the
            decoder's and heads'.
        nclass: classes.

    Attributes:
        model_name, backbone_name: as the registries write them; set by :func:`~mxnetseg.models.build_model`.
        mean, std: of the pixels in [0, 1] that the weights expect; saved with every checkpoint.
        needs_batch: images that a norm must see at once in training (on one device, or on all together
            where norms are synchronised), for networks that normalise a map of one place: over a single
            value batch norm gives zero.
        smallest_side: the shortest side of an input, in pixels, that the backbone can read.
        zero_gradient_at_start: patterns (:mod:`fnmatch`) of the parameters whose gradient is zero until
            another parameter has left its first value, such as what lies behind a gate that starts at 0.
        mxnetseg_classes: names of the classes of MXNetSeg whose ``.params`` files this network reads.
        mxnetseg_prefixes: beginnings of parameter names in those files -> in this network, where they
            differ by more than the backbone's prefix. The first that fits is taken.
        foreign_options: form -> arguments of this network that other people's files of this form need, where they
            are not the defaults: ``{"gluoncv": {"rates": (12, 24, 36)}}``. ``mxnetseg convert`` builds with them.
        structures: sets of this network's own arguments that change its parameters, such as a decoder's kind.
            ``mxnetseg convert`` tries them, besides the backbones and ``aux``, where it is told none.

    Other people's weights (:mod:`.foreign` reads the files and lists the forms): a network reads the form
    ``gluoncv``, say, if it has a method ``from_gluoncv(name)`` that gives our name of a tensor, or None for one that
    we have no use for. It takes any text: a name it does not know it returns in some form that no parameter of
    ours has. What names cannot say, :meth:`adapt_foreign` does to the tensors.
    """

    backbone_name: str = ""
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    needs_batch: int = 1
    zero_gradient_at_start: Sequence[str] = ()
    mxnetseg_classes: Sequence[str] = ()
    mxnetseg_prefixes: Mapping[str, str] = {}
    foreign_options: Mapping[str, Mapping[str, object]] = {}
    structures: Sequence[Mapping[str, object]] = ({},)

    def __init__(self, backbone: Backbone, nclass: int):
        super().__init__()
        self.nclass = nclass
        # any block serves as the feature extractor of a network of one's own
        self.needs_batch = max(type(self).needs_batch, getattr(backbone, "needs_batch", 1))
        self.smallest_side = getattr(backbone, "smallest_side", 1)
        with self.name_scope():
            self.backbone = backbone

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """The loss of this network's paper: which outputs, which weights, which losses.

        Here: the main output, and with weight ``aux_weight`` the next one where the network has an
        ``aux_head``. A network whose paper says otherwise overrides it.

        Args:
            pixel_loss: what the configuration asks for: cross-entropy, or another loss, or several.
            aux_weight: weight of auxiliary heads.
        """
        terms = [Term(0, 1.0, pixel_loss)]
        if getattr(self, "aux_head", None) is not None:
            terms.append(Term(1, aux_weight, pixel_loss))
        return terms

    def loss(self, *, aux_weight: float = 0.5, class_weights: Optional[Sequence[float]] = None,
             label_smoothing: float = 0.0, mining: Optional[Mining] = None, ce: float = 1.0, focal: float = 0.0,
             focal_gamma: float = 2.0, dice: float = 0.0, lovasz: float = 0.0) -> MixedLoss:
        """This network's loss, initialised on no device yet.

        Args:
            aux_weight: weight of auxiliary heads.
            class_weights: of the cross-entropy and the focal loss.
            label_smoothing, mining: see :class:`~mxnetseg.losses.CrossEntropy`.
            ce, focal, dice, lovasz: weights of the losses that each supervised output gets; one at 0 is not computed.
            focal_gamma: see :class:`~mxnetseg.losses.Focal`.
        """
        losses = [(ce, lambda: CrossEntropy(self.nclass, class_weights=class_weights,
                                            label_smoothing=label_smoothing, mining=mining)),
                  (focal, lambda: Focal(self.nclass, gamma=focal_gamma, class_weights=class_weights)),
                  (dice, lambda: Dice(self.nclass)), (lovasz, lambda: LovaszSoftmax(self.nclass))]
        return MixedLoss(self.terms(Blend([(weight, make()) for weight, make in losses if weight]), aux_weight))

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

    @classmethod
    def arguments_of(cls, shapes: Mapping[str, Sequence[int]]) -> Dict[str, object]:
        """Arguments of this network that the shapes in a weight file tell, where no list of :attr:`structures` could
        have them all. Here: none.

        Args:
            shapes: by our names.
        """
        return {}

    def adapt_foreign(self, form: str, tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """The tensors of a file of that form, such that a map of names is all that remains to be done.

        Here: as they are. A network whose original keeps a weight in another shape, order or number of
        parts overrides it. It may be called with any file's tensors, so it changes those it knows, whatever else
        is there or missing.

        Args:
            form: one of :data:`.foreign.FORMS`.
            tensors: by their names in the file; not to be changed in place.
        """
        return tensors


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
