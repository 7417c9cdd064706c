"""Mix transformers (MiT): the encoder of SegFormer. Xie, Wang, Yu, Anandkumar, Alvarez & Luo, NeurIPS 2021."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from ...errors import ConfigError
from ...nn.norm import LayerNorm
from ...nn.precision import as_type_of, to_float32
from ..weights.pytorch import gluon_name
from ._base import Backbone, Tap

HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)  # per stage; table 6 of the paper
DROP_PATH = 0.1  # probability in the last block


class MixTransformer(Backbone):
    """Mix transformer: four stages of overlapping patch embeddings and transformer blocks. Section 3.1 of the paper.

    x: (N, 3, H, W), at least 29 pixels a side -> [(N, C_i, H / s_i, W / s_i)] at strides 4, 8, 16 and 32, rounded up.
    There is no position embedding, so the network is not tied to an input size.

    The first stage has (H W / 16) x (H W / 1024) attention weights per head, 1 GiB in float32 at 1024 x 2048. Use a
    sliding window for images of this size.

    Args:
        channels: channels of each stage.
        depths: number of blocks in each stage.
        epsilons: epsilon of the layer norms in blocks and after stages, and epsilon of the layer norms after a patch
            embedding and after the reduction of keys and values. They are 1e-6 and 1e-5 in the authors' code, 1e-5 in
            Hugging Face's, and 1e-6 in mmsegmentation.
        output_stride: 32.
        norm_layer, norm_kwargs: ignored, since transformers use layer norm.

    Raises:
        ConfigError: another output stride.
    """

    def __init__(self, *, channels: Sequence[int], depths: Sequence[int],
                 epsilons: tuple[float, float] = (1e-6, 1e-5), output_stride: int = 32,
                 norm_layer: type | None = None, norm_kwargs: Mapping | None = None):
        if output_stride != 32:
            raise ConfigError("MiT runs at output stride 32", where="model.output_stride",
                              received=output_stride, fix="output_stride: 32, or remove it")

        super().__init__((), [Tap(c, s) for c, s in zip(channels, (4, 8, 16, 32))])
        drops = iter(np.linspace(0, DROP_PATH, sum(depths)).tolist())

        with self.name_scope():
            self.stages = nn.HybridSequential()
            for i, depth in enumerate(depths):
                self.stages.add(Stage(
                    channels[i], HEADS[i], REDUCTIONS[i], [next(drops) for _ in range(depth)],
                    patch=(3, 2) if i else (7, 4), in_channels=channels[i - 1] if i else 3, epsilons=epsilons))

    def hybrid_forward(self, F, x):
        features = []
        for stage in self.stages._children.values():
            x = stage(x)
            features.append(x)
        return features

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in SegFormer's files, or None if this backbone does not have it.

        The files are the authors', Hugging Face's or mmsegmentation's. :meth:`convert` separates the tensors that they
        join.
        """
        if name.startswith(("head.", "classifier.")):
            return None
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        return gluon_name(self._collect_params_with_prefix(), name)

    def convert(self, tensors: Mapping[str, np.ndarray], *, pytorch: bool) -> dict[str, np.ndarray]:
        """Return a classifier's parameters as the base class does, with separate queries, keys and values."""
        return super().convert(separate(tensors) if pytorch else tensors, pytorch=pytorch)


