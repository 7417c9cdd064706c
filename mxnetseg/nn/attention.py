"""Self-attention over positions and over channels, computed in float32."""
from __future__ import annotations

from mxnet.gluon import nn

from .precision import as_type_of, to_float32


class PositionAttention(nn.HybridBlock):
    """Self-attention between all positions of a map: Fu et al., CVPR 2019 (DANet), section 3.2.

        s_ji = softmax_i(q_j . k_i),    y_j = gamma * sum_i s_ji v_i + x_j

    x: (N, C, H, W) -> (N, C, H, W). The matrix s has (H W)^2 entries an image: 4 GiB in float32 for an image of
    1024 x 2048 at stride 8. ``gamma`` starts at 0, so this block is the identity at first, and its convolutions get no
    gradient in the first step. The bias of the keys never gets a gradient, because the softmax cancels it.

    Args:
        channels: C.
        key_channels: channels of queries and keys; by default C / 8.
    """

    def __init__(self, channels: int, *, key_channels: int | None = None):
        super().__init__()
        key_channels = key_channels or max(channels // 8, 1)
        with self.name_scope():
            self.query_conv = nn.Conv2D(key_channels, 1, in_channels=channels)
            self.key_conv = nn.Conv2D(key_channels, 1, in_channels=channels)
            self.value_conv = nn.Conv2D(channels, 1, in_channels=channels)
            self.gamma = self.params.get("gamma", shape=(1,), init="zeros")

    def hybrid_forward(self, F, x, gamma):
        query, key, value = (F.reshape(to_float32(F, conv(x)), (0, 0, -1))
                             for conv in (self.query_conv, self.key_conv, self.value_conv))
        attention = F.softmax(F.batch_dot(query, key, transpose_a=True), axis=-1)  # (N, HW, HW)
        attended = as_type_of(F, F.batch_dot(value, attention, transpose_b=True), x)  # (N, C, HW)
        return F.broadcast_mul(F.reshape_like(attended, x), F.reshape(gamma, (1, 1, 1, 1))) + x


class ChannelAttention(nn.HybridBlock):
    """Self-attention between all channels of a map: Fu et al., CVPR 2019 (DANet), section 3.3.

        e_ji = x_j . x_i,    s_ji = softmax_i(max_k e_jk - e_ji),    y_j = gamma * sum_i s_ji x_i + x_j

    x: (N, C, H, W) -> (N, C, H, W). The paper's equation 3 is softmax(e); the authors' code and every
    port subtract e from its maximum, which reverses the sign: a channel attends to channels unlike itself.
    ``gamma`` starts at 0, as in :class:`PositionAttention`.
    """

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=(1,), init="zeros")

    def hybrid_forward(self, F, x, gamma):
        channels = F.reshape(to_float32(F, x), (0, 0, -1))  # (N, C, HW)
        attention = unlikeness(F, F.batch_dot(channels, channels, transpose_b=True))  # (N, C, C)
        attended = as_type_of(F, F.batch_dot(attention, channels), x)
        return F.broadcast_mul(F.reshape_like(attended, x), F.reshape(gamma, (1, 1, 1, 1))) + x


def unlikeness(F, energy):
    """Return softmax(max(e) - e) over the last axis: (N, A, B) -> (N, A, B); each row sums to 1."""
    highest = F.max(energy, axis=-1, keepdims=True)
    return F.softmax(F.broadcast_sub(highest, energy), axis=-1)
