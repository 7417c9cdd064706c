"""OVeNet's confidence loss against a loop over the pixels, and its options."""
import re

import mxnet as mx
import numpy as np
import pytest
from pytorch_cases import read

from mxnetseg.errors import ConfigError
from mxnetseg.losses import MixedLoss, Term, global_backward
from mxnetseg.models import build_model
from mxnetseg.models.backbones.hrnet import HRNetV2
from mxnetseg.models.ovenet import OffsetConfidence


def sample(seed=0, n=4, h=5, w=7):
    random = np.random.RandomState(seed)
    offset = random.uniform(-0.6, 0.6, (n, 2, h, w)).astype("float32")
    confidence = random.uniform(0.05, 0.95, (n, 1, h, w)).astype("float32")
    label = random.randint(0, 3, (n, h, w)).astype("uint8")
    label[random.uniform(size=label.shape) < 0.3] = 255
    label[0] = 255
    return offset, confidence, label


def reference(offset, confidence, label, mean):
    """Return (sum, count), computed pixel by pixel."""
    n, _, h, w = offset.shape
    total = count = 0.0
    for i, y, x in np.ndindex(n, h, w):
        right, down = offset[i, :, y, x].astype("float64") * (w - 1, h - 1) / 2
        target = (i, int(np.clip(np.round(y + down), 0, h - 1)), int(np.clip(np.round(x + right), 0, w - 1)))
        labelled = label[i, y, x] != 255 and label[target] != 255
        if mean and not labelled:
            continue
        own, other = (0 if label[place] == 255 else label[place] for place in ((i, y, x), target))
        f = confidence[i, 0, y, x]
        total -= np.log((f if own == other else 1 - f) + 1e-7)
        count += 1
    return (total, count) if mean else (total / (h * w), 0)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("hybrid", [True, False])
def test_confidence_term(mean, hybrid):
    offset, confidence, label = sample()
    loss = OffsetConfidence(mean=mean)
    loss.hybridize(hybrid)
    arrays = [mx.nd.array(offset), mx.nd.array(confidence)]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        total, count = loss(*arrays, mx.nd.array(label, dtype="uint8"))
    total.backward()
    wanted = reference(offset, confidence, label, mean)
    assert (total.asscalar(), count.asscalar()) == pytest.approx(wanted, rel=1e-5)
    assert not arrays[0].grad.asnumpy().any()
    gradient = arrays[1].grad.asnumpy()
    for place in [(1, 0, 2, 3), (2, 0, 4, 6), (3, 0, 0, 0), (0, 0, 1, 1)]:
        ends = []
        for step in (1e-4, -1e-4):
            moved = confidence.astype("float64")
            moved[place] += step
            ends.append(reference(offset, moved, label, mean)[0])
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mean", [True, False])
def test_the_result_does_not_depend_on_the_number_of_devices(mean):
    offset, confidence, label = sample(1)
    values = []
    for contexts in (1, 2):
        loss = MixedLoss([Term((0, 1), 1.5, OffsetConfidence(mean=mean))])
        splits = [np.split(array, contexts) for array in (offset, confidence, label)]
        with mx.autograd.record():
            parts = []
            for i, (o, f, y) in enumerate(zip(*splits)):
                o, f, y = (mx.nd.array(array, ctx=mx.cpu(i)) for array in (o, f, y))
                f.attach_grad()
                parts.append(loss([o, f], y))
        values.append(global_backward(parts, loss.weights).asscalar())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[0] == pytest.approx(1.5 * reference(offset, confidence, label, mean)[0]
                                      / (reference(offset, confidence, label, mean)[1] or 1), rel=1e-5)


def test_a_zero_offset_is_always_right():
    _, confidence, label = sample(2, h=33, w=65)
    total, _ = OffsetConfidence()(mx.nd.zeros((4, 2, 33, 65)), mx.nd.array(confidence), mx.nd.array(label))
    assert total.asscalar() == pytest.approx(-np.log(confidence + 1e-7).sum() / (33 * 65), rel=1e-5)


def test_the_declared_loss():
    net = build_model("ovenet", nclass=3, width=18, confidence_weight=2, confidence_mean=True)
    assert net.loss(aux_weight=0.5).weights == (1.0, 0.5, 0.5, 2.0)
    with pytest.raises(ConfigError, match="must be >= 0"):
        build_model("ovenet", nclass=3, width=18, confidence_weight=-1)


@pytest.mark.parametrize("branch_stage", [1, 2, 3])
def test_the_second_branch_leaves_after_a_stage(branch_stage):
    """It equals a trunk with its later stages, and the first branch is unchanged."""
    both = HRNetV2(width=4, blocks=1, branch_stage=branch_stage)
    trunk = HRNetV2(width=4, blocks=1)
    second = HRNetV2(width=4, blocks=1, modules=(1, 4 if branch_stage == 3 else 3, 2))
    x = mx.nd.array(np.random.RandomState(0).normal(size=(1, 3, 65, 97)))
    for net in (both, trunk, second):
        net.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
        net(x)
    parameters = both._collect_params_with_prefix()
    for name, p in trunk._collect_params_with_prefix().items():
        p.set_data(parameters[name].data())

    separate = {part for n in range(branch_stage, 4) for part in (f"transition{n}", f"stage{n + 1}")}
    for name, p in second._collect_params_with_prefix().items():
        part, rest = name.split(".", 1)
        p.set_data(parameters[f"{part}_2.{rest}" if part in separate else name].data())

    maps = [y.asnumpy() for y in both(x)]
    assert len(maps) == 8 and not np.allclose(maps[0], maps[4])
    for got, wanted in zip(maps, [*trunk(x), *second(x)]):
        np.testing.assert_allclose(got, wanted.asnumpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch_stage", [1, 2, 3])
def test_names_of_the_original_cover_every_parameter(branch_stage):
    """The original names the layers of the second branch ``stage3_2``, ``transition3_2``, and so on."""
    case = read("offset_hrnetv2_w18_c19_64x96")
    keys = {key for key, _ in case["keys"] if "num_batches_tracked" not in key and key != "coords"}
    for n in range(branch_stage, 3):  # the golden case leaves after stage 3
        keys |= {re.sub(rf"^transition{n}\.", f"transition{n}_2.", key) for key in keys}
        keys |= {re.sub(rf"^stage{n + 1}\.", f"stage{n + 1}_2.", key) for key in keys
                 if not (n == 2 and key.startswith("stage3.3."))}  # three modules of four
    net = build_model("ovenet", nclass=19, width=18, branch_stage=branch_stage)
    assert {net.from_pytorch(key) for key in keys} == set(net.named_parameters())


@pytest.mark.parametrize("branch_stage", [0, 4, 2.5, "3", True])
def test_an_invalid_stage_is_refused(branch_stage):
    with pytest.raises(ConfigError, match="second branch"):
        build_model("ovenet", nclass=3, width=18, branch_stage=branch_stage)
