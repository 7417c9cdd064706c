"""Backbones: sizes and channels of their taps, and strides replaced by dilation."""
import re
from fnmatch import fnmatch
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from compare import assert_close, copy_parameters, random_image

from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.models.backbones import BACKBONES, get_backbone, list_backbones
from mxnetseg.models.weights.pretrained import load_pretrained_base

# deep ones, or another size of a backbone in the quick suite
SLOW = ("resnet34*", "resnet101*", "resnet152*", "resnet50_v1*", "mobilenet_v2_0_5", "mobilenet_v2_0_75",
        "xception65*", "densenet161", "densenet169", "densenet201", "vit_base_16", "resnest26", "resnest50",
        "resnest101", "ecaresnet*_v1d", "mit_b[12]")
# too large for a test; a smaller size runs the same code
HUGE = ("vit_large_16", "vit_huge_16", "resnest200", "resnest269", "mit_b3", "mit_b4", "mit_b5")
OTHER_SIZES = ("ecaresnet50", "ecaresnet101")  # their maps have other sizes, see test_ecaresnet.py
FIXED = {"densenet": 32, "eprnet": 8, "mit": 32, "vit": 16}  # families with one output stride


def fixed_stride(name):
    return FIXED.get(re.split(r"[\d_]", name)[0])


def parametrize(strides, *, fixed=True, without=()):
    """Parametrise over every backbone and its output strides among ``strides``.

    ``fixed``: whether backbones with a single output stride are included.
    """
    return pytest.mark.parametrize("name, output_stride", [
        pytest.param(name, stride, marks=pytest.mark.slow if any(fnmatch(name, pattern) for pattern in SLOW) else ())
        for name in list_backbones() if name not in (*HUGE, *OTHER_SIZES, *without) for stride in strides
        if (fixed and stride == fixed_stride(name)) or not fixed_stride(name)])


def side_of_tap(name, side, reduction):
    """Return the side of a tap's map. Sizes are rounded up, except by the transitions of DenseNets."""
    if not name.startswith("densenet"):
        return -(-side // reduction)
    return -(-side // 4) * 4 // reduction


def build(name, **arguments):
    backbone = get_backbone(name, **arguments)
    backbone.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0.0))
    return backbone


def features(backbone, x):
    return [feature.asnumpy() for feature in backbone(x)]


@parametrize([8, 16, 32])
def test_taps_describe_the_outputs(name, output_stride):
    backbone = build(name, output_stride=output_stride)
    reductions = [tap.reduction for tap in backbone.taps]
    assert reductions == sorted(reductions) and reductions[-1] == output_stride
    assert set(reductions) <= {4, 8, 16, 32}
    backbone.hybridize()
    for size in [(64, 32), (33, 50), (97, 65)]:
        got = features(backbone, random_image(*size))
        assert len(got) == len(backbone.taps)
        for feature, tap in zip(got, backbone.taps):
            assert feature.shape == (1, tap.channels, *(side_of_tap(name, n, tap.reduction) for n in size))
            assert np.isfinite(feature).all() and feature.any()


# channels scaled by means over the map, which change; and mmsegmentation's dilation, where weights read other pixels
OTHERWISE = ("resnest", "mobilenet_v3", "ecaresnet", "resnet18_v1c", "resnet34_v1c")


@parametrize([8, 16], fixed=False, without=[n for n in list_backbones() if n.startswith(OTHERWISE)])
def test_dilated_features_contain_the_strided_ones(name, output_stride):
    """Every weight reads the same input pixels as before, so the coarse map is a part of the fine map."""
    coarse = build(name, output_stride=32)
    fine = build(name, output_stride=output_stride)
    pooled_shortcuts = re.search("v1[de]", name)
    x = random_image(64, 96) if pooled_shortcuts else random_image(70, 65)  # at the border of odd maps they differ
    features(coarse, x), features(fine, x)  # infer the shapes
    copy_parameters(coarse, fine)
    taps = list(zip(features(coarse, x), features(fine, x), coarse.taps, fine.taps))
    if pooled_shortcuts and output_stride == 8:
        taps.pop()  # the pooling of the last shortcut is not dilated
    for one, other, tap, dilated in taps:
        step = tap.reduction // dilated.reduction
        assert_close(other[:, :, ::step, ::step], one)


@pytest.mark.parametrize("name, output_stride", [
    ("resnet18", 8), ("resnet18", 32), ("resnet50", 8),
    pytest.param("resnet50", 32, marks=pytest.mark.slow), pytest.param("resnet101", 8, marks=pytest.mark.slow),
])
def test_resnets_equal_gluoncvs_with_the_same_weights(name, output_stride, tmp_path):
    ours = build(name, output_stride=output_stride)
    x = random_image(65, 49)
    ours(x)  # infers the shapes
    theirs = getattr(import_module("gluoncv.model_zoo.resnetv1b"), ours.gluoncv_name)(
        pretrained=False, dilated=output_stride == 8)
    theirs.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0.0))
    theirs(x)
    file = tmp_path / "classifier.params"
    theirs.save_parameters(str(file))
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    file.unlink()
    wanted = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for stage, got in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), features(ours, x)):
        wanted = stage(wanted)
        assert_close(got, wanted.asnumpy())


def test_unknown_backbones_and_strides():
    with pytest.raises(UnknownNameError, match="'mobilenet_v2_1_0'"):
        get_backbone("mobilenet")
    for name in list_backbones():
        single = fixed_stride(name)
        for stride in (4, 12, 64) + tuple(s for s in (8, 16, 32) if single and s != single):
            strides = single or "(8, 16 or )?32"
            with pytest.raises(ConfigError, match=f"(?i){name.split('_')[0]}.* at output stride {strides}"):
                get_backbone(name, output_stride=stride)


@pytest.mark.parametrize("alias", sorted(BACKBONES.aliases))
def test_aliases_resolve(alias):
    assert BACKBONES.resolve(alias) in list_backbones()
