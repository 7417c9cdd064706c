"""HRNetV2: Wang, Sun, Cheng, Jiang, Deng, Zhao, Liu, Mu, Tan, Wang, Liu & Xiao, TPAMI 2021.

Branches of several resolutions run side by side from end to end and exchange what they know after every module. It
is not among the backbones by name: its last fusion has parameters of its own for every tap, and most decoders
do not read all four.
"""
from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ...errors import ConfigError
from ...nn.blocks import ConvModule2d
from ...nn.resize import enlarge, resize
from ._base import Backbone, Tap

# modules in stage 2, 3 and 4
_MODULES = (1, 4, 3)
_MODULES_OF_SECOND_BRANCH = (1, 3, 2)
_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier")
_TIMM = {(18, _MODULES, 4): "hrnet_w18.ms_in1k", (30, _MODULES, 4): "hrnet_w30.ms_in1k",
         (32, _MODULES, 4): "hrnet_w32.ms_in1k", (40, _MODULES, 4): "hrnet_w40.ms_in1k",
         (44, _MODULES, 4): "hrnet_w44.ms_in1k", (48, _MODULES, 4): "hrnet_w48.ms_in1k",
         (64, _MODULES, 4): "hrnet_w64.ms_in1k", (18, (1, 3, 2), 2): "hrnet_w18_small_v2.gluon_in1k"}


class HRModule(nn.HybridBlock):
    """Basic blocks in each branch, then a fusion of every branch with all others (section 3.2).

    One map a branch, (N, widths[i], H / 2^i, W / 2^i), -> the same.

    Args:
        widths: channels of the branches, fine to coarse.
        blocks: in each branch.
        nearest: enlarge coarse maps so, instead of bilinearly.
        by_factor: enlarge them by a power of two, bilinearly, and then to the fine map's size.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, widths: Sequence[int], *, blocks: int, nearest: bool, by_factor: bool, norm_layer: type,
                 norm_kwargs: Optional[Mapping]):
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
        for to, own in enumerate(maps):
            total = None
            for source, y in enumerate(maps):
                if source != to:
                    y = getattr(self, f"fuse{to}_{source}")(y)
                if source > to and self._nearest:
                    y = F.UpSampling(y, scale=2 ** (source - to), sample_type="nearest")
                    y = F.slice_like(y, own, axes=(2, 3))
                elif source > to and self._by_factor:
                    y = enlarge(F, y, 2 ** (source - to), align_corners=False, then=own)
                elif source > to:
                    y = resize(F, y, own, align_corners=False)
                total = y if total is None else total + y
            fused.append(F.relu(total))
        return fused


def _path(widths, source, to, norm):
    """From branch ``source`` to ``to``: 1x1 when it is coarser, else halved by as many 3x3 as there are steps."""
    path = nn.HybridSequential()
    if source > to:
        path.add(ConvModule2d(widths[to], 1, in_channels=widths[source], activation=None, **norm))
    for step in range(source, to):
        last = step == to - 1
        path.add(ConvModule2d(widths[to] if last else widths[source], 3, 2, in_channels=widths[source],
                              activation=None if last else "relu", **norm))
    return path


class HRNetV2(Backbone):
    """Taps: the four branches, (1, 2, 4, 8) times ``width`` channels at strides 4, 8, 16 and 32.

    Args:
        width: channels of the finest branch: 18, 32 or 48 in the paper.
        branch_stage: a second branch leaves the trunk after this stage, 1, 2 or 3, with later stages of its own: stage
            2 of one module, 3 of three, 4 of two; its four maps follow the taps' (OVeNet). None: no second branch.
        modules: in stage 2, 3 and 4; (1, 3, 2) with ``blocks=2`` is the "small v2" of HRNet's authors.
        blocks: in stage 1, and in each branch of a module.
        nearest: the form for classification, in which the ImageNet weights were trained: the coarse maps of a fusion
            are enlarged by repetition. Segmentation, in the paper, does it bilinearly.
        by_factor: enlarge them by a power of two, and then to the fine map's size, as in mmsegmentation. That differs
            where sizes are odd.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: no width, or another branch_stage.
    """

    def __init__(self, *, width: int, branch_stage: Optional[int] = None, modules: Sequence[int] = _MODULES,
                 blocks: int = 4, nearest: bool = False, by_factor: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
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
        """The transitions and stages after stage ``after``: ``transition1`` + ``suffix``, and so on."""
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
        after = [None, [self.layer1(self.stem2(self.stem1(x)))]]  # stage -> its maps
        for n in (1, 2, 3):
            after.append(self._next_stage(n, after[n], ""))
        if self._branch_stage is None:
            return after[4]
        maps = after[self._branch_stage]
        for n in range(self._branch_stage, 4):
            maps = self._next_stage(n, maps, "_2")
        return [*after[4], *maps]

    def _next_stage(self, n, maps, suffix):
        """The maps of stage n + 1 from those of stage n; its new branch is made from the coarsest."""
        transition = getattr(self, f"transition{n}{suffix}")
        maps = [path(maps[0]) for path in transition] if n == 1 else [*maps, transition(maps[-1])]
        return _run(getattr(self, f"stage{n + 1}{suffix}"), maps)

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter in HRNet's checkpoints, without their prefix; None for one we have not."""
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked" or stem.startswith(_CLASSIFIER):
            return None
        stem = re.sub(r"^(conv|bn)([12])$", r"stem\2.\1", stem)
        # a transition holds nothing for the branches that pass; the new branch is a chain of one
        stem = re.sub(r"^(transition1(?:_2)?)\.(\d)(?:\.0)?\.([01])$", r"\1.\2.\3", stem)
        stem = re.sub(r"^(transition[23](?:_2)?)\.\d\.0\.([01])$", r"\1.\2", stem)
        stem = re.sub(r"fuse_layers\.(\d)\.(\d)\.([01])$", r"fuse\1_\2.0.\3", stem)
        stem = re.sub(r"fuse_layers\.(\d)\.(\d)\.(\d)\.([01])$", r"fuse\1_\2.\3.\4", stem)
        stem = re.sub(r"((?:transition|fuse).*\.)0$", r"\1conv", stem)
        stem = re.sub(r"((?:transition|fuse).*\.)1$", r"\1bn", stem)
        if re.search(r"(bn\d?|downsample\.1)$", stem):
            last = {"weight": "gamma", "bias": "beta"}.get(last, last)
        return f"{stem}.{last}"


def _bottlenecks(count, norm):
    """Stage 1: bottlenecks, 64 -> 256 channels."""
    block = import_module("gluoncv.model_zoo.resnetv1b").BottleneckV1b
    shortcut = nn.HybridSequential()
    shortcut.add(nn.Conv2D(256, 1, in_channels=64, use_bias=False),
                 norm["norm_layer"](in_channels=256, **(norm["norm_kwargs"] or {})))
    stage = nn.HybridSequential()
    stage.add(*(block(64, downsample=None if i else shortcut, **norm) for i in range(count)))
    return stage


def _stage(widths, count, module):
    stage = nn.HybridSequential()
    stage.add(*(module(widths) for _ in range(count)))
    return stage


def _run(stage, maps):
    for module in stage:
        maps = module(*maps)
    return maps
