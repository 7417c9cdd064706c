"""Training graphs of all networks in half precision; one step in bfloat16 has the loss of float32."""
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from mxnetseg.backends.mxnet_step import Step, TrainingGraph
from mxnetseg.losses import global_backward

from .test_life import build, label, parameter, subjects

# difficult for MXNet's conversion: a stem fused with its successor; average pooling after a gate; weights that the
# network computes
HARD = ("ladderdensenet", "ecaresnet50_v1d", "fapn")


def cases(quick):
    for name, arguments in subjects():
        made = parameter(name, arguments)
        marks = [] if name in quick or arguments.get("backbone") in quick else [pytest.mark.slow]
        yield pytest.param(*made.values, id=made.id, marks=[*made.marks, *marks])


def make(subject):
    net = build(subject)
    loss = net.loss()
    loss.initialize()
    step = Step(net, loss)
    step.input.initialize()
    return step


@pytest.mark.parametrize("subject", list(cases(HARD)))
@pytest.mark.parametrize("precision, device", [("bfloat16", mx.cpu()), ("float16", mx.gpu(0))])
def test_the_graph_has_its_types(subject, precision, device):
    step = make(subject)
    internals = TrainingGraph(step, [device], precision).symbol().get_internals()  # the graph does not run
    _, dtypes, _ = internals.infer_type(images="uint8", labels="uint8")
    parameters, half = dict(step.net.collect_params().items()), []
    for i, (name, dtype) in enumerate(zip(internals.list_outputs(), dtypes)):
        if re.search(r"conv\d+_fwd_output$", name):
            weight = parameters.get(re.sub("_fwd_output$", "_weight", name))  # None if computed
            few = weight is not None and weight.shape[1] * int(internals[i].attr("num_group") or 1) <= 4
            if precision == "float16" or not few:  # in bfloat16 the stem and ECA's may stay
                half.append(precision in str(dtype))
    assert half and all(half)
    for name, dtype in zip(internals.list_arguments(), internals.infer_type(images="uint8", labels="uint8")[0]):
        assert dtype is (np.uint8 if name in ("images", "labels") else np.float32), name


@pytest.mark.bfloat16
@pytest.mark.parametrize("subject", list(cases(("ladderdensenet",))))
def test_one_step(subject):
    step = make(subject)
    images = mx.nd.array(np.random.RandomState(0).randint(0, 256, (4, 64, 96, 3)), dtype="uint8")
    labels, losses = label(64, 96, 4), {}
    for precision in ("float32", "bfloat16"):
        graph = TrainingGraph(step, [mx.cpu()], precision)
        mx.random.seed(0)  # for dropout
        with autograd.record():
            parts = graph([(images, labels)])
        losses[precision] = global_backward(parts, step.loss.weights).asscalar()
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    for name, learned in step.net.named_parameters().items():
        if learned.grad_req != "null":
            assert learned.grad().dtype == np.float32 and np.isfinite(learned.grad().asnumpy()).all(), name
