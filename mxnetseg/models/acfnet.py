"""ACFNet, attentional class feature network: Zhang, Chen, Li, Hong, Liu, Ma, Han & Ding, ICCV 2019.

A coarse segmentation gives every pixel features of its classes; a second head predicts from them.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..errors import ConfigError, UnknownNameError
from ..losses import Blend, LovaszSoftmax, Term
from ..nn.attention import unlikeness
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import ASPP
from ..nn.precision import as_type_of, to_float32
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import BACKBONES, get_backbone
from .weights.pytorch import gluon_name


def paper_mixture(F, features, logits):
    """Mix class centres as in the paper, see :class:`ClassFeatures`.

    features (N, C, HW), logits (N, nclass, HW) -> (N, C, HW).
    """
    # P_cj / sum_j P_cj, written as a softmax, which is also defined for a class without pixels
    weights = F.softmax(F.log_softmax(logits, axis=1), axis=2)
    centres = F.batch_dot(features, weights, transpose_b=True)  # (N, C, nclass)
    return F.batch_dot(centres, F.softmax(logits, axis=1))


def port_mixture(F, features, logits):
    """Mix class features as in the ports, see :class:`ClassFeatures`.

    features (N, C, HW), logits (N, nclass, HW) -> (N, C, HW).
    """
    weights = unlikeness(F, F.batch_dot(logits, features, transpose_b=True))  # (N, nclass, C)
    return F.batch_dot(weights, logits, transpose_a=True)


MIXTURES = {"port": port_mixture, "paper": paper_mixture}
FORMS = ("mxnetseg", "pytorch")


class ClassFeatures(nn.HybridBlock):
    """Features of the classes that a coarse segmentation predicts at each pixel.

    x: (N, in_channels, H, W), coarse logits: (N, nclass, H, W) -> (N, channels, H, W).

    Let F' be the features after a 1x1 convolution, j a pixel and c a class.

    * ``'paper'``: P = softmax_c(logits). The class centre block computes the centres
      F_c = sum_j P_cj F'_j / sum_j P_cj, and the class attention block the mixture sum_c P_cj F_c at each pixel.
    * ``'port'``, as in MXNetSeg and in the PyTorch port: P = logits, E = P F'^T. The weights of a class over the
      *channels* are softmax(max(E) - E); each pixel gets their sum, weighted by its logits. This is DANet's channel
      attention between classes and channels, not a class centre.

    Both end in a 1x1 convolution and have the same parameters.

    Args:
        channels, in_channels: output and input channels.
        variant: ``'port'`` or ``'paper'``.
        linear: the last convolution has a bias but no norm and no ReLU, and dropout follows the first one.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, variant: str, linear: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._mixture = MIXTURES[variant]
        with self.name_scope():
            self.conv_1 = ConvModule2d(channels, 1, in_channels=in_channels, **norm)
            self.drop = nn.Dropout(0.2, axes=(2, 3)) if linear else None
            self.conv_2 = nn.Conv2D(channels, 1, in_channels=channels) if linear else \
                ConvModule2d(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, x, logits):
        x = self.conv_1(x)
        if self.drop is not None:
            x = self.drop(x)
        features, classes = (F.reshape(to_float32(F, y), (0, 0, -1)) for y in (x, logits))
        return self.conv_2(F.reshape_like(as_type_of(F, self._mixture(F, features, classes), x), x))


