"""GluonCV's modified aligned Xception-65 (Chollet 2017; Chen et al. 2018, DeepLabv3+, section 3.2)."""
from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Mapping, Optional

from mxnet.gluon import nn

from .base import Backbone, Tap, check_output_stride


class Xception65(Backbone):
    """Taps: 128 channels after the entry flow's first block (rectified), 256 after its second, 728 after
    the middle flow, 2048 after the exit flow. The two in the middle are sums that no activation followed.

    Parameter names are GluonCV's: ``conv1``, ``block1``, ``midflow``, ``conv5``, ...

    Args:
        output_stride: 8, 16 or 32.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        check_output_stride(output_stride, "xception65")
        # bound, because GluonCV forgets norm_kwargs at one of its layers
        norm = partial(norm_layer, **(norm_kwargs or {}))
        whole = import_module("gluoncv.model_zoo.xception").Xception65(output_stride=output_stride,
                                                                        norm_layer=norm)
        reductions = [min(r, output_stride) for r in (4, 8, 16, 32)]
        super().__init__((), [Tap(c, r) for c, r in zip((128, 256, 728, 2048), reductions)],
                         gluoncv_name="xception")
        with self.name_scope():
            for name, block in whole._children.items():
                if name not in ("avgpool", "flat", "fc"):
                    setattr(self, name, block)

    def hybrid_forward(self, F, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        c1 = self.relu(self.block1(x))
        c2 = self.block2(c1)
        c3 = self.midflow(self.block3(c2))
        x = self.relu(self.block20(c3))
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.relu(self.bn4(self.conv4(x)))
        c4 = self.relu(self.bn5(self.conv5(x)))
        return [c1, c2, c3, c4]

    def from_gluoncv(self, name: str):
        return None if name.startswith("fc.") else name
