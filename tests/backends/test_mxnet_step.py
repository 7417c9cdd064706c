"""The step as one graph: a precision, and micro-batches, do not change its result."""
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from mxnetseg.backends.mxnet_step import Divisors, Step, TrainingGraph
from mxnetseg.errors import ConfigError
from mxnetseg.graph import dilated
from mxnetseg.losses import LossSum, Mining, global_backward
from mxnetseg.models import get_model
from mxnetseg.models._base import SegModel
from mxnetseg.nn.blocks import ConvModule2d, FCNHead
from mxnetseg.nn.norm import CrossContextBatchNorm
from mxnetseg.nn.resize import resize

NCLASS = 4


class Stripes(SegModel):
    """Network of three modules, a concatenation of a map with a resized one, a head and an auxiliary head."""

    def __init__(self, norm_layer=nn.BatchNorm):
        stages = nn.HybridSequential()
        super().__init__(stages, NCLASS)
        with stages.name_scope():
            stages.add(ConvModule2d(16, strides=2, in_channels=3, norm_layer=norm_layer),
                       ConvModule2d(32, in_channels=16, norm_layer=norm_layer))
        with self.name_scope():
            self.down = ConvModule2d(32, strides=2, in_channels=32, norm_layer=norm_layer)
            self.head = FCNHead(NCLASS, 64, drop=0.0, norm_layer=norm_layer)
            self.aux_head = nn.Conv2D(NCLASS, 1, in_channels=32)

    def hybrid_forward(self, F, x):
        fine = self.backbone(x)
        both = F.concat(fine, resize(F, self.down(fine), fine, align_corners=False), dim=1)
        return tuple(resize(F, y, x, align_corners=False) for y in (self.head(both), self.aux_head(fine)))


def make(seed=0, norm_layer=nn.BatchNorm, **loss):
    mx.random.seed(seed)
    net = Stripes(norm_layer)
    net.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
    net(mx.nd.zeros((1, 3, 16, 16)))
    return ready(net, **loss)


def ready(net, **loss):
    loss = net.loss(**loss)
    loss.initialize()
    step = Step(net, loss)
    step.input.initialize()
    return step


