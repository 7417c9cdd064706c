"""The losses of the PyTorch networks against the originals' values and gradients, see tests/golden/README.md.

First on logits drawn from a seed, then on the networks' outputs with the golden weights.
"""
import mxnet as mx
import numpy as np
import pytest
from pytorch_cases import GOLDEN, build, input_image, read

from mxnetseg.losses import Blend, CrossEntropy, LovaszSoftmax, Mining, MixedLoss, Term, global_backward, global_value
from mxnetseg.losses.boundary import BoundaryLoss, balanced_logistic
from mxnetseg.models.ovenet import OffsetConfidence
from mxnetseg.nn.resize import resize

# HRNet's class weights for Cityscapes
CITYSCAPES = read("losses_offset_hrnet")["class_weights_cityscapes19"]


def entries(name, **fixed):
    """Parametrise over the (set of shapes, entry) of a file whose entries have these values."""
    golden = read(f"losses_{name}")
    sets = {shapes["id"]: shapes for shapes in golden["sets"]}
    found = [(sets[entry["set"]], entry) for entry in golden["entries"]
             if all(entry.get(key) == value for key, value in fixed.items())]
    assert found

    return pytest.mark.parametrize("shapes, entry", found, ids=[
        "-".join(str(entry[key]) for key in ("set", "thresh", "min_kept", "min_kept_per_image", "class_weights",
                                             "per_image", "label_change") if entry.get(key) is not None)
        .replace(" ", "_")[:40] for _, entry in found])


def drawn(shapes, *seeds):
    size = [shapes[key] for key in ("N", "classes", "h", "w")]
    return [np.random.RandomState(seed).normal(0, 2, size).astype("float32") for seed in seeds]


def label_of(shapes, logits):
    """Return a label with 10 % ignored pixels; if 'mixed', 60 % of the pixels have the predicted class."""
    n, h, w = shapes["N"], shapes["H"], shapes["W"]
    label = np.random.RandomState(11).randint(0, shapes["classes"], (n, h, w))
    if shapes["label"] == "mixed":
        take = np.random.RandomState(17).rand(n, h, w) < 0.6
        label[take] = logits.argmax(1)[take]
    label[np.random.RandomState(13).rand(n, h, w) < 0.1] = 255
    return label


def run(terms, arrays, label, *, align_corners):
    """Return (value, gradients) of a loss on maps that are first resized to the label."""
    loss = MixedLoss(terms)
    loss.initialize()
    loss.hybridize()
    arrays = [mx.nd.array(array) for array in arrays]
    for array in arrays:
        array.attach_grad()
    like = mx.nd.zeros((1, 1, *label.shape[1:]))
    with mx.autograd.record():
        parts = loss([array if array.shape[2:] == label.shape[1:]
                      else resize(mx.nd, array, like, align_corners=align_corners) for array in arrays],
                     mx.nd.array(label))
    value = global_backward([parts], loss.weights)
    return value.asscalar(), [array.grad.asnumpy() for array in arrays]


def assert_gradient(got, wanted, rel=2e-5):
    """Compare a gradient with its golden sums and single values, the latter with tolerance ``rel``."""
    got = got.astype("float64")
    scale = np.abs(got).max()
    assert np.sqrt((got ** 2).sum()) == pytest.approx(wanted["l2"], rel=2e-5)
    assert np.abs(got).sum() == pytest.approx(wanted["abs_sum"], rel=2e-5)
    assert got.sum() == pytest.approx(wanted["sum"], rel=1e-3, abs=1e-5 * scale * got.size ** 0.5)
    for place, value in wanted["at"]:
        assert got[tuple(place)] == pytest.approx(value, rel=rel, abs=1e-5 * scale)


def assert_mined(shapes, entry, mining, *, align_corners):
    """Assert that cross-entropy with this mining gives the entry's value and gradient."""
    logits, = drawn(shapes, 21)
    value, (gradient,) = run([Term(0, 1.0, CrossEntropy(shapes["classes"], mining=mining))], [logits],
                             label_of(shapes, logits), align_corners=align_corners)
    assert value == pytest.approx(entry["value"], rel=1e-5)
    assert_gradient(gradient, entry["grad"])


@entries("flattenet", loss="ohem")
def test_flattenet(shapes, entry):
    if entry["value"] is None:
        pytest.skip("no pixel is below the threshold, and the original divides by zero")
    assert_mined(shapes, entry, Mining.of("flattenet", thresh=entry["thresh"], min_kept=entry["min_kept"]),
                 align_corners=False)


