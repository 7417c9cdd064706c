"""Modified aligned Xception-65 in two variants: Chollet 2017; Chen et al. 2018 (DeepLabv3+), section 3.2."""
from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from importlib import import_module

from mxnet.gluon import nn

from ._base import Backbone, Tap, check_output_stride


class Xception65(Backbone):
    """Xception-65.

    Taps: 128 channels after the first block of the entry flow (after ReLU), 256 after its second block, 728 after the
    middle flow, 2048 after the exit flow. The second and third taps are sums without activation. Parameter names are
    GluonCV's: ``conv1``, ``block1``, ``midflow``, ``conv5``, ...

    DeepLab's TensorFlow weights, which timm offers as ``xception65.tf_in1k``, belong to a network with the same
    parameters but other computations: the shortcut of the second block reads its input before the ReLU; the last three
    separable convolutions have a ReLU between their two convolutions instead of before them; norms have epsilon 0.001;
    and pixels are scaled to [-1, 1].

    Args:
        tensorflow: build this network instead of GluonCV's.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, tensorflow: bool = False, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, "xception65")
        # the arguments are bound here, because GluonCV does not pass norm_kwargs to one of its layers
        norm = partial(norm_layer, **{**({"epsilon": 1e-3} if tensorflow else {}), **(norm_kwargs or {})})
        whole = import_module("gluoncv.model_zoo.xception").Xception65(output_stride=output_stride,
                                                                        norm_layer=norm)
        reductions = [min(r, output_stride) for r in (4, 8, 16, 32)]
        source = ({"timm_names": ["xception65.tf_in1k"], "mean": (0.5,) * 3, "std": (0.5,) * 3} if tensorflow
                  else {"gluoncv_name": "xception"})
        super().__init__((), [Tap(c, r) for c, r in zip((128, 256, 728, 2048), reductions)], **source)
        self._tensorflow = tensorflow

        with self.name_scope():
            for name, block in whole._children.items():
                if name not in ("avgpool", "flat", "fc"):
                    setattr(self, name, block)

    def hybrid_forward(self, F, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.block1(x)
        c1 = self.relu(x)
        shortcut = x if self._tensorflow else c1
        c2 = self.block2.rep(c1) + self.block2.skipbn(self.block2.skip(shortcut))
        c3 = self.midflow(self.block3(c2))

        x = self.block20(c3)
        x = x if self._tensorflow else self.relu(x)
        for conv, norm in ((self.conv3, self.bn3), (self.conv4, self.bn4), (self.conv5, self.bn5)):
            x = self.relu(norm(self._separable(F, conv, x)))
        return [c1, c2, c3, x]

    def _separable(self, F, conv, x):
        """Apply a separable convolution of the exit flow."""
        if not self._tensorflow:
            return conv(x)
        x = conv.fixed_padding(x, F, conv.kernel_size, dilation=conv.dilation)
        return conv.pointwise(self.relu(conv.bn(conv.conv1(x))))

    def from_gluoncv(self, name: str) -> str | None:
        return None if name.startswith("fc.") else name

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        name = re.sub(r"^stem\.(\d)\.(conv|bn)", lambda m: f"{m[2]}{int(m[1]) + 1}", name)
        name = re.sub(r"^blocks\.20\.stack\.conv(\d)\.bn_pw", lambda m: f"bn{int(m[1]) + 2}", name)
        name = re.sub(r"^blocks\.20\.stack\.conv(\d)", lambda m: f"conv{int(m[1]) + 2}", name)
        name = re.sub(r"^blocks\.(\d+)", lambda m: _block(int(m[1])), name)
        # the first two blocks start without a ReLU, so the indices of their layers are smaller by one
        name = re.sub(r"^(block[12]\.|)(.*?)stack\.conv(\d)\.(bn_pw)?", lambda m: (
            f"{m[1]}{m[2]}rep.{3 * int(m[3]) - 2 + bool(m[4]) - bool(m[1])}{'' if m[4] else '.'}"), name)
        for theirs, ours in (("shortcut.conv", "skip"), ("shortcut.bn", "skipbn"), ("conv_dw", "conv1"),
                             ("bn_dw", "bn"), ("conv_pw", "pointwise")):
            name = name.replace(theirs, ours)
        return super().from_pytorch(name)


def _block(number: int) -> str:
    """Return our name of timm's ``blocks.0`` to ``blocks.19``."""
    return f"block{number + 1}" if number < 3 or number == 19 else f"midflow.{number - 3}"


xception65_tf = partial(Xception65, tensorflow=True)