class ACFNet(SegModel):
    """ACFNet: the features of a pixel's likely classes are added to its own features for the final prediction.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by logits that only the loss uses.

    ``form`` selects the structure around the class features (whose rule is ``variant``):

    * ``'mxnetseg'``: the base features come from an ASPP with 512 channels and without image pooling; the heads are
      FCN heads. The final logits are the prediction; with ``aux`` the coarse and the auxiliary logits follow. The
      weights of their losses are 0.7, 0.6 (both from the paper) and ``aux_weight`` (0.4 in the paper).
    * ``'pytorch'``, as in zrl4836's port: the ASPP has image pooling and no projection, so the base features have 2560
      channels; the heads are wider. The port's backbone is ECA-ResNet-101 (``backbone='ecaresnet101'``). The *sum* of
      final and coarse logits is the prediction, as in the port's evaluation; with ``aux`` the final, coarse and
      auxiliary logits follow. Their losses are those above, plus Lovász-softmax on the sum with weight 1. (In the port
      this loss fails because the sizes of its maps differ; here the logits are upsampled first.)

    If the configuration enables mining, it applies to the final logits only, as in the port.

    The port's files are not public. Its norms are in-place ABN, which use the absolute value of their weight, so
    ``mxnetseg convert`` stores the absolute value. Its networks expect images in blue, green, red order, in 0..255,
    minus (104.01, 116.67, 122.68).

    Args:
        nclass: number of classes.
        backbone: the base features are computed from its last tap, the auxiliary logits from the one before.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        form: ``'mxnetseg'`` or ``'pytorch'``.
        variant: ``'port'`` (required by the weights of MXNetSeg and the PyTorch port) or ``'paper'``; see
            :class:`ClassFeatures`.
        aux: supervise the coarse logits, and add an auxiliary head whose loss has the weight ``loss.aux_weight`` of the
            configuration. Without it the coarse head is trained only through the final logits.
        eca_kernels: kernel sizes of an ECA-ResNet's attention, see
            :class:`~mxnetseg.models.backbones.ecaresnet.ECAResNet`; None: 3 in each stage.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown form or variant.
        ConfigError: ``eca_kernels`` for another backbone.
    """

    mxnetseg_classes = ("ACFNet",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}
    structures = ({"form": "mxnetseg"}, {"form": "pytorch"})
    foreign_options = {"pytorch": {"form": "pytorch", "backbone": "ecaresnet101", "aux": True}}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, form: str = "mxnetseg",
                 variant: str = "port", aux: bool = False, eca_kernels: Sequence[int] | None = None,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if variant not in MIXTURES:
            raise UnknownNameError("variant of ACFNet", variant, MIXTURES)
        if form not in FORMS:
            raise UnknownNameError("form of ACFNet", form, FORMS)
        if eca_kernels is not None and not BACKBONES.resolve(backbone).startswith("ecaresnet"):
            raise ConfigError("only an ECA-ResNet has kernels of channel attention", where="model.options.eca_kernels",
                              received=f"{list(eca_kernels)} for {backbone}", fix="backbone='ecaresnet101'")

        norm = norm_options(norm_layer, norm_kwargs)
        options = {} if eca_kernels is None else {"kernels": tuple(eca_kernels)}
        super().__init__(get_backbone(backbone, output_stride=output_stride, options=options, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self.aligned_stride = self.backbone.grid_stride
        self._pytorch = form == "pytorch"

        with self.name_scope():
            if self._pytorch:
                self.needs_batch = 2  # the image pooling normalises a 1 x 1 map
                self.aspp = ASPP(512, in_channels=c4.channels, rates=(12, 24, 36), projection_size=0, drop=0, **norm)
                base = 5 * 512
                self.coarse_head = coarse_head(nclass, base, **norm)
                self.acf = ClassFeatures(512, in_channels=base, variant=variant, linear=True, **norm)
                self.head = final_head(nclass, 512 + base, **norm)
            else:
                self.aspp = ASPP(512, in_channels=c4.channels, rates=(12, 24, 36), image_pool=False, **norm)
                self.coarse_head = FCNHead(nclass, 512, **norm)
                self.acf = ClassFeatures(512, in_channels=512, variant=variant, **norm)
                self.head = FCNHead(nclass, 512 + 512, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        base = self.aspp(c4)
        coarse = self.coarse_head(base)
        class_features = self.acf(base, coarse)

        if self._pytorch:
            final = self.head(F.concat(class_features, base, dim=1))
            outputs, supervised = [final + coarse], [final, coarse]
        else:
            outputs, supervised = [self.head(F.concat(base, class_features, dim=1))], [coarse]
        if self.aux_head is not None:
            outputs += [*supervised, self.aux_head(c3)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        if self.aux_head is None:
            return [Term(0, 1.0, pixel_loss)]
        if self._pytorch:
            return joint_terms(pixel_loss, aux_weight, self.nclass)
        plain = pixel_loss.unmined()
        return [Term(0, 0.7, pixel_loss), Term(1, 0.6, plain), Term(2, aux_weight, plain)]

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the port's checkpoints, or None if this network does not have it."""
        for theirs, ours in _NAMES:
            name, found = re.subn(theirs, ours, name)
            if found:
                break
        return gluon_name(self.named_parameters(), name)

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the port's tensors with the absolute values of the norms' weights, which its norms use."""
        if form != "pytorch":
            return tensors
        norms = {name.rpartition(".")[0] for name in tensors if name.endswith(".running_var")}
        return {name: np.abs(value) if name.endswith(".weight") and name[:-len(".weight")] in norms else value
                for name, value in tensors.items()}


# the port's names -> ours; the first match counts
_NAMES = [(re.compile(theirs), ours) for theirs, ours in (
    (r"^conv1\.", "backbone.conv1.0."), (r"^bn1\.", "backbone.conv1.1."),
    (r"^conv2\.", "backbone.conv1.3."), (r"^bn2\.", "backbone.conv1.4."),
    (r"^conv3\.", "backbone.conv1.6."), (r"^bn3\.", "backbone.bn1."),
    (r"^layer", "backbone.layer"),
    (r"^aspp\.b([0-3])\.0\.", r"aspp.branches.\1.conv."), (r"^aspp\.b([0-3])\.1\.", r"aspp.branches.\1.bn."),
    (r"^aspp\.b4\.gap\.1\.", "aspp.branches.4.conv1x1.conv."),
    (r"^aspp\.b4\.gap\.2\.", "aspp.branches.4.conv1x1.bn."),
    (r"^auxlayer\.conv5\.0\.", "aux_head.conv1.conv."), (r"^auxlayer\.conv5\.1\.", "aux_head.conv1.bn."),
    (r"^auxlayer\.conv5\.4\.", "aux_head.conv2."),
    (r"^dsn\.", "coarse_head."), (r"^bottleneck\.3\.", "head.4."), (r"^bottleneck\.", "head."),
    (r"^acfhead\.acf\.conv1\.0\.", "acf.conv_1.conv."), (r"^acfhead\.acf\.conv1\.1\.", "acf.conv_1.bn."),
    (r"^acfhead\.acf\.conv2\.", "acf.conv_2."))]


def joint_terms(pixel_loss: Blend, aux_weight: float, nclass: int) -> Sequence[Term]:
    """Return the port's loss on the outputs (final + coarse, final, coarse, auxiliary logits), see :class:`ACFNet`."""
    plain = pixel_loss.unmined()
    return [Term(1, 0.7, pixel_loss), Term(2, 0.6, plain), Term(3, aux_weight, plain),
            Term(0, 1.0, LovaszSoftmax(nclass, per_image=False))]


def coarse_head(nclass: int, in_channels: int, *, norm_layer: type, norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build the port's coarse head: (N, in_channels, H, W) -> logits (N, nclass, H, W)."""
    head = nn.HybridSequential()
    head.add(nn.Conv2D(512, 1, in_channels=in_channels, use_bias=False),
             norm_layer(in_channels=512, **(norm_kwargs or {})), nn.Activation("relu"), nn.Dropout(0.5, axes=(2, 3)),
             nn.Conv2D(512, 3, padding=1, in_channels=512),
             norm_layer(in_channels=512, **(norm_kwargs or {})), nn.Activation("relu"), nn.Dropout(0.1, axes=(2, 3)),
             nn.Conv2D(nclass, 1, in_channels=512))
    return head


def final_head(nclass: int, in_channels: int, *, norm_layer: type, norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build the port's final head: (N, in_channels, H, W) -> logits (N, nclass, H, W)."""
    head = nn.HybridSequential()
    head.add(nn.Conv2D(1024, 3, padding=1, in_channels=in_channels, use_bias=False),
             norm_layer(in_channels=1024, **(norm_kwargs or {})), nn.LeakyReLU(0.01), nn.Dropout(0.1, axes=(2, 3)),
             nn.Conv2D(nclass, 1, in_channels=1024))
    return head
