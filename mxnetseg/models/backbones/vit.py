"""Vision transformers (ViT) without classifier: Dosovitskiy et al., ICLR 2021."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from ...errors import ConfigError
from ...nn.norm import LayerNorm
from ...nn.precision import as_type_of, to_float32
from ...nn.resize import resize
from ._base import Backbone, Tap

PATCH = 16  # side of a patch, in pixels


class VisionTransformer(Backbone):
    """Plain transformer over patches of 16x16 pixels. Every tap has the same channels and stride 16.

    x: (N, 3, H, W) -> [(N, width, H / 16, W / 16) for every tap], rounded up. A side that is not a multiple of 16 is
    padded with zeros (the mean colour) on the right or at the bottom.

    The learned position embedding belongs to a grid of patches. For an input with another grid it is resized
    (bilinearly, without aligned corners); for the same grid it is used unchanged, bit by bit. A tap is the output of a
    layer without norm. Each layer's attention map has heads * (H W / 256)^2 weights.

    Args:
        depth: number of layers.
        width: channels of a token.
        mlp_width: channels inside the two-layer perceptron.
        heads: heads of the self-attention; must divide ``width``.
        fractions: layers to tap, as fractions of the depth, ascending to 1; rounded to the nearest layer.
        grid: patches per side, or (rows, columns) of patches, of the position embedding in training: crop size / 16.
        drop: dropout probability after the embedding and inside each layer.
        class_token: whether the patches also attend to a class token, as in classification. It is not part of a tap.
            Unlike in the original, it includes its position embedding.
        timm_names: see :class:`~mxnetseg.models.backbones._base.Backbone`.
        output_stride: 16.
        norm_layer, norm_kwargs: ignored, since transformers use layer norm.

    Raises:
        ConfigError: another output stride, heads that do not divide the width, or an invalid grid.
    """

    def __init__(self, *, depth: int, width: int, mlp_width: int, heads: int,
                 fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0), grid: int | Sequence[int] = 30,
                 drop: float = 0.1, class_token: bool = False, timm_names: Sequence[str] = (),
                 output_stride: int = PATCH, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        if output_stride != PATCH:
            raise ConfigError("vit runs at output stride 16", where="model.output_stride", received=output_stride,
                              fix="output_stride: 16")
        if width % heads:
            raise ConfigError("the number of heads must divide the width", received=f"width {width}, {heads} heads",
                              fix=f"a width that is a multiple of {heads}")
        sides: Any = tuple(grid) if isinstance(grid, (list, tuple)) else (grid, grid)
        if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise ConfigError("the grid of the position embedding must be one or two positive integers", where="grid",
                              received=sides, fix="crop size / 16: grid=30, or grid=[32, 64] for (rows, columns)")

        super().__init__([], [Tap(width, PATCH)] * len(fractions), timm_names=timm_names, mean=(0.5,) * 3,
                         std=(0.5,) * 3)
        self._tap_layers = tuple(int(depth * fraction + 0.5) for fraction in fractions)
        self._grid = sides

        with self.name_scope():
            self.patch_embed = PatchEmbedding(width)
            self.pos_embed = self.params.get("pos_embed", shape=(1, sides[0] * sides[1], width),
                                             init=mx.init.Normal(0.02))
            if class_token:
                self.class_token = self.params.get("class_token", shape=(1, 1, width), init=mx.init.Normal(0.02))
            self.drop = nn.Dropout(drop)
            self.blocks = nn.HybridSequential()
            for _ in range(depth):
                self.blocks.add(Layer(width, mlp_width, heads, drop))

    def hybrid_forward(self, F, x, pos_embed, class_token=None):
        patches = self.patch_embed(x)  # (N, C, h, w)
        position = F.reshape(F.transpose(pos_embed, axes=(0, 2, 1)), (0, 0, *self._grid))
        position = resize(F, position, patches, align_corners=False)
        tokens = F.reshape(F.broadcast_add(patches, position), (0, 0, -1))
        tokens = F.transpose(tokens, axes=(0, 2, 1))  # (N, h w, C)
        if class_token is not None:  # appended to the patches, since attention does not depend on the order
            one = F.BlockGrad(F.slice_axis(tokens, axis=1, begin=0, end=1))
            tokens = F.concat(tokens, F.broadcast_like(class_token, one), dim=1)
        tokens = self.drop(tokens)

        features = []
        for number, block in enumerate(self.blocks._children.values(), start=1):
            tokens = block(tokens)
            if number in self._tap_layers:
                tap = tokens if class_token is None else F.slice_axis(tokens, axis=1, begin=0, end=-1)
                # not transpose(), which fails on the layout of a gradient that comes from a convolution
                features.append(F.reshape_like(F.swapaxes(tap, 1, 2), F.BlockGrad(patches)))
        return features

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        if name.startswith(("norm.", "fc_norm.")):
            return None
        name = name.replace("patch_embed.proj", "patch_embed.linear").replace(".attn.qkv", ".att.att_qkv")
        return super().from_pytorch(name.replace(".attn.proj", ".att.proj"))

    def convert(self, tensors: Mapping[str, np.ndarray], *, pytorch: bool) -> dict[str, np.ndarray]:
        """Return a classifier's parameters as the base class does, with the position embedding resized to the grid."""
        tensors = dict(tensors)
        if pytorch and {"cls_token", "pos_embed"} <= tensors.keys():
            token, position = np.asarray(tensors.pop("cls_token")), np.asarray(tensors.pop("pos_embed"))
            if "class_token" in self._reg_params:
                tensors["class_token"] = token + position[:, :1]
            tensors["pos_embed"] = _regrid(position[:, 1:], self._grid)
        return super().convert(tensors, pytorch=pytorch)


