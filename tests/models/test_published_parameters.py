"""Parameter counts against published tables. Shapes are inferred, and no parameter is initialised."""
import pytest

from mxnetseg.models import build_model
from mxnetseg.models._cost import count_parameters, measure

# MXNetSeg's table for Cityscapes, 19 classes, in millions: with running statistics, without the auxiliary head
MXNETSEG = [
    ("bisenet", "resnet18", None, 13.2),
    ("fcn", "resnet18", 8, 12.4),
    ("fcn", "resnet18", 32, 12.4),
    ("fcn", "resnet101", 8, 47.5),
    ("pspnet", "resnet101", 8, 56.4),
    ("deeplabv3", "resnet101", 8, 58.9),
    ("denseaspp", "resnet101", 8, 69.4),
    ("danet", "resnet101", 8, 66.7),
]

# PyTorch's convention, without running statistics: published millions, and the originals' exact count. (No number is
# published for ACFNet's port.)
PYTORCH = [
    ("flattenet", {"nclass": 59, "context": "ppm"}, 49.69, 49_694_775),
    ("flattenet", {"nclass": 59, "context": "attention"}, 48.39, 48_387_127),
    ("flattenet", {"nclass": 21, "context": "ppm", "aux_bins": (1, 2, 4, 8)}, 49.66, 49_655_787),
    ("flattenet", {"nclass": 21, "context": "attention"}, 48.35, 48_348_139),
    ("sfnet", {"backbone": "resnet18"}, 12.87, 12_869_715),
    ("sfnet", {"backbone": "resnet18", "aux": True}, 13.32, 13_320_204),
    ("sfnet", {"backbone": "resnet50"}, 31.33, 31_325_139),
    ("sfnet", {"backbone": "resnet101"}, 50.32, 50_317_267),
    ("hrnet", {"width": 48}, 65.86, 65_859_379),
    ("ovenet", {"width": 48}, 98.80, 98_795_926),
    ("ovenet", {"width": 48, "branch_stage": 2}, 110.46, 110_463_478),
    ("ovenet", {"width": 48, "branch_stage": 1}, 111.67, 111_673_654),
    ("acfnet", {"form": "pytorch", "backbone": "ecaresnet101", "aux": True}, 108.99, 108_992_348),
    ("ddrnet", {"variant": "23-slim"}, 5.70, 5_695_987), ("ddrnet", {"variant": "23"}, 20.15, 20_148_947),
    ("ddrnet", {"variant": "23-slim", "aux": True}, 5.73, 5_734_342),
    ("pidnet", {"variant": "s"}, 7.63, 7_625_715), ("pidnet", {"variant": "m"}, 28.54, 28_538_515),
    ("pidnet", {"variant": "l"}, 36.94, 36_939_571), ("pidnet", {"variant": "l", "aux": True}, 37.31, 37_314_311),
    ("segformer", {"variant": "b0"}, 3.72, 3_719_027), ("segformer", {"variant": "b1"}, 13.68, 13_682_131),
    ("segformer", {"variant": "b2"}, 27.36, 27_361_235), ("segformer", {"variant": "b3"}, 47.24, 47_237_075),
    ("segformer", {"variant": "b4"}, 64.01, 64_007_635), ("segformer", {"variant": "b5"}, 84.61, 84_607_955),
]


@pytest.mark.parametrize("name, backbone, output_stride, millions", MXNETSEG)
def test_mxnetseg(name, backbone, output_stride, millions):
    net = build_model(name, nclass=19, backbone=backbone, output_stride=output_stride)
    assert round(count_parameters(net) / 1e6, 1) == millions


@pytest.mark.parametrize("name, arguments, millions, exact", PYTORCH)
def test_pytorch(name, arguments, millions, exact):
    count = measure(build_model(name, **{"nclass": 19, **arguments})).count(trainable=True)
    assert count == exact and round(count / 1e6, 2) == millions


@pytest.mark.parametrize("name, arguments, base, slope", [
    ("flattenet", {"context": "attention"}, 48_326_593, 1026),
    ("flattenet", {"context": "ppm"}, 49_634_241, 1026),
    ("sfnet", {"backbone": "resnet18"}, 12_867_264, 129),
    ("sfnet", {"backbone": "resnet18", "aux": True}, 12_867_264 + 3 * 147_712, 4 * 129),
    ("sfnet", {"backbone": "resnet50"}, 31_320_256, 257),
    ("hrnet", {"width": 48}, 65_845_680, 721),
    ("ovenet", {"width": 48}, 98_782_227, 721),
    ("acfnet", {"form": "pytorch", "backbone": "ecaresnet101", "aux": True}, 108_958_243, 1795),
    ("acfnet", {"form": "pytorch", "backbone": "ecaresnet101"}, 106_598_435, 1538),
    ("ddrnet", {"variant": "23-slim", "aux": True}, 5_731_872, 130), ("ddrnet", {"variant": "23"}, 20_146_496, 129),
    ("pidnet", {"variant": "s", "aux": True}, 7_716_033, 258), ("pidnet", {"variant": "m"}, 28_536_064, 129),
    ("pidnet", {"variant": "l"}, 36_934_688, 257), ("segformer", {"variant": "b0"}, 3_714_144, 257),
    ("segformer", {"variant": "b5"}, 84_593_344, 769),
])
@pytest.mark.parametrize("nclass", [1, 150])
def test_any_number_of_classes(name, arguments, base, slope, nclass):
    net = build_model(name, nclass=nclass, **arguments)
    assert measure(net).count(trainable=True) == base + slope * nclass
