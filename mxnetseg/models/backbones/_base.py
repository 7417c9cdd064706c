"""The contract between backbones and decoders: taps."""
from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from ...errors import ConfigError
from ..weights.pytorch import gluon_name

# of ImageNet's pixels in [0, 1], RGB: what most weights were trained with
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Tap(NamedTuple):
    """A place where features leave a backbone: its channels, and input size over its size."""

    channels: int
    reduction: int


class Backbone(HybridBlock):
    """A feature extractor. Calling it gives one feature map a tap, from fine to coarse.

    A decoder knows a backbone only through :attr:`taps`; a backbone knows nothing of decoders.
    x: (N, 3, H, W) -> [(N, tap.channels, H / tap.reduction, W / tap.reduction) for tap in taps],
    sizes rounded up unless the backbone documents otherwise. A decoder resizes to the size of the map it meets,
    never to a size computed from the reductions.

    Args:
        stages: blocks to run one after the other; the output of each is tapped.
        taps: what comes out of each stage.
        gluoncv_name: the model of GluonCV whose ImageNet weights fit, or None.
        timm_names: weights in timm's catalogue that fit (``'resnet50s.gluon_in1k'``), the preferred first.
        pip_name: a package that brings weights that fit (see :mod:`.pretrained`), or None.
        mean, std: of the pixels in [0, 1] that all these weights expect.

    Attributes:
        needs_batch, smallest_side: see :class:`~mxnetseg.models._base.SegModel`.
    """

    needs_batch: int = 1
    smallest_side: int = 1

    def __init__(self, stages: Sequence[HybridBlock], taps: Sequence[Tap], *, gluoncv_name: Optional[str] = None,
                 timm_names: Sequence[str] = (), pip_name: Optional[str] = None,
                 mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        self.taps: Tuple[Tap, ...] = tuple(taps)
        self.gluoncv_name, self.timm_names, self.pip_name = gluoncv_name, tuple(timm_names), pip_name
        self.mean, self.std = tuple(mean), tuple(std)
        self._stages = list(stages)

    def hybrid_forward(self, F, x):
        features = []
        for stage in self._stages:
            x = stage(x)
            features.append(x)
        return features

    def from_gluoncv(self, name: str) -> Optional[str]:
        """Our name of a parameter of GluonCV's classifier, or None for one we do not have."""
        raise ConfigError(f"{type(self).__name__} has no counterpart in GluonCV", received=name)

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter of the PyTorch classifier (timm's names), or None for one we do not have."""
        if name.startswith(("fc.", "classifier.", "head.")):
            return None
        return gluon_name(self._collect_params_with_prefix(), name)

    def convert(self, tensors: Mapping[str, object], *, pytorch: bool) -> Dict[str, object]:
        """A classifier's parameters under our names, without those that we do not have.

        Args:
            tensors: by GluonCV's names, or by those of the PyTorch form.
            pytorch: which of the two.
        """
        rename = self.from_pytorch if pytorch else self.from_gluoncv
        renamed = {rename(name): value for name, value in tensors.items()}
        renamed.pop(None, None)
        return renamed


def limit_stride(stages: Sequence[HybridBlock], reductions: Sequence[int], output_stride: int):
    """Trade stride for dilation, so that no stage reduces the input by more than ``output_stride``.

    In a stage that loses its stride, the convolution that had it keeps the dilation reached so far
    and all later ones get twice as much: every weight still sees the same input pixels
    (Chen et al. 2017, DeepLabv3, section 3.1; GluonCV's ``dilated=True`` for stride 8).

    Args:
        stages: the stages behind the stem, fine to coarse; changed in place, before their first use.
        reductions: of each stage without dilation.
        output_stride: 8, 16 or 32.

    Returns:
        the new reductions.
    """
    dilation, before = 1, 1
    for stage, reduction in zip(stages, reductions):
        if reduction > output_stride:
            dilation = reduction // output_stride
            _dilate(stage, before, dilation)
            before = dilation
    return [min(r, output_stride) for r in reductions]


def _dilate(block: HybridBlock, before: int, dilation: int):
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
    """The 2x2 mean pooling of a shortcut that has lost its stride: (N, C, H, W) -> same.

    A place has the mean of itself and its neighbours to the right and below, with zeros beyond the border: timm's
    form, and what the weights saw in the first stage that loses its stride. GluonCV and mmsegmentation drop it.
    """

    def hybrid_forward(self, F, x):
        x = F.Pooling(x, kernel=(2, 2), stride=(1, 1), pad=(1, 1), pool_type="avg")
        return F.slice(x, begin=(None, None, 1, 1), end=(None, None, None, None))


def check_output_stride(output_stride: int, backbone: str):
    """Refuse a stride that no stage can end on.

    Raises:
        ConfigError: not 8, 16 or 32.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"{backbone} runs at output stride 8, 16 or 32", where="model.output_stride",
                          received=output_stride)
