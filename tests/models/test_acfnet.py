"""ACFNet's two rules for class features, each against its formula, pixel by pixel."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import UnknownNameError
from mxnetseg.losses import Blend, CrossEntropy, Mining
from mxnetseg.models import build_model, get_model
from mxnetseg.models.acfnet import MIXTURES

NCLASS, WIDTH, PLACES = 3, 4, 6
RANDOM = np.random.RandomState(0)
FEATURES = RANDOM.normal(size=(2, WIDTH, PLACES))
LOGITS = 2 * RANDOM.normal(size=(2, NCLASS, PLACES))


def mixed(variant, logits):
    return MIXTURES[variant](mx.nd, mx.nd.array(FEATURES), mx.nd.array(logits)).asnumpy()


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


def test_paper_mixture():
    wanted = np.zeros((2, WIDTH, PLACES))
    for n in range(2):
        p = np.stack([softmax(LOGITS[n, :, j]) for j in range(PLACES)], axis=1)
        centres = [sum(p[c, j] * FEATURES[n, :, j] for j in range(PLACES)) / p[c].sum() for c in range(NCLASS)]
        for j in range(PLACES):
            wanted[n, :, j] = sum(p[c, j] * centres[c] for c in range(NCLASS))
    assert np.abs(mixed("paper", LOGITS) - wanted).max() < 1e-5


def test_port_mixture():
    wanted = np.zeros((2, WIDTH, PLACES))
    for n in range(2):
        energy = LOGITS[n] @ FEATURES[n].T
        weights = [softmax(energy[c].max() - energy[c]) for c in range(NCLASS)]
        for j in range(PLACES):
            wanted[n, :, j] = sum(LOGITS[n, c, j] * weights[c] for c in range(NCLASS))
    assert np.abs(mixed("port", LOGITS) - wanted).max() < 1e-5


def test_paper_gives_a_certain_pixel_the_mean_of_its_class():
    classes = np.array([0, 0, 1, 1, 1, 0])  # class 2 has no pixels
    certain = np.where(np.arange(NCLASS)[:, None] == classes, 200.0, 0.0)
    out = mixed("paper", np.stack([certain, certain]))
    for c in (0, 1):
        mean = FEATURES[:, :, classes == c].mean(axis=2, keepdims=True)
        assert np.abs(out[:, :, classes == c] - mean).max() < 1e-5


def test_the_loss_has_the_weights_of_the_paper():
    net = get_model("acfnet", backbone="resnet18", nclass=NCLASS, aux=True)
    assert net.loss(aux_weight=0.4).weights == (0.7, 0.6, 0.4)
    assert get_model("acfnet", backbone="resnet18", nclass=NCLASS).loss().weights == (1.0,)


def test_the_pytorch_form_predicts_from_the_sum_and_mines_the_final_logits_only():
    net = build_model("acfnet", form="pytorch", backbone="resnet18", nclass=NCLASS, aux=True)
    assert net.loss(aux_weight=0.4).weights == (0.7, 0.6, 0.4, 1.0)
    assert len(net(mx.sym.var("data"))) == 4
    assert len(build_model("acfnet", form="pytorch", backbone="resnet18", nclass=NCLASS)(mx.sym.var("data"))) == 1
    mined = CrossEntropy(NCLASS, mining=Mining(min_kept=1))
    terms = net.terms(Blend([(1.0, mined)]), 0.4)
    assert [term.output for term in terms] == [1, 2, 3, 0]
    losses = [term.loss.losses[0][1] for term in terms[:3]]
    assert losses[0] is mined and all(type(loss) is CrossEntropy and loss._mining is None for loss in losses[1:])


def test_weights_of_in_place_norms_become_their_absolute_values():
    net = build_model("acfnet", form="pytorch", backbone="resnet18", nclass=NCLASS)
    tensors = {"bn1.weight": np.array([-1.0, 2]), "bn1.running_var": np.ones(2), "conv1.weight": -np.ones(2),
               "bn1.bias": -np.ones(2)}
    changed = net.adapt_foreign("pytorch", tensors)
    assert changed["bn1.weight"].tolist() == [1, 2] and tensors["bn1.weight"][0] == -1
    assert (changed["conv1.weight"] < 0).all() and (changed["bn1.bias"] < 0).all()
    assert net.adapt_foreign("mxnetseg", tensors) is tensors


def test_unknown_form():
    with pytest.raises(UnknownNameError, match="did you mean 'pytorch'"):
        get_model("acfnet", form="pytorch2")


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        get_model("acfnet", variant="papers")
