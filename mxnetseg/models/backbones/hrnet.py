"""HRNetV2: Wang, Sun, Cheng, Jiang, Deng, Zhao, Liu, Mu, Tan, Wang, Liu & Xiao, TPAMI 2021.

Parallel branches of several resolutions, which exchange their maps after every module. It is not registered as a
backbone, because its last fusion has parameters for each tap, which would be unused in decoders that do not read all
four taps.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module

from mxnet.gluon import nn

from ...errors import ConfigError
from ...nn.blocks import ConvModule2d
from ...nn.resize import enlarge, resize
from ._base import Backbone, Tap

# number of modules in stages 2, 3 and 4
_MODULES = (1, 4, 3)
_MODULES_OF_SECOND_BRANCH = (1, 3, 2)
_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier")
_TIMM = {(18, _MODULES, 4): "hrnet_w18.ms_in1k", (30, _MODULES, 4): "hrnet_w30.ms_in1k",
         (32, _MODULES, 4): "hrnet_w32.ms_in1k", (40, _MODULES, 4): "hrnet_w40.ms_in1k",
         (44, _MODULES, 4): "hrnet_w44.ms_in1k", (48, _MODULES, 4): "hrnet_w48.ms_in1k",
         (64, _MODULES, 4): "hrnet_w64.ms_in1k", (18, (1, 3, 2), 2): "hrnet_w18_small_v2.gluon_in1k"}


class HRModule(nn.HybridBlock):
    """Basic blocks in each branch, followed by the fusion of every branch with all others (section 3.2).

    One map (N, widths[i], H / 2^i, W / 2^i) per branch -> same.

    Args:
        widths: channels of the branches, fine to coarse.
        blocks: number of blocks in each branch.
        nearest: upsample coarse maps by nearest neighbour instead of bilinearly.
        by_factor: upsample bilinearly by a power of two, and then resize to the fine map's size.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, widths: Sequence[int], *, blocks: int, nearest: bool, by_factor: bool, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        self._count, self._nearest, self._by_factor = len(widths), nearest, by_factor
        block = import_module("gluoncv.model_zoo.resnetv1b").BasicBlockV1b

        with self.name_scope():
            self.branches = nn.HybridSequential()
            for width in widths:
                branch = nn.HybridSequential()
                branch.add(*(block(width, **norm) for _ in range(blocks)))
                self.branches.add(branch)
            for to in range(self._count):
                for source in range(self._count):
                    if source != to:
                        setattr(self, f"fuse{to}_{source}", _path(widths, source, to, norm))

    def hybrid_forward(self, F, *maps):
        maps = [branch(y) for branch, y in zip(self.branches, maps)]

        fused = []
        for to, target in enumerate(maps):
            total = None
            for source, y in enumerate(maps):
                if source != to:
                    y = getattr(self, f"fuse{to}_{source}")(y)
                if source > to and self._nearest:
                    y = F.UpSampling(y, scale=2 ** (source - to), sample_type="nearest")
                    y = F.slice_like(y, target, axes=(2, 3))
                elif source > to and self._by_factor:
                    y = enlarge(F, y, 2 ** (source - to), align_corners=False, then=target)
                elif source > to:
                    y = resize(F, y, target, align_corners=False)
                total = y if total is None else total + y
            fused.append(F.relu(total))
        return fused


def _path(widths: Sequence[int], source: int, to: int, norm: Mapping) -> nn.HybridSequential:
    """Build the path from branch ``source`` to ``to``: a 1x1 convolution if ``to`` is finer, else strided 3x3 ones."""
    path = nn.HybridSequential()
    if source > to:
        path.add(ConvModule2d(widths[to], 1, in_channels=widths[source], activation=None, **norm))
    for step in range(source, to):
        last = step == to - 1
        path.add(ConvModule2d(widths[to] if last else widths[source], 3, 2, in_channels=widths[source],
                              activation=None if last else "relu", **norm))
    return path


