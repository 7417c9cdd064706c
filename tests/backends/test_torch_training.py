"""One training step with its loss in PyTorch against MXNet: gradients of all parameters, and running statistics.

Both compute in float64. In float32 the input of some ReLU is zero up to rounding, and its gradient jumps: MXNet's own
float32 and float64 then differ by up to 0.2, as PyTorch's do. In float64 the same step shows every real difference.
"""
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mxnet as mx  # noqa: E402
import torch_steps as steps  # noqa: E402

from mxnetseg import losses as L  # noqa: E402
from mxnetseg.models import list_models  # noqa: E402

LIFE = steps.life()
# one backbone for each; ACFNet's on ECA-ResNet-50 takes 5 GB, and its Lovász loss is tested below
SUBJECTS = [(name, arguments) for name, arguments in LIFE.subjects()
            if arguments.get("backbone") != "ecaresnet50" and (name != "fcn" or arguments["backbone"] == "resnet18")]
QUICK = [("bisenet", "resnet18"), ("deeplabv3plus", "resnet18"), ("fastscnn", None), ("fcn", "resnet18"),
         ("icnet", "resnet18"), ("pspnet", "resnet18"), ("segformer", None), ("swiftnet", "resnet18")]
SIZE = 48, 65


def parameters():
    for name, arguments in SUBJECTS:
        quick = (name, arguments.get("backbone")) in QUICK and not {"variant", "form"} & set(arguments)
        yield pytest.param((name, arguments), id="-".join([name, *map(str, arguments.values())]),
                           marks=() if quick else pytest.mark.slow)


def batch(size=SIZE):
    images = np.random.RandomState(0).randint(0, 256, (2, *size, 3)).astype("uint8")
    return images, LIFE.label(*size, 2).asnumpy()


def test_every_network_is_tried():
    assert {name for name, _ in SUBJECTS} == set(list_models())
    assert sum(not parameter.marks for parameter in parameters()) == len(QUICK)


@pytest.mark.parametrize("subject", parameters())
def test_a_step_has_mxnets_gradients_and_statistics(subject):
    mx.random.seed(0)
    net = LIFE.build(subject)
    loss = net.loss()
    compare(net, loss)


def compare(net, loss, size=SIZE):
    steps.without_dropout(net)
    loss.initialize()
    images, labels = batch(size)
    module = steps.in_float64(steps.convert_step(net, loss))
    wanted = steps.mxnet_step(net, loss, images, labels)
    got = steps.torch_step(module, loss.weights, images, labels)
    assert abs(got.loss - wanted.loss) <= 1e-6 * abs(wanted.loss)
    # MXNet keeps the momentum of batch norm and the slope of PReLU in float32
    difference, name = steps.largest_difference(got, wanted)
    assert difference <= 1e-5, name


# every loss of mxnetseg/losses, on a network of one layer
LOSSES = {
    "class weights, smoothing": lambda: L.CrossEntropy(5, class_weights=[1, 2, 3, 4, 5], label_smoothing=0.1),
    **{f"mining of {rule}": lambda rule=rule: L.CrossEntropy(5, mining=L.Mining.of(rule, thresh=0.2, min_kept=500))
       for rule in L.MINING_RULES},
    "focal": lambda: L.Focal(5), "dice": lambda: L.Dice(5), "Lovász": lambda: L.LovaszSoftmax(5),
    "Lovász of a batch": lambda: L.LovaszSoftmax(5, per_image=False, classes="all")}


class OneLayer(mx.gluon.nn.HybridSequential):
    """The smallest network: a convolution and a batch norm."""

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, channels=5):
        super().__init__()
        self.add(mx.gluon.nn.Conv2D(channels, 3, padding=1, in_channels=3), mx.gluon.nn.BatchNorm(in_channels=channels))
        self.initialize(mx.init.Normal(1.0))

    def __call__(self, x):
        return (super().__call__(x),)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_mxnets_gradients(name):
    mx.random.seed(0)
    compare(OneLayer(), L.MixedLoss([L.Term(0, 0.7, LOSSES[name]())]), size=(24, 40))


def test_the_boundary_loss_has_mxnets_gradients():
    mx.random.seed(0)
    compare(OneLayer(1), L.MixedLoss([L.Term(0, 0.7, L.BoundaryLoss())]), size=(24, 40))
