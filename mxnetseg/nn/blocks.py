"""Building blocks that several networks share."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet import gluon
from mxnet.gluon import nn


def activation_layer(name: Optional[str]):
    """A layer for the name of an activation: ``'prelu'`` (one learned slope) or one of ``gluon.nn.Activation``'s;
    None for None."""
    if name is None:
        return None
    return nn.PReLU() if name == "prelu" else nn.Activation(name)


class ConvModule2d(nn.HybridBlock):
    """Convolution (no bias), normalisation, activation.

    x: (N, in_channels, H, W) -> (N, channels, H', W'); with stride 1 and ``padding`` left out, the
    size is kept.

    Args:
        channels: output channels.
        kernel_size, strides, padding, dilation, groups: as in ``gluon.nn.Conv2D``; ``padding``
            defaults to ``dilation * (kernel_size - 1) // 2``.
        in_channels: input channels.
        activation: see :func:`activation_layer`; None for a linear module.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, kernel_size: int = 3, strides: int = 1, padding: Optional[int] = None,
                 dilation: int = 1, groups: int = 1, *, in_channels: int = 0,
                 activation: Optional[str] = "relu", norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        if padding is None:
            padding = dilation * (kernel_size - 1) // 2
        with self.name_scope():
            self.conv = nn.Conv2D(channels, kernel_size, strides, padding, dilation, groups,
                                  in_channels=in_channels, use_bias=False)
            self.bn = norm_layer(in_channels=channels, **(norm_kwargs or {}))
            self.act = activation_layer(activation)

    def hybrid_forward(self, F, x):
        x = self.bn(self.conv(x))
        return self.act(x) if self.act is not None else x


class FCNHead(nn.HybridBlock):
    """The common classifier: a convolution, norm, activation, dropout, 1x1 convolution with bias.

    x: (N, in_channels, H, W) -> logits (N, nclass, H, W).

    Args:
        nclass: classes.
        in_channels: input channels.
        channels: width in between; by default ``min(in_channels, 256)``.
        kernel_size: of the first convolution.
        drop: dropout probability before the last convolution.
        activation: see :func:`activation_layer`.
    """

    def __init__(self, nclass: int, in_channels: int, *, channels: Optional[int] = None,
                 kernel_size: int = 3, drop: float = 0.1, activation: str = "relu",
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        channels = channels or min(in_channels, 256)
        with self.name_scope():
            self.conv1 = ConvModule2d(channels, kernel_size, in_channels=in_channels, activation=activation,
                                      norm_layer=norm_layer, norm_kwargs=norm_kwargs)
            self.drop = nn.Dropout(drop) if drop else None
            self.conv2 = nn.Conv2D(nclass, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        x = self.conv1(x)
        if self.drop is not None:
            x = self.drop(x)
        return self.conv2(x)


class InputStep(gluon.HybridBlock):
    """Pictures as they are stored to what a network reads, on the device: one byte a value travels.

    (N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, ``(x / 255 - mean) / std``.

    Args:
        mean, std: per channel, of pixels in [0, 1]; a property of the weights.
    """

    def __init__(self, mean, std):
        super().__init__()
        scale = [1.0 / (255.0 * s) for s in std]
        shift = [-m / s for m, s in zip(mean, std)]
        self._shape = (1, len(scale), 1, 1)
        with self.name_scope():
            self.scale = self.params.get_constant("scale", [[[[v]] for v in scale]])
            self.shift = self.params.get_constant("shift", [[[[v]] for v in shift]])

    def hybrid_forward(self, F, x, scale, shift):
        x = F.cast(F.transpose(x, axes=(0, 3, 1, 2)), "float32")
        return F.broadcast_add(F.broadcast_mul(x, scale), shift)
