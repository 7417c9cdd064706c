"""ResNets with efficient channel attention (ECA-Net): Wang, Wu, Zhu, Li, Zuo & Hu, CVPR 2020."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mxnet.gluon import nn

from ...errors import ConfigError
from ._base import Backbone, Tap, check_output_stride, limit_stride
from .resnet import timm_names

_DEPTHS = {"ecaresnet50": (3, 4, 6, 3), "ecaresnet101": (3, 4, 23, 3)}


class ECAResNet(Backbone):
    """ECA-ResNet as in zrl4836's ACFNet.

    Taps: (256, 512, 1024, 2048) channels at strides 4, 8, 16, 32, or at most ``output_stride``.

    The stem has three 3x3 convolutions of 64, 64 and 128 channels. The pooling after it rounds up, so that every tap
    has an additional row and column if the input's sides are multiples of 4. In a stage that loses its stride, the
    first block is dilated too. Apart from the pooling and the attention, this is GluonCV's ResNet v1s with the same
    parameter names. It reads GluonCV's ImageNet weights; the attention keeps its initial values.

    Args:
        name: ``'ecaresnet50'`` or ``'ecaresnet101'``.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        kernels: kernel sizes of the attention, one odd number per stage. The ImageNet weights of ECA-Net's authors,
            which have another stem, use (3, 3, 5, 7).
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: another output stride, or kernels that are not four odd numbers.
    """

    def __init__(self, name: str, *, output_stride: int = 32, kernels: Sequence[int] = (3, 3, 3, 3),
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, name)
        _check_kernels(kernels)
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}

        stages, taps, channels, reduction = [], [], 128, 4
        for i, (blocks, kernel) in enumerate(zip(_DEPTHS[name], kernels)):
            width, strides, dilation = 64 * 2 ** i, 1, 1
            if i and reduction < output_stride:
                strides, reduction = 2, 2 * reduction
            elif i:
                dilation = 2 ** (i + 2) // reduction
            stage = nn.HybridSequential()
            for block in range(blocks):
                stage.add(ECABottleneck(width, in_channels=channels, strides=1 if block else strides,
                                        dilation=dilation, kernel=kernel, **norm))
                channels = 4 * width
            stages.append(stage)
            taps.append(Tap(channels, reduction))

        v1s = name.replace("eca", "") + "_v1s"
        super().__init__(stages, taps, gluoncv_name=v1s, timm_names=timm_names(v1s))

        with self.name_scope():
            self.conv1, self.bn1, self.relu = _stem(64, norm_layer, norm_kwargs)
            self.maxpool = nn.MaxPool2D(3, 2, 1, ceil_mode=True)
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def from_gluoncv(self, name: str) -> str | None:
        return None if name.startswith("fc.") else name

    def convert(self, tensors: Mapping[str, object], *, pytorch: bool) -> dict[str, object]:
        """Return a classifier's parameters as the base class does, with the present values of the attention."""
        attention = {name: p for name, p in self._collect_params_with_prefix().items() if ".eca." in name}
        present = {name: p.data(p.list_ctx()[0]).asnumpy() for name, p in attention.items()}
        return {**present, **super().convert(tensors, pytorch=pytorch)}


