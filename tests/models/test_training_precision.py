"""One step of every network in bfloat16: the loss is that of float32, and every gradient is there."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from mxnetseg.engine.step import Step, TrainingGraph
from mxnetseg.losses import global_backward

from .test_life import build, label, parameter, subjects

# for the quick tests: the stem joined with what follows; mean pooling behind a gate; weights that the network makes
QUICK = ("ladderdensenet", "ecaresnet50_v1d", "fapn")


def subject(case):
    name, arguments = case
    marks = [] if name in QUICK or arguments.get("backbone") in QUICK else [pytest.mark.slow]
    made = parameter(name, arguments)
    return pytest.param(*made.values, id=made.id, marks=[*made.marks, *marks])


@pytest.mark.parametrize("subject", [subject(case) for case in subjects()])
def test_one_step(subject):
    net = build(subject)
    loss = net.loss()
    loss.initialize()
    step = Step(net, loss)
    step.input.initialize()
    images = mx.nd.array(np.random.RandomState(0).randint(0, 256, (4, 64, 96, 3)), dtype="uint8")
    labels, losses = label(64, 96, 4), {}
    for precision in ("float32", "bfloat16"):
        graph = TrainingGraph(step, [mx.cpu()], precision)
        mx.random.seed(0)  # for dropout
        with autograd.record():
            parts = graph([(images, labels)])
        losses[precision] = global_backward(parts, loss.weights).asscalar()
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    for name, learned in net.named_parameters().items():
        if learned.grad_req != "null":
            assert learned.grad().dtype == np.float32 and np.isfinite(learned.grad().asnumpy()).all(), name
