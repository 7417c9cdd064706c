"""The contract between backbones and decoders: taps."""
from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from ...errors import ConfigError


class Tap(NamedTuple):
    """A place where features leave a backbone: its channels, and input size over its size."""

    channels: int
    reduction: int


class Backbone(HybridBlock):
    """A feature extractor. Calling it gives one feature map a tap, from fine to coarse.

    A decoder knows a backbone only through :attr:`taps`; a backbone knows nothing of decoders.
    x: (N, 3, H, W) -> [(N, tap.channels, H / tap.reduction, W / tap.reduction) for tap in taps],
    sizes rounded up.

    Args:
        stages: blocks to run one after the other; the output of each is tapped.
        taps: what comes out of each stage.
        gluoncv_name: the model of GluonCV whose ImageNet weights fit, or None.
    """

    def __init__(self, stages: Sequence[HybridBlock], taps: Sequence[Tap], *, gluoncv_name: str = None):
        super().__init__()
        self.taps: Tuple[Tap, ...] = tuple(taps)
        self.gluoncv_name = gluoncv_name
        self._stages = list(stages)

    def hybrid_forward(self, F, x):
        features = []
        for stage in self._stages:
            x = stage(x)
            features.append(x)
        return features

    def from_gluoncv(self, name: str):
        """Our name of a parameter of GluonCV's classifier, or None for one we do not have."""
        raise ConfigError(f"{type(self).__name__} has no counterpart in GluonCV", received=name)


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
    for child in block._children.values():
        kwargs = getattr(child, "_kwargs", {})
        if isinstance(child, nn.Conv2D):
            strided = max(kwargs["stride"]) > 1
            spacing = before if strided else dilation
            kwargs["stride"] = (1, 1)
            kwargs["dilate"] = (spacing, spacing)
            kwargs["pad"] = tuple(spacing * (k - 1) // 2 for k in kwargs["kernel"])
        elif isinstance(child, (nn.AvgPool2D, nn.MaxPool2D)):
            kwargs["stride"] = kwargs["kernel"] = (1, 1)  # the pooling of a shortcut: nothing left to pool
            kwargs["pad"] = (0, 0)
        else:
            _dilate(child, before, dilation)


def check_output_stride(output_stride: int, backbone: str):
    """Refuse a stride that no stage can end on.

    Raises:
        ConfigError: not 8, 16 or 32.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"{backbone} runs at output stride 8, 16 or 32", where="model.output_stride",
                          received=output_stride)