# names in Hugging Face's, the authors' and mmsegmentation's files -> ours, applied one after the other
_NAMES = [
    (r"^segformer\.encoder\.", ""),
    (r"^patch_embeddings\.(\d)\.proj\.", r"stages.\1.patch."),
    (r"^patch_embeddings\.(\d)\.layer_norm\.", r"stages.\1.patch_norm."),
    (r"^block\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."), (r"^layer_norm\.(\d)\.", r"stages.\1.norm."),
    (r"\.layer_norm_([12])\.", r".norm\1."), (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.self\.", ".attn."), (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."), (r"\.dwconv\.dwconv\.", ".dwconv."),
    (r"^patch_embed(\d)\.proj\.", lambda m: f"stages.{int(m[1]) - 1}.patch."),
    (r"^patch_embed(\d)\.norm\.", lambda m: f"stages.{int(m[1]) - 1}.patch_norm."),
    (r"^block(\d)\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}."),
    (r"^norm(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.norm."), (r"\.attn\.q\.", ".attn.query."),
    (r"^layers\.(\d)\.0\.projection\.", r"stages.\1.patch."), (r"^layers\.(\d)\.0\.norm\.", r"stages.\1.patch_norm."),
    (r"^layers\.(\d)\.1\.(\d+)\.", r"stages.\1.blocks.\2."), (r"^layers\.(\d)\.2\.", r"stages.\1.norm."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."), (r"\.ffn\.layers\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv."), (r"\.ffn\.layers\.4\.", ".mlp.fc2."),
]
_JOINED = [(re.compile(r"(.*\.attn\.)kv\.(weight|bias)"), ("key", "value")),
           (re.compile(r"(.*\.attn\.)attn\.in_proj_(weight|bias)"), ("query", "key", "value"))]


def separate(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors with separate queries, keys and values, and with matrices for 1x1 convolutions in MLPs.

    The authors' and mmsegmentation's files join the former; mmsegmentation's files contain the latter.
    """
    found: dict[str, np.ndarray] = {}

    for name, value in tensors.items():
        for pattern, parts in _JOINED:
            match = pattern.fullmatch(name)
            if match and len(value) % len(parts) == 0:
                found.update({f"{match[1]}{part}.{match[2]}": piece
                              for part, piece in zip(parts, np.split(np.asarray(value), len(parts)))})
                break
        else:
            if re.search(r"\.ffn\.layers\.[04]\.weight$", name) and value.ndim == 4:
                value = np.asarray(value).reshape(value.shape[:2])
            found[name] = value
    return found


class Stage(nn.HybridBlock):
    """Patch embedding, transformer blocks and a layer norm.

    x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride), rounded up.

    Args:
        channels, in_channels: output and input channels.
        heads: number of attention heads.
        reduction: factor by which the map for keys and values is smaller.
        drops: drop-path probability of each block.
        patch: kernel and stride of the patch embedding.
        epsilons: see :class:`MixTransformer`.
    """

    def __init__(self, channels: int, heads: int, reduction: int, drops: Sequence[float], *, patch: tuple[int, int],
                 in_channels: int, epsilons: tuple[float, float]):
        super().__init__()
        kernel, stride = patch
        with self.name_scope():
            self.patch = nn.Conv2D(channels, kernel, stride, kernel // 2, in_channels=in_channels)
            self.patch_norm = LayerNorm(epsilon=epsilons[1], in_channels=channels)
            self.blocks = nn.HybridSequential()
            for drop in drops:
                self.blocks.add(Block(channels, heads, reduction, drop, epsilons=epsilons))
            self.norm = LayerNorm(epsilon=epsilons[0], in_channels=channels)

    def hybrid_forward(self, F, x):
        patches = self.patch(x)
        size = F.BlockGrad(patches)
        tokens = self.patch_norm(to_tokens(F, patches))
        for block in self.blocks._children.values():
            tokens = block(tokens, size)
        return to_map(F, self.norm(tokens), size)


class Block(nn.HybridBlock):
    """Transformer block: efficient self-attention and Mix-FFN, both with a norm before and a residual connection.

    tokens: (N, H W, channels), size: (N, C', H, W), used for its size only -> (N, H W, channels).
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop: float, *, epsilons: tuple[float, float]):
        super().__init__()
        with self.name_scope():
            self.norm1 = LayerNorm(epsilon=epsilons[0], in_channels=channels)
            self.attn = EfficientAttention(channels, heads, reduction, epsilon=epsilons[1])
            self.norm2 = LayerNorm(epsilon=epsilons[0], in_channels=channels)
            self.mlp = MixFFN(channels)
            self.drop_path = nn.Dropout(drop, axes=(1, 2)) if drop else None  # drops the path for a whole image

    def hybrid_forward(self, F, tokens, size):
        y = self.attn(self.norm1(tokens), size)
        tokens = tokens + (y if self.drop_path is None else self.drop_path(y))
        y = self.mlp(self.norm2(tokens), size)
        return tokens + (y if self.drop_path is None else self.drop_path(y))


class EfficientAttention(nn.HybridBlock):
    """Multi-head attention whose keys and values come from a smaller map: equations 1 and 2 of the paper.

    As in the authors' code, a convolution with equal kernel and stride reduces the map; pixels at the end that do not
    fill a window are dropped. tokens: (N, H W, channels), size: (N, C', H, W) -> (N, H W, channels).
    """

    def __init__(self, channels: int, heads: int, reduction: int, *, epsilon: float):
        super().__init__()
        self._heads, self._scale = heads, (channels // heads) ** -0.5
        with self.name_scope():
            self.query, self.key, self.value, self.proj = (_dense(channels, channels) for _ in range(4))
            self.sr = self.norm = None
            if reduction > 1:
                self.sr = nn.Conv2D(channels, reduction, reduction, in_channels=channels)
                self.norm = LayerNorm(epsilon=epsilon, in_channels=channels)

    def hybrid_forward(self, F, tokens, size):
        reduced = tokens
        if self.sr is not None:
            reduced = self.norm(to_tokens(F, self.sr(to_map(F, tokens, size))))
        query, key, value = (self._split(F, to_float32(F, y))
                             for y in (self.query(tokens), self.key(reduced), self.value(reduced)))
        weights = F.softmax(F.batch_dot(query * self._scale, key, transpose_b=True), axis=-1)  # (N heads, L, L')
        y = F.reshape(F.batch_dot(weights, value), (-4, -1, self._heads, 0, 0))  # (N, heads, L, d)
        y = F.reshape(F.transpose(y, axes=(0, 2, 1, 3)), (0, 0, -3))
        return self.proj(as_type_of(F, y, tokens))

    def _split(self, F, y):
        """Split the heads: (N, L, channels) -> (N heads, L, channels / heads)."""
        return F.reshape(F.transpose(F.reshape(y, (0, 0, self._heads, -1)), axes=(0, 2, 1, 3)), (-3, 0, 0))


class MixFFN(nn.HybridBlock):
    """Perceptron with a 3x3 depthwise convolution before its GELU: equation 3 of the paper.

    The zero padding of the convolution provides position information.
    tokens: (N, H W, channels), size: (N, C', H, W) -> (N, H W, channels).
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = 4 * channels
        with self.name_scope():
            self.fc1 = _dense(hidden, channels)
            self.dwconv = nn.Conv2D(hidden, 3, padding=1, groups=hidden, in_channels=hidden)
            self.act = nn.GELU()
            self.fc2 = _dense(channels, hidden)

    def hybrid_forward(self, F, tokens, size):
        y = self.dwconv(to_map(F, self.fc1(tokens), size))
        return self.fc2(self.act(to_tokens(F, y)))


def to_tokens(F, x):
    """Return a map as tokens: (N, C, H, W) -> (N, H W, C)."""
    return F.swapaxes(F.reshape(x, (0, 0, -1)), 1, 2)


def to_map(F, tokens, size):
    """Return tokens as a map: (N, H W, C) -> (N, C, H, W), with the height and width of ``size``."""
    return F.reshape_like(F.swapaxes(tokens, 1, 2), size, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)


def _dense(units: int, in_units: int) -> nn.Dense:
    return nn.Dense(units, flatten=False, in_units=in_units, weight_initializer=mx.init.Normal(0.02))


# table 6 of the paper
_WIDE = (64, 128, 320, 512)
mit_b0 = partial(MixTransformer, channels=(32, 64, 160, 256), depths=(2, 2, 2, 2))
mit_b1 = partial(MixTransformer, channels=_WIDE, depths=(2, 2, 2, 2))
mit_b2 = partial(MixTransformer, channels=_WIDE, depths=(3, 4, 6, 3))
mit_b3 = partial(MixTransformer, channels=_WIDE, depths=(3, 4, 18, 3))
mit_b4 = partial(MixTransformer, channels=_WIDE, depths=(3, 8, 27, 3))
mit_b5 = partial(MixTransformer, channels=_WIDE, depths=(3, 6, 40, 3))