def _regrid(position: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return a position embedding (1, L, C) of a square grid, resized to another grid: (1, rows * columns, C)."""
    side = math.isqrt(position.shape[1])
    if position.shape[1] == grid[0] * grid[1] or side ** 2 != position.shape[1]:
        return position  # it fits already, or its number of rows is unknown
    old = mx.nd.array(position.reshape(1, side, side, -1).transpose(0, 3, 1, 2))
    new = resize(mx.nd, old, mx.nd.zeros((1, 1, *grid)), align_corners=False).asnumpy()
    return new.reshape(1, new.shape[1], -1).transpose(0, 2, 1)


class PatchEmbedding(nn.HybridBlock):
    """Linear layer on each patch: (N, 3, H, W) -> (N, width, H / 16, W / 16), rounded up."""

    def __init__(self, width: int):
        super().__init__()
        with self.name_scope():
            self.linear = nn.Conv2D(width, PATCH, PATCH, in_channels=3, weight_initializer=mx.init.Xavier())

    def hybrid_forward(self, F, x):
        # with 15 more rows there are (H + 15) // 16 patches for any H; if H is a multiple of 16, none reads these rows
        x = F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, 0, PATCH - 1, 0, PATCH - 1))
        return self.linear(x)


class Layer(nn.HybridBlock):
    """Transformer layer with the norms first: equations 2 and 3 of the paper. (N, L, width) -> same."""

    def __init__(self, width: int, mlp_width: int, heads: int, drop: float):
        super().__init__()
        with self.name_scope():
            self.norm1 = LayerNorm(epsilon=1e-6, in_channels=width)
            self.att = SelfAttention(width, heads, drop)
            self.norm2 = LayerNorm(epsilon=1e-6, in_channels=width)
            self.mlp = Perceptron(width, mlp_width, drop)

    def hybrid_forward(self, F, x):
        x = x + self.att(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SelfAttention(nn.HybridBlock):
    """Multi-head self-attention: softmax(q k^T / sqrt(d)) v in each head, equations 5 to 8.

    x: (N, L, width) -> same. One dense layer computes the queries, keys and values of all heads, in this order.
    """

    def __init__(self, width: int, heads: int, drop: float):
        super().__init__()
        self._heads = heads
        self._scale = (width // heads) ** -0.5
        with self.name_scope():
            self.att_qkv = _dense(3 * width, width)
            self.proj = _dense(width, width)
            self.drop = nn.Dropout(drop)

    def hybrid_forward(self, F, x):
        qkv = F.reshape(to_float32(F, self.att_qkv(x)), (0, 0, 3 * self._heads, -1))  # (N, L, 3 heads, d)
        query, key, value = (F.reshape(part, (-3, 0, 0))  # (N heads, L, d)
                             for part in F.split(F.transpose(qkv, (0, 2, 1, 3)), axis=1, num_outputs=3))
        attention = F.softmax(F.batch_dot(query * self._scale, key, transpose_b=True), axis=-1)
        heads = F.reshape(F.batch_dot(attention, value), (-4, -1, self._heads, 0, 0))  # (N, heads, L, d)
        heads = F.reshape(F.transpose(heads, (0, 2, 1, 3)), (0, 0, -3))
        return self.drop(self.proj(as_type_of(F, heads, x)))


class Perceptron(nn.HybridBlock):
    """Two dense layers with GELU in between. (N, L, width) -> same."""

    def __init__(self, width: int, mlp_width: int, drop: float):
        super().__init__()
        with self.name_scope():
            self.fc1 = _dense(mlp_width, width)
            self.act = nn.GELU()
            self.fc2 = _dense(width, mlp_width)
            self.drop = nn.Dropout(drop)

    def hybrid_forward(self, F, x):
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


def _dense(units: int, in_units: int) -> nn.Dense:
    return nn.Dense(units, flatten=False, in_units=in_units, weight_initializer=mx.init.Xavier())


# table 1 of the paper; `vit_reduced` has the depth of `vit_large_16`, and is small enough for tests
vit_base_16 = partial(VisionTransformer, depth=12, width=768, mlp_width=3072, heads=12,
                      timm_names=["vit_base_patch16_384.augreg_in21k_ft_in1k",
                                  "vit_base_patch16_224.augreg_in21k_ft_in1k"])
vit_large_16 = partial(VisionTransformer, depth=24, width=1024, mlp_width=4096, heads=16,
                       timm_names=["vit_large_patch16_384.augreg_in21k_ft_in1k",
                                   "vit_large_patch16_224.augreg_in21k_ft_in1k"])
vit_huge_16 = partial(VisionTransformer, depth=32, width=1280, mlp_width=5120, heads=16)
vit_reduced = partial(VisionTransformer, depth=24, width=64, mlp_width=256, heads=4)