@entries("sfnet", loss="mmseg ohem")
def test_sfnet(shapes, entry):
    assert_mined(shapes, entry, Mining.of("mmseg", thresh=entry["thresh"], min_kept=entry["min_kept_per_image"]),
                 align_corners=True)


@entries("acfnet", loss="total")
def test_acfnet(shapes, entry):
    from mxnetseg.models.acfnet import joint_terms
    final, coarse, aux = drawn(shapes, 21, 22, 23)
    mining = Mining.of("ccnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
    blend = Blend([(1.0, CrossEntropy(shapes["classes"], mining=mining))])
    label = label_of(shapes, final)
    terms = joint_terms(blend, 0.4, shapes["classes"])
    # the network's first output is the sum of final and coarse logits
    value, gradients = run(terms, [final + coarse, final, coarse, aux], label, align_corners=True)
    assert value == pytest.approx(entry["value"], rel=1e-5)
    for gradient, key in zip((gradients[0] + gradients[1], gradients[0] + gradients[2], gradients[3]),
                             ("grad_final", "grad_coarse", "grad_aux")):
        assert_gradient(gradient, entry[key])


@entries("acfnet", loss="lovasz")
def test_lovasz(shapes, entry):
    logits, = drawn(shapes, 21)
    label = label_of(shapes, logits)
    if "label_change" in entry:
        label[(label >= shapes["classes"] // 2) & (label != 255)] = 0
    loss = LovaszSoftmax(shapes["classes"], per_image=entry["per_image"], classes=entry["classes"])
    value, (gradient,) = run([Term(0, 1.0, loss)], [logits], label, align_corners=True)
    assert value == pytest.approx(entry["value"], rel=1e-5)
    # the original subtracts numbers near 1 in float32; in float64 its gradients equal ours
    assert_gradient(gradient, entry["grad"], rel=1e-4)


@entries("offset_hrnet", loss="total")
def test_ovenet(shapes, entry):
    classes = shapes["classes"]
    arrays = drawn(shapes, 21, 22, 23)
    n, h, w = shapes["N"], shapes["h"], shapes["w"]
    arrays += [np.random.RandomState(24).uniform(-0.5, 0.5, (n, 2, h, w)).astype("float32"),
               np.random.RandomState(25).uniform(0.02, 0.98, (n, 1, h, w)).astype("float32")]
    mining = Mining.of("hrnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
    loss = CrossEntropy(classes, mining=mining, class_weights=entry["class_weights"] and CITYSCAPES)
    terms = [Term(0, 0.5, loss), Term(1, 0.5, loss), Term(2, 1.0, loss), Term((3, 4), 1.0, OffsetConfidence())]
    value, gradients = run(terms, arrays, label_of(shapes, arrays[0]), align_corners=False)
    assert value == pytest.approx(entry["value"], rel=1e-5)
    assert_gradient(gradients[0], entry["grad_s_i"])
    assert_gradient(gradients[2], entry["grad_s_f"])
    assert not gradients[3].any()
    assert_gradient(gradients[4], entry["grad_confidence"])


# ---- the losses that the networks declare, on their outputs ------------------------------------------


def labels_of(name, case):
    """Yield (golden values, label) for each label of a case."""
    n, h, w = case["N"], case["H"], case["W"]
    drawn_label = np.random.RandomState(11).randint(0, case["classes"], (n, h, w))
    drawn_label[np.random.RandomState(13).rand(n, h, w) < 0.1] = 255
    yield case["losses"]["random"], drawn_label
    if "mixed" in case["losses"]:
        yield case["losses"]["mixed"], np.load(GOLDEN / f"{name}.npz")["label_mixed"]


def declared(net, outputs, label, **options):
    """Return (loss, value of each term, divisor of each term) as the network declares them."""
    loss = net.loss(**options)
    loss.initialize()
    parts = loss(outputs, mx.nd.array(label))
    alone = [global_value([[part]], [1.0]).asscalar() for part in parts]
    return global_value([parts], loss.weights).asscalar(), alone, [part.count.asscalar() for part in parts]


def slow(*names):
    return [pytest.param(*name, marks=pytest.mark.slow) for name in names]


def check(got, wanted):
    assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name, backbone", [
    ("sfnet_r18_c19_64x96", "resnet18"), ("sfnet_r18_dsn_c19_64x96", "resnet18"),
    *slow(("sfnet_r18_c19_96x64_b2", "resnet18"), ("sfnet_r18_dsn_c19_128x160", "resnet18"),
          ("sfnet_r50_c19_64x96", "resnet50"), ("sfnet_r50_c19_128x160", "resnet50"),
          ("sfnet_r101_c19_64x96", "resnet101"), ("sfnet_r101_c19_128x160", "resnet101"))])
def test_sfnet_declares(name, backbone):
    case = read(name)
    net = build(case, "sfnet", backbone=backbone, aux="dsn" in name)
    outputs = [case["losses"]["logit_scale"] * y for y in net(input_image(case))]
    for golden, label in labels_of(name, case):
        for entry in golden["ohem"]:
            mining = Mining.of("mmseg", thresh=entry["thresh"], min_kept=entry["min_kept_per_image"])
            total, terms, _ = declared(net, outputs, label, aux_weight=1.0, mining=mining)
            check(total, entry["total"] if "dsn" in name else entry["decode"])
            check(terms, [entry[key] for key in ("decode", "dsn0", "dsn1", "dsn2")[:len(terms)]])


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "ppm_r101_c21_64x96", "ppm_r101_c21_128x128_b2", "ppm_r101_c59_64x96", "ppm_r101_c59_160x224",
    "att_r101_c21_64x96", "att_r101_c59_64x96", "att_r101_c59_160x224"])