def batch(count=4, height=32, width=48, nclass=NCLASS, seed=0):
    """Return coloured stripes with their labels; each image has a different number of unlabelled pixels."""
    rng = np.random.RandomState(seed)
    labels = np.stack([np.roll(np.arange(width) * nclass // width, rng.randint(width)) for _ in range(count)])
    labels = np.repeat(labels[:, None], height, axis=1).astype("uint8")
    images = (labels[..., None] * 50 + rng.randint(0, 60, (*labels.shape, 3))).astype("uint8")
    for i in range(count):
        labels[i, :3 * i] = 255
    return mx.nd.array(images, dtype="uint8"), mx.nd.array(labels, dtype="uint8")


def gradients(step, graph, device_batches, **options):
    """Return the loss, and by name the gradients and running statistics after one step, and undo the step."""
    kept = {name: p.data().asnumpy() for name, p in step.net.collect_params().items()}
    mx.random.seed(0)  # for dropout
    with autograd.record():
        parts = graph(device_batches)
    loss = global_backward(parts, step.loss.weights, **options).asscalar()
    mx.nd.waitall()  # a compiled step has updated running statistics only then
    parameters = step.net.collect_params()
    found = {name: p.grad().copy() for name, p in parameters.items() if p.grad_req != "null"}
    statistics = {name: p.data().asnumpy() for name, p in parameters.items() if "running" in name}
    for name, p in parameters.items():
        p.set_data(mx.nd.array(kept[name]))
    return loss, found, statistics


def flat(tensors):
    return np.concatenate([np.asarray(v.asnumpy() if isinstance(v, mx.nd.NDArray) else v, "float64").ravel()
                           for v in tensors.values()])


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


class TestHalfPrecision:
    """Tests that run the graph are marked bfloat16; the others only look at it."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls):
        step, images = make(), batch()
        return step, [gradients(step, TrainingGraph(step, [mx.cpu()], precision), [images])
                      for precision in ("float32", "bfloat16")]

    @pytest.mark.bfloat16
    def test_loss_gradients_and_statistics_are_near_those_of_float32(self, both):
        _, ((loss, found, statistics), (loss_half, found_half, statistics_half)) = both
        assert loss_half != loss  # it was a different computation
        assert loss_half == pytest.approx(loss, rel=5e-3)
        assert cosine(flat(found), flat(found_half)) > 0.995
        assert np.linalg.norm(flat(found_half)) == pytest.approx(np.linalg.norm(flat(found)), rel=0.03)
        np.testing.assert_allclose(flat(statistics_half), flat(statistics), rtol=0.02, atol=0.01)
        start = {n: p.data().asnumpy() for n, p in both[0].net.collect_params().items() if "running" in n}
        assert np.abs(flat(statistics_half) - flat(start)).max() > 0.05  # they do change

    @pytest.mark.bfloat16
    def test_parameters_and_their_gradients_stay_float32(self, both):
        step, (_, (_, found, _)) = both
        assert {p.dtype for p in step.net.collect_params().values()} <= {"float32", np.float32}
        assert {g.dtype for g in found.values()} == {np.float32}

    def test_convolutions_are_bfloat16_except_for_the_stem(self):
        step = make()
        inside = TrainingGraph(step, [mx.cpu()], "bfloat16").symbol().get_internals()
        _, dtypes, _ = inside.infer_type(images="uint8", labels="uint8")
        found = {name: dtype for name, dtype in zip(inside.list_outputs(), dtypes)
                 if re.search(r"conv\d+_fwd_output$", name)}
        assert len(found) == 6  # of the four modules, and the last of both heads
        stem = step.net.backbone[0].conv.name
        assert {name for name, dtype in found.items() if dtype is np.float32} == {f"{stem}_fwd_output"}

    def test_for_gpus_all_convolutions_are_float16_and_the_losses_float32(self):
        inside = TrainingGraph(make(), [mx.gpu(0)], "float16").symbol().get_internals()  # this graph is not run
        _, dtypes, _ = inside.infer_type(images="uint8", labels="uint8")
        found = dict(zip(inside.list_outputs(), dtypes))
        assert {dtype for name, dtype in found.items() if re.search(r"conv\d+_fwd_output$", name)} == {np.float16}
        assert {dtype for name, dtype in found.items() if "log_softmax" in name and "amp" not in name} == {np.float32}
        assert {dtype for name, dtype in found.items() if name.endswith(("_weight", "_gamma"))} == {np.float32}

    @pytest.mark.bfloat16
    def test_the_gradient_of_a_scaled_loss(self, both):
        step, (_, (_, found, _)) = both
        graph = TrainingGraph(step, [mx.cpu()], "bfloat16")
        loss, scaled, _ = gradients(step, graph, [batch()], scale=2.0 ** 10)
        np.testing.assert_array_equal(flat(scaled), flat(found) * 2 ** 10)  # bfloat16 has the exponents of float32

    def test_contexts_with_synchronised_norms_are_refused(self):
        step = make(norm_layer=CrossContextBatchNorm)
        with pytest.raises(ConfigError, match="model.norm=bn"):
            TrainingGraph(step, [mx.cpu(0), mx.cpu(1)], "bfloat16")


@pytest.mark.parametrize("options", [
    {}, {"class_weights": [1.0, 0.0, 2.0, 0.5], "label_smoothing": 0.1}, {"focal": 0.7, "dice": 0.3, "lovasz": 0.4}],
    ids=["plain", "weighted", "all"])
def test_micro_batches_add_up_to_the_batch_for_any_unlabelled_pixels(options):
    """The network has no norms, because these see the images of one micro-batch only."""
    step, (images, labels) = make(norm_layer=Identity, **options), batch(6)
    graph = TrainingGraph(step, [mx.cpu()], "float32")
    wanted, whole, _ = gradients(step, graph, [(images, labels)])
    micro_batches = [(images[i:i + 2], labels[i:i + 2]) for i in (0, 2, 4)]
    divisors = Divisors(step)([labels for _, labels in micro_batches])
    assert all(divisor is not None for divisor in divisors)
    got = [gradients(step, graph, [micro_batch], micro_batches=3, divisors=divisors) for micro_batch in micro_batches]
    assert sum(loss for loss, *_ in got) == pytest.approx(wanted, rel=1e-5)
    summed = sum(flat(found) for _, found, _ in got)
    np.testing.assert_allclose(summed, flat(whole), rtol=1e-3, atol=1e-5 * np.abs(flat(whole)).max())
    # the usual way, the mean of the micro-batches' means, is different
    means = sum(flat(gradients(step, graph, [micro_batch], micro_batches=3)[1]) for micro_batch in micro_batches)
    assert np.abs(means - flat(whole)).max() > 1e-2 * np.abs(flat(whole)).max()


def test_batches_of_alternating_shapes():
    """The graph is planned for one shape, and anew for another, without traces of the previous one."""
    step, shapes = make(), [(4, 32, 48), (4, 32, 48), (2, 48, 32), (4, 32, 48), (1, 16, 16), (2, 48, 32), (4, 32, 48)]
    graph = TrainingGraph(step, [mx.cpu()], "float32")
    for n, shape in enumerate(shapes):
        pair = batch(*shape, seed=n)
        loss, found, statistics = gradients(step, graph, [pair])
        wanted = gradients(step, lambda pairs: [[LossSum(*part) for part in step(*one)] for one in pairs], [pair])
        assert loss == pytest.approx(wanted[0], rel=1e-5)
        for got, plain in ((found, wanted[1]), (statistics, wanted[2])):
            np.testing.assert_allclose(flat(got), flat(plain), rtol=1e-3, atol=1e-5 * np.abs(flat(plain)).max())


@pytest.mark.parametrize("name", ["deeplabv3plus", "acfnet", "denseaspp", "seenet"])
def test_widely_dilated_convolutions_are_rewritten_for_each_shape(monkeypatch, name):
    monkeypatch.setattr(dilated, "_MOVING_IN_TRAINING", 0)
    net = get_model(name, backbone="resnet18", nclass=4)
    step, shapes, found = ready(net), [(2, 64, 96), (2, 64, 96), (1, 96, 64), (2, 64, 96)], {}
    for value in "01":
        monkeypatch.setenv(dilated.VARIABLE, value)
        graph = TrainingGraph(step, [mx.cpu()], "float32")
        found[value] = [gradients(step, graph, [batch(*shape, seed=n)]) for n, shape in enumerate(shapes)]
        assert graph.symbol((2, 64, 96, 3)).tojson().count('"dilate": "(12, 12)"') == 1 - int(value)
    for (loss, grads, statistics), (wanted, plain, others) in zip(found["1"], found["0"]):
        assert loss == pytest.approx(wanted, rel=1e-4)
        assert cosine(flat(grads), flat(plain)) > 1 - 1e-5
        np.testing.assert_allclose(flat(statistics), flat(others), rtol=1e-3, atol=1e-4)


class Identity(nn.HybridBlock):
    """Replacement of a norm that changes nothing."""

    def __init__(self, in_channels=0):
        super().__init__()

    def hybrid_forward(self, F, x):
        return F.identity(x)


def test_a_divisor_that_depends_on_the_network_is_that_of_the_micro_batch():
    step = make(mining=Mining(thresh=0.7, min_kept=10))
    mined, aux = Divisors(step)([batch()[1]])
    assert mined is None
    assert aux is None or aux.asscalar() > 0
    parts = [[LossSum(mx.nd.array([6.0]), mx.nd.array([3.0])), LossSum(mx.nd.array([5.0]), mx.nd.array([0.0]))]]
    for part in parts[0]:
        part.total.attach_grad()
    with autograd.record():
        recorded = [[LossSum(part.total * 1, part.count) for part in parts[0]]]
    # (6 / 3) / 2 for one of two micro-batches, and 5 for a plain sum
    assert global_backward(recorded, (1.0, 1.0), micro_batches=2).asscalar() == pytest.approx(1 + 5)
    np.testing.assert_allclose(parts[0][0].total.grad.asnumpy(), [1 / 6])


def test_the_divisors_of_several_devices_are_summed_on_the_first():
    step = make()
    step.net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    step.loss.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    _, labels = batch(4)
    device_batches = [labels[:2].as_in_context(mx.cpu(0)), labels[2:].as_in_context(mx.cpu(1))]
    for divisor in Divisors(step)(device_batches):
        assert divisor.context == mx.cpu(0)
        assert divisor.asscalar() == (labels.asnumpy() != 255).sum()
