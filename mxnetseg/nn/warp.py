"""Sampling of a map at learned positions: warping by a flow, deformable convolution.

Sampling is bilinear, with zeros outside the map, and uses ``BilinearSampler``, which has a gradient on every device.
Positions are float32, in pixels of the map that is read.
"""
from __future__ import annotations

from mxnet.gluon import nn

from .precision import as_type_of, to_float32
from .resize import length


def _normalised(F, position, x, axis):
    """Convert pixels to BilinearSampler's units: -1 is the first sample of ``x`` along ``axis``, 1 the last one."""
    # a map one pixel wide has one position only; without the maximum this would divide by zero
    steps = length(F, x, axis) - 1
    steps = F.reshape(F.broadcast_maximum(steps, F.ones_like(steps)), (1, 1, 1, 1))
    return F.broadcast_div(2 * position, steps) - 1


def sample(F, x, columns, rows):
    """Sample ``x`` at given positions.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``.
        x: (N, C, h, w).
        columns, rows: (N, 1, H, W) float32, in pixels of ``x``, 0 the first column and row.

    Returns:
        (N, C, H, W) of the type of ``x``, with gradients to all three.
    """
    y = to_float32(F, x)
    unrecorded = F.BlockGrad(y)  # only its size is used
    grid = F.concat(_normalised(F, columns, unrecorded, 3), _normalised(F, rows, unrecorded, 2), dim=1)
    return as_type_of(F, F.BilinearSampler(y, grid), x)


def _positions(F, like, axis, shape):
    """Return the positions 0, 1, 2, ... along an axis, reshaped to ``shape``."""
    return F.reshape(F.contrib.arange_like(F.BlockGrad(like), axis=axis), shape)


def warp(F, x, flow):
    """Move a map: y(p) = x(p + flow(p)).

    ``GridGenerator(transform_type='warp')`` and ``BilinearSampler`` do the same together, but give not-a-number for
    maps that are one pixel high or wide. Here the flow has no effect along such an axis.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``.
        x: (N, C, H, W).
        flow: (N, 2, H, W), in pixels, first to the right, then down.

    Returns:
        (N, C, H, W)
    """
    flow = to_float32(F, flow)
    right, down = F.split(flow, num_outputs=2, axis=1)
    return sample(F, x, F.broadcast_add(right, _positions(F, flow, 3, (1, 1, 1, -1))),
                  F.broadcast_add(down, _positions(F, flow, 2, (1, 1, -1, 1))))


class DeformableConv3x3(nn.HybridBlock):
    """Modulated deformable 3x3 convolution: Zhu et al., CVPR 2019 (DCNv2), equation 1.

        y(p) = b + sum_k w_k . (m_k(p) * x(p + p_k + o_k(p)))

    over the nine taps p_k of a 3x3 window. A 3x3 convolution of x gives the offsets o_k and, through a sigmoid times
    two (in the paper times one), the modulations m_k, separately for each group of channels. At first o = 0 and m = 1,
    which is an ordinary convolution. x: (N, in_channels, H, W) -> (N, channels, H, W).

    Parameters and results are the same as those of ``gluon.contrib.cnn.ModulatedDeformableConvolution``, whose operator
    has no backward pass on a CPU.

    Args:
        channels: output channels.
        in_channels: input channels.
        groups: number of deformable groups; it divides ``in_channels``.
        operator: run MXNet's operator instead, which takes less memory but cannot train on a CPU.
    """

    def __init__(self, channels: int, *, in_channels: int, groups: int = 8, operator: bool = False):
        super().__init__()
        self._channels, self._groups, self._operator = channels, groups, operator
        with self.name_scope():
            self.deformable_conv_weight = self.params.get(
                "deformable_conv_weight", shape=(channels, in_channels, 3, 3))
            self.deformable_conv_bias = self.params.get("deformable_conv_bias", shape=(channels,), init="zeros")
            self.offset_weight = self.params.get("offset_weight", shape=(27 * groups, in_channels, 3, 3),
                                                 init="zeros")
            self.offset_bias = self.params.get("offset_bias", shape=(27 * groups,), init="zeros")

    def hybrid_forward(self, F, x, deformable_conv_weight, deformable_conv_bias, offset_weight, offset_bias):
        groups = self._groups
        learned = F.Convolution(x, offset_weight, offset_bias, kernel=(3, 3), pad=(1, 1), num_filter=27 * groups)
        # (N, 18 groups, H, W): for each group and tap down, then right; and (N, 9 groups, H, W)
        offset = F.slice_axis(learned, axis=1, begin=0, end=18 * groups)
        mask = 2 * F.sigmoid(F.slice_axis(learned, axis=1, begin=18 * groups, end=None))
        if self._operator:
            return F.contrib.ModulatedDeformableConvolution(
                x, offset, mask, deformable_conv_weight, deformable_conv_bias, kernel=(3, 3), pad=(1, 1),
                num_filter=self._channels, num_deformable_group=groups)

        offset, mask, y = to_float32(F, offset), to_float32(F, mask), to_float32(F, x)
        # Each group becomes an image, and the nine taps are stacked vertically, so that one call samples all.
        offset = F.reshape(offset, (0, -4, groups, -1, -2))  # (N, groups, 18, H, W)
        offset = F.reshape(F.reshape(offset, (-3, -2)), (0, -4, 9, 2, -2))  # (N groups, 9, 2, H, W)
        down, right = F.split(offset, num_outputs=2, axis=2, squeeze_axis=True)  # (N groups, 9, H, W)
        tap = F.reshape(F.contrib.arange_like(F.slice_axis(F.BlockGrad(down), axis=0, begin=0, end=1), axis=1),
                        (1, -1, 1, 1))  # 0 .. 8
        tap_row = F.floor((tap + 0.5) / 3)
        # + 1 for a border of zeros, which makes the map at least three pixels wide; - 1 for the window's corner
        rows = F.broadcast_add(F.broadcast_add(down, _positions(F, y, 2, (1, 1, -1, 1))), tap_row)
        columns = F.broadcast_add(F.broadcast_add(right, _positions(F, y, 3, (1, 1, 1, -1))), tap - 3 * tap_row)
        bordered = F.pad(y, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), constant_value=0)
        bordered = F.reshape(F.reshape(bordered, (0, -4, groups, -1, -2)), (-3, -2))  # (N groups, C / groups, ...)

        columns, rows, mask = (F.reshape(F.expand_dims(v, 1), shape=(0, 0, -3, 0)) for v in (
            columns, rows, F.reshape(F.reshape(mask, (0, -4, groups, -1, -2)), (-3, -2))))
        sampled = F.broadcast_mul(sample(F, bordered, columns, rows), mask)  # (N groups, C / groups, 9 H, W)

        sampled = F.reshape(F.reshape(sampled, (0, 0, -4, 9, -1, -2)), (-4, -1, groups, -2))
        sampled = F.reshape(sampled, (0, -3, -2))  # (N, C, 9, H, W)
        sampled = F.reshape(sampled, (0, -3, -2))  # (N, 9 C, H, W): tap by tap within a channel, like the weight
        weight = F.reshape(deformable_conv_weight, (0, -1, 1, 1))
        return F.Convolution(as_type_of(F, sampled, x), weight, deformable_conv_bias, kernel=(1, 1),
                             num_filter=self._channels)