def test_flattenet_declares(name):
    case = read(f"flattenet_{name}")
    aux_bins = (1, 2, 4, 8) if name.startswith("ppm_r101_c21") else (1, 2, 3, 6)
    net = build(case, "flattenet", context={"ppm": "ppm", "att": "attention"}[name[:3]], aux_bins=aux_bins)
    outputs = [case["losses"]["logit_scale"] * y for y in net(input_image(case))]
    for golden, label in labels_of(f"flattenet_{name}", case):
        check(declared(net, outputs, label)[0], golden["ce_mean"])
        for entry in golden["ohem"]:
            mining = Mining.of("flattenet", thresh=entry["thresh"], min_kept=entry["min_kept"])
            check(declared(net, outputs, label, mining=mining)[0], entry["loss"])


@pytest.mark.parametrize("name, width", [
    ("hrnetv2_w18_c19_64x96", 18), *slow(("hrnetv2_w48_c19_64x96", 48), ("hrnetv2_w48_c19_128x160", 48))])
def test_hrnet_declares(name, width):
    case = read(name)
    net = build(case, "hrnet", width=width)
    outputs = [case["losses"]["logit_scale"] * y for y in net(input_image(case))]
    for golden, label in labels_of(name, case):
        check(declared(net, outputs, label, class_weights=CITYSCAPES)[0], golden["ce_class_weighted"])
        for entry in golden["ohem"]:
            mining = Mining.of("hrnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
            check(declared(net, outputs, label, class_weights=CITYSCAPES, mining=mining)[0], entry["loss"])


@pytest.mark.parametrize("name, width", [
    ("offset_hrnetv2_w18_c19_64x96", 18), ("offset_hrnetv2_w18_c19_64x96_it2", 18),
    *slow(*((f"offset_hrnetv2_w48_c19_{size}", 48) for size in ("64x96", "64x96_it2", "128x160", "128x160_it2")))])
def test_ovenet_declares(name, width):
    case = read(name)
    net = build(case, "ovenet", width=width, refinements=2 if name.endswith("it2") else 0)
    outputs = net(input_image(case))
    outputs = [case["losses"]["logit_scale"] * y for y in outputs[:3]] + list(outputs[3:])
    # rounding decides which pixel is the nearest to an offset's target: up to two may differ
    odds = outputs[4].asnumpy()
    flipped = 2 * np.abs(np.log(odds / (1 - odds))).max() / (case["H"] * case["W"])
    for golden, label in labels_of(name, case):
        known = np.where(label == 255, 0, label)
        targets = OffsetConfidence()._pixels(mx.nd, outputs[3]).asnumpy()
        assert abs((known.reshape(-1)[targets] == known).sum() - golden["L_F_equal_pixels"]) <= 2
        for entry in golden["ohem"]:
            mining = Mining.of("hrnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
            total, terms, kept = declared(net, outputs, label, class_weights=CITYSCAPES, mining=mining, aux_weight=0.5)
            slack = 1e-5 * entry["total"] + flipped
            for key, weight, value, count in zip(("s_f", "s_i", "s_s"), (1.0, 0.5, 0.5), terms, kept):
                # likewise up to two pixels may be on the other side of the threshold, which moves their losses
                moved = abs(count - entry[f"{key}_kept"])
                change = 1.2 * moved * abs(entry[key] + np.log(entry[f"{key}_threshold"])) / count
                assert moved <= 2 and value == pytest.approx(entry[key], abs=1e-5 * entry[key] + change)
                slack += weight * change
            assert terms[3] == pytest.approx(golden["L_F"], abs=flipped)
            assert total == pytest.approx(entry["total"], abs=slack)


@pytest.mark.slow
def test_acfnet_declares():
    names = [f"acfnet_r101eca_c19_{size}" for size in ("64x96", "65x97", "129x161", "257x321")]
    net = build(read(names[0]), "acfnet", backbone="ecaresnet101", form="pytorch", aux=True)
    for name in names:
        case = read(name)
        scale = case["losses"]["logit_scale"]
        final, coarse, aux = (y * scale[key] for y, key in zip(net(input_image(case))[1:], ("final", "coarse", "aux")))
        outputs = (final + coarse, final, coarse, aux)
        for golden, label in labels_of(name, case):
            for entry in golden["ohem"]:
                mining = Mining.of("ccnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
                total, terms, _ = declared(net, outputs, label, aux_weight=0.4, mining=mining)
                check(total, entry["total"])
                check(terms, [entry["ohem_final"], golden["ce_coarse"], golden["ce_aux"], golden["lovasz"]])


def mined(shapes, entry):
    """Return the entry's cross-entropy, with mining as in HRNet's code."""
    mining = Mining.of("hrnet", thresh=entry["thresh"], min_kept=entry["min_kept"])
    weights = None if entry["class_weights"] is None else CITYSCAPES
    return Blend([(1.0, CrossEntropy(shapes["classes"], class_weights=weights, mining=mining))])


@entries("ddrnet", loss="total")
def test_ddrnet(shapes, entry):
    from mxnetseg.models import get_model
    main, aux = drawn(shapes, 21, 22)
    value, gradients = run(get_model("ddrnet", nclass=shapes["classes"], aux=True).terms(mined(shapes, entry), 0.4),
                           [main, aux], label_of(shapes, main), align_corners=False)
    assert value == pytest.approx(entry["value"], rel=1e-5)
    for gradient, key in zip(gradients, ("grad_main", "grad_aux")):
        assert_gradient(gradient, entry[key])


class GivenEdges(mx.gluon.HybridBlock):
    """PIDNet's boundary loss on given edges instead of the label's."""

    def __init__(self, edge):
        super().__init__()
        with self.name_scope():
            self.edge = self.params.get_constant("edge", edge[:, None].astype("float32"))

    def hybrid_forward(self, F, logits, label, edge):
        return balanced_logistic(F, logits, edge)


@entries("pidnet", loss="total")
def test_pidnet(shapes, entry):
    from mxnetseg.models import get_model
    edge = np.random.RandomState(24).rand(*(shapes[key] for key in ("N", "H", "W"))) < 0.12
    p, main = drawn(shapes, 21, 22)
    boundary = np.random.RandomState(23).normal(0, 2, (shapes["N"], 1, shapes["h"], shapes["w"])).astype("float32")
    no_boundary = entry.get("boundary_logits") == "all 0"  # no pixel is predicted as a boundary: the original fails
    terms = [term._replace(loss=GivenEdges(edge)) if isinstance(term.loss, BoundaryLoss) else term
             for term in get_model("pidnet", nclass=shapes["classes"], aux=True).terms(mined(shapes, entry), 0.4)]
    value, gradients = run(terms, [main, p, boundary * (not no_boundary)], label_of(shapes, main), align_corners=True)
    if no_boundary:
        assert value == pytest.approx(entry["value_with_that_term_0"], rel=1e-5)
        return
    assert value == pytest.approx(entry["value"], rel=1e-5)
    for gradient, key in zip(gradients, ("grad_main", "grad_p", "grad_boundary")):
        assert_gradient(gradient, entry[key])
