"""Building blocks that several networks share."""
from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from mxnet import gluon
from mxnet.gluon import nn

from .precision import as_type_of, to_float32


def activation_layer(name: str | None):
    """Return the layer of an activation, or None for None.

    Args:
        name: ``'prelu'`` (one learned slope), ``'relu6'``, ``'hard_swish'`` or a name that ``gluon.nn.Activation``
            takes.
    """
    if name is None:
        return None
    if name == "prelu":
        return PReLU()
    if name in ("relu6", "hard_swish"):
        return getattr(import_module("gluoncv.nn.block"), {"relu6": "ReLU6", "hard_swish": "HardSwish"}[name])()
    return nn.Activation(name)


class PReLU(nn.PReLU):
    """Gluon's PReLU with one slope, computed in float32, since MXNet has no bfloat16 operator. Any x -> same shape."""

    def cast(self, dtype):
        super().cast("float32")

    def hybrid_forward(self, F, x, alpha):
        return as_type_of(F, super().hybrid_forward(F, to_float32(F, x), alpha), x)


class ConvModule2d(nn.HybridBlock):
    """Convolution (no bias), normalisation, activation.

    x: (N, in_channels, H, W) -> (N, channels, H', W'); with stride 1 and the default
    padding the size is kept.

    Args:
        channels: output channels.
        kernel_size, strides, padding, dilation, groups: as in ``gluon.nn.Conv2D``; ``padding``
            defaults to ``dilation * (kernel_size - 1) // 2``.
        in_channels: input channels.
        activation: see :func:`activation_layer`; None for a linear module.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, kernel_size: int = 3, strides: int = 1, padding: int | None = None,
                 dilation: int = 1, groups: int = 1, *, in_channels: int = 0,
                 activation: str | None = "relu", norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
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


class SeparableConv2d(nn.HybridBlock):
    """Depthwise convolution, then a 1x1 convolution across channels, both with norm and activation.

    x: (N, in_channels, H, W) -> (N, channels, H / strides, W / strides), sizes rounded up.

    Args:
        channels, in_channels: output and input channels.
        kernel_size, strides, dilation: of the depthwise convolution.
        depthwise_activation: activation after the depthwise convolution; see :func:`activation_layer`.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, kernel_size: int = 3, strides: int = 1, dilation: int = 1, *,
                 in_channels: int, depthwise_activation: str | None = "relu", norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        with self.name_scope():
            self.depthwise = ConvModule2d(in_channels, kernel_size, strides, dilation=dilation, groups=in_channels,
                                          in_channels=in_channels, activation=depthwise_activation, **norm)
            self.pointwise = ConvModule2d(channels, 1, in_channels=in_channels, **norm)

    def hybrid_forward(self, F, x):
        return self.pointwise(self.depthwise(x))


class FCNHead(nn.HybridBlock):
    """Common segmentation head: convolution, norm, activation, dropout, 1x1 convolution with bias.

    x: (N, in_channels, H, W) -> logits (N, nclass, H, W).

    Args:
        nclass: number of classes.
        in_channels: input channels.
        channels: channels between the convolutions; by default ``min(in_channels, 256)``.
        kernel_size: of the first convolution, and of the convolutions that the next two arguments add.
        convs: number of convolutions before the last one, each with norm and activation.
        concat_input: concatenate the input and their result, and apply one more such convolution.
        drop: dropout probability before the last convolution.
        activation: see :func:`activation_layer`.
    """

    def __init__(self, nclass: int, in_channels: int, *, channels: int | None = None,
                 kernel_size: int = 3, convs: int = 1, concat_input: bool = False, drop: float = 0.1,
                 activation: str = "relu", norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        channels = channels or min(in_channels, 256)

        def conv(channels_before):
            return ConvModule2d(channels, kernel_size, in_channels=channels_before, activation=activation,
                                norm_layer=norm_layer, norm_kwargs=norm_kwargs)

        with self.name_scope():
            self.conv1 = conv(in_channels)
            self.more = None
            if convs > 1:
                self.more = nn.HybridSequential()
                self.more.add(*(conv(channels) for _ in range(convs - 1)))
            self.join = conv(in_channels + channels) if concat_input else None
            self.drop = nn.Dropout(drop) if drop else None
            self.conv2 = nn.Conv2D(nclass, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        y = self.conv1(x)
        if self.more is not None:
            y = self.more(y)
        if self.join is not None:
            y = self.join(F.concat(x, y, dim=1))
        if self.drop is not None:
            y = self.drop(y)
        return self.conv2(y)


def classifier(nclass: int, in_channels: int, *, drop: float = 0.1) -> nn.HybridSequential:
    """Return dropout and a 1x1 convolution with bias: (N, in_channels, H, W) -> logits (N, nclass, H, W)."""
    layers = nn.HybridSequential()
    layers.add(nn.Dropout(drop), nn.Conv2D(nclass, 1, in_channels=in_channels))
    return layers


class InputStep(gluon.HybridBlock):
    """Normalisation of stored images on the device, so that only one byte a value is transferred to it.

    (N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, ``(x / 255 - mean) / std``.

    Args:
        mean, std: mean and standard deviation of each channel, of pixels in [0, 1]; they belong to the weights.
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