class ECABottleneck(nn.HybridBlock):
    """Bottleneck with the stride in its 3x3 convolution, and :class:`ECA` before the sum.

    x: (N, in_channels, H, W) -> (N, 4 width, H / strides, W / strides), rounded up.

    Args:
        width: channels of the 3x3 convolution.
        in_channels: input channels.
        strides, dilation: stride and dilation of the 3x3 convolution.
        kernel: see :class:`ECA`.
        pooled: the shortcut averages 2x2 pixels instead of reading every second one, as in a ResNet v1d.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, width: int, *, in_channels: int, strides: int, dilation: int, kernel: int, pooled: bool = False,
                 norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = partial(norm_layer, **(norm_kwargs or {}))

        with self.name_scope():
            self.conv1 = nn.Conv2D(width, 1, in_channels=in_channels, use_bias=False)
            self.bn1 = norm(in_channels=width)
            self.conv2 = nn.Conv2D(width, 3, strides, dilation, dilation, in_channels=width, use_bias=False)
            self.bn2 = norm(in_channels=width)
            self.conv3 = nn.Conv2D(4 * width, 1, in_channels=width, use_bias=False)
            self.bn3 = norm(in_channels=4 * width)
            self.eca = ECA(kernel)

            self.downsample = None
            if strides > 1 or in_channels != 4 * width:
                self.downsample = nn.HybridSequential()
                if pooled:
                    self.downsample.add(nn.AvgPool2D(strides, strides, ceil_mode=True, count_include_pad=False))
                    strides = 1
                self.downsample.add(nn.Conv2D(4 * width, 1, strides, in_channels=in_channels, use_bias=False),
                                    norm(in_channels=4 * width))

    def hybrid_forward(self, F, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.eca(self.bn3(self.conv3(x))) + shortcut)


class ECA(nn.HybridBlock):
    """Efficient channel attention: section 3.2.2 of the paper, equations 5 and 7.

    The factor of each channel is the sigmoid of a convolution of the channels' means, over ``kernel`` neighbouring
    channels. x: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, kernel: int):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv1D(1, kernel, padding=kernel // 2, in_channels=1, use_bias=False)

    def hybrid_forward(self, F, x):
        mean = F.contrib.AdaptiveAvgPooling2D(x, output_size=1)  # (N, C, 1, 1)
        factor = F.sigmoid(self.conv(F.reshape(mean, (0, 1, -1))))  # (N, 1, C)
        return F.broadcast_mul(x, F.reshape_like(factor, mean))


class ECAResNetD(Backbone):
    """ECA-ResNet v1d as in timm, which has ImageNet weights of it; see :mod:`.resnet` for v1d.

    Taps: (256, 512, 1024, 2048) channels at strides 4, 8, 16, 32, or at most ``output_stride``; sizes rounded up.

    Args:
        name: ``'ecaresnet50_v1d'`` or ``'ecaresnet101_v1d'``.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        kernels: kernel sizes of the attention, one odd number per stage. The default follows from the stages' channels
            by the paper's rule (equation 12).
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: another output stride, or kernels that are not four odd numbers.
    """

    def __init__(self, name: str, *, output_stride: int = 32, kernels: Sequence[int] = (5, 5, 5, 7),
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, name)
        _check_kernels(kernels)
        depth = name[:-len("_v1d")]
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}

        stages, channels = [], 64
        for i, (blocks, kernel) in enumerate(zip(_DEPTHS[depth], kernels)):
            stage = nn.HybridSequential()
            for block in range(blocks):
                stage.add(ECABottleneck(64 * 2 ** i, in_channels=channels, strides=1 if block or not i else 2,
                                        dilation=1, kernel=kernel, pooled=True, **norm))
                channels = 256 * 2 ** i
            stages.append(stage)

        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        super().__init__(stages, [Tap(256 * 2 ** i, r) for i, r in enumerate(reductions)],
                         timm_names=[f"{depth}d.miil_in1k"])

        with self.name_scope():
            self.conv1, self.bn1, self.relu = _stem(32, norm_layer, norm_kwargs)
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        return super().from_pytorch(name.replace(".se.conv.", ".eca.conv."))


def _stem(width: int, norm_layer: type, norm_kwargs: Mapping | None):
    """Return three 3x3 convolutions of ``width``, ``width`` and ``2 width`` channels, the last one's norm, and ReLU."""
    norm = partial(norm_layer, **(norm_kwargs or {}))
    convs = nn.HybridSequential()
    for in_channels, strides in ((3, 2), (width, 1)):
        convs.add(nn.Conv2D(width, 3, strides, 1, in_channels=in_channels, use_bias=False), norm(in_channels=width),
                  nn.Activation("relu"))
    convs.add(nn.Conv2D(2 * width, 3, 1, 1, in_channels=width, use_bias=False))
    return convs, norm(in_channels=2 * width), nn.Activation("relu")


def _check_kernels(kernels: Sequence[int]) -> None:
    """Raise an error unless there are four odd kernel sizes."""
    if len(kernels) != 4 or any(k < 1 or k % 2 == 0 for k in kernels):
        raise ConfigError("the attention takes one odd kernel size for each of the four stages",
                          where="model.options.eca_kernels", received=list(kernels), fix="for example [3, 3, 5, 7]")


ecaresnet50_v1d, ecaresnet101_v1d = (partial(ECAResNetD, f"{name}_v1d") for name in _DEPTHS)
ecaresnet50, ecaresnet101 = (partial(ECAResNet, name) for name in _DEPTHS)