class HRNetV2(Backbone):
    """HRNetV2. Taps: the four branches, (1, 2, 4, 8) times ``width`` channels at strides 4, 8, 16 and 32.

    Args:
        width: channels of the finest branch: 18, 32 or 48 in the paper.
        branch_stage: stage, 1, 2 or 3, after which a second branch leaves the trunk (OVeNet). It has its own later
            stages, with 1, 3 and 2 modules in stages 2, 3 and 4. Its four maps follow those of the trunk. None: no
            second branch.
        modules: number of modules in stages 2, 3 and 4; (1, 3, 2) with ``blocks=2`` is "small v2" of HRNet's authors.
        blocks: number of blocks in stage 1, and in each branch of a module.
        nearest: upsample the coarse maps of a fusion by nearest neighbour, as in the classifier that the ImageNet
            weights were trained in. For segmentation the paper upsamples bilinearly.
        by_factor: upsample bilinearly by a power of two, and then resize to the fine map's size, as in mmsegmentation.
            The results differ where sizes are odd.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a width that is not a positive number, or another branch_stage.
    """

    def __init__(self, *, width: int, branch_stage: int | None = None, modules: Sequence[int] = _MODULES,
                 blocks: int = 4, nearest: bool = False, by_factor: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if not isinstance(width, int) or width < 1:
            raise ConfigError("HRNet's finest branch needs at least one channel", where="model.options.width",
                              received=width, fix="18, 32 or 48 in the paper")
        if branch_stage not in (None, 1, 2, 3) or isinstance(branch_stage, bool):
            raise ConfigError("the second branch must leave the trunk after stage 1, 2 or 3",
                              where="model.options.branch_stage", received=repr(branch_stage), fix="3, as in the paper")

        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        widths = [width * 2 ** i for i in range(4)]
        known = branch_stage is None and _TIMM.get((width, tuple(modules), blocks))
        super().__init__([], [Tap(w, 4 * 2 ** i) for i, w in enumerate(widths)], timm_names=[known] if known else ())
        module = partial(HRModule, blocks=blocks, nearest=nearest, by_factor=by_factor, **norm)

        with self.name_scope():
            self.stem1 = ConvModule2d(64, 3, 2, in_channels=3, **norm)
            self.stem2 = ConvModule2d(64, 3, 2, in_channels=64, **norm)
            self.layer1 = _bottlenecks(blocks, norm)
            self._make_stages("", 1, widths, modules, module, norm)
            if branch_stage is not None:
                self._make_stages("_2", branch_stage, widths, _MODULES_OF_SECOND_BRANCH, module, norm)
        self._branch_stage = branch_stage

    def _make_stages(self, suffix, after, widths, modules, module, norm) -> None:
        """Add the transitions and stages after stage ``after``: ``transition1`` + ``suffix``, and so on."""
        if after == 1:
            transition = nn.HybridSequential()
            transition.add(ConvModule2d(widths[0], 3, in_channels=256, **norm),
                           ConvModule2d(widths[1], 3, 2, in_channels=256, **norm))
            setattr(self, f"transition1{suffix}", transition)
            setattr(self, f"stage2{suffix}", _stage(widths[:2], modules[0], module))
        for n in range(max(after, 2), 4):
            setattr(self, f"transition{n}{suffix}", ConvModule2d(widths[n], 3, 2, in_channels=widths[n - 1], **norm))
            setattr(self, f"stage{n + 1}{suffix}", _stage(widths[:n + 1], modules[n - 1], module))

    def hybrid_forward(self, F, x):
        after = [None, [self.layer1(self.stem2(self.stem1(x)))]]  # number of a stage -> its maps
        for n in (1, 2, 3):
            after.append(self._next_stage(n, after[n], ""))
        if self._branch_stage is None:
            return after[4]
        maps = after[self._branch_stage]
        for n in range(self._branch_stage, 4):
            maps = self._next_stage(n, maps, "_2")
        return [*after[4], *maps]

    def _next_stage(self, n, maps, suffix):
        """Return the maps of stage n + 1 from those of stage n; the new branch starts from the coarsest map."""
        transition = getattr(self, f"transition{n}{suffix}")
        maps = [path(maps[0]) for path in transition] if n == 1 else [*maps, transition(maps[-1])]
        return _run(getattr(self, f"stage{n + 1}{suffix}"), maps)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in HRNet's checkpoints, or None if this backbone does not have it.

        Args:
            name: name in the checkpoint, without prefix.
        """
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked" or stem.startswith(_CLASSIFIER):
            return None

        stem = re.sub(r"^(conv|bn)([12])$", r"stem\2.\1", stem)
        # in the originals a transition has one entry per branch, empty for existing branches
        stem = re.sub(r"^(transition1(?:_2)?)\.(\d)(?:\.0)?\.([01])$", r"\1.\2.\3", stem)
        stem = re.sub(r"^(transition[23](?:_2)?)\.\d\.0\.([01])$", r"\1.\2", stem)
        stem = re.sub(r"fuse_layers\.(\d)\.(\d)\.([01])$", r"fuse\1_\2.0.\3", stem)
        stem = re.sub(r"fuse_layers\.(\d)\.(\d)\.(\d)\.([01])$", r"fuse\1_\2.\3.\4", stem)
        stem = re.sub(r"((?:transition|fuse).*\.)0$", r"\1conv", stem)
        stem = re.sub(r"((?:transition|fuse).*\.)1$", r"\1bn", stem)
        if re.search(r"(bn\d?|downsample\.1)$", stem):
            last = {"weight": "gamma", "bias": "beta"}.get(last, last)
        return f"{stem}.{last}"


def _bottlenecks(count: int, norm: Mapping) -> nn.HybridSequential:
    """Build stage 1, a row of bottlenecks: 64 -> 256 channels."""
    block = import_module("gluoncv.model_zoo.resnetv1b").BottleneckV1b
    shortcut = nn.HybridSequential()
    shortcut.add(nn.Conv2D(256, 1, in_channels=64, use_bias=False),
                 norm["norm_layer"](in_channels=256, **(norm["norm_kwargs"] or {})))
    stage = nn.HybridSequential()
    stage.add(*(block(64, downsample=None if i else shortcut, **norm) for i in range(count)))
    return stage


def _stage(widths: Sequence[int], count: int, module) -> nn.HybridSequential:
    """Build a stage of ``count`` modules, which :func:`_run` applies."""
    stage = nn.HybridSequential()
    stage.add(*(module(widths) for _ in range(count)))
    return stage


def _run(stage: nn.HybridSequential, maps):
    """Apply the modules of a stage, each of which takes and returns one map per branch."""
    for module in stage:
        maps = module(*maps)
    return maps
