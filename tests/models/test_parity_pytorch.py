"""Networks against the outputs of the PyTorch originals with the same weights, see tests/golden/README.md.

The weights have the originals' names, and are converted by ``from_pytorch``.
"""
import mxnet as mx
import numpy as np
import pytest
from pytorch_cases import assert_golden, build, input_image, read


def before_resize(monkeypatch, module, net, case):
    """Return the outputs before the last resize to the input's size."""
    plain = module.resize
    monkeypatch.setattr(module, "resize", lambda F, y, like, **how: (
        y if like.shape[2:] == (case["H"], case["W"]) else plain(F, y, like, **how)))
    return net(input_image(case))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("name, backbone, aux", [
    ("sfnet_r18_c19_64x96", "resnet18", False),
    ("sfnet_r18_c19_96x64_b2", "resnet18", False),
    ("sfnet_r18_dsn_c19_64x96", "resnet18", True),
    ("sfnet_r18_dsn_c19_128x160", "resnet18", True),
    pytest.param("sfnet_r50_c19_64x96", "resnet50", False, marks=pytest.mark.slow),
    pytest.param("sfnet_r50_c19_128x160", "resnet50", False, marks=pytest.mark.slow),
    pytest.param("sfnet_r101_c19_64x96", "resnet101", False, marks=pytest.mark.slow),
    pytest.param("sfnet_r101_c19_128x160", "resnet101", False, marks=pytest.mark.slow),
])
def test_sfnet(name, backbone, aux, align_corners, monkeypatch):
    from mxnetseg.models import sfnet
    case = read(name)
    net = build(case, "sfnet", backbone=backbone, aux=aux, warp_align_corners=align_corners)
    outputs = before_resize(monkeypatch, sfnet, net, case)
    names = ["logits", "dsn0", "dsn1", "dsn2"][:len(outputs)]
    assert_golden(name, case, {f"{key}_ac{int(align_corners)}": y for key, y in zip(names, outputs)})


@pytest.mark.parametrize("name, width", [
    ("hrnetv2_w18_c19_64x96", 18),
    pytest.param("hrnetv2_w48_c19_64x96", 48, marks=pytest.mark.slow),
    pytest.param("hrnetv2_w48_c19_128x160", 48, marks=pytest.mark.slow),
])
def test_hrnet(name, width, monkeypatch):
    from mxnetseg.models import hrnet
    case = read(name)
    net = build(case, "hrnet", width=width)
    logits, = before_resize(monkeypatch, hrnet, net, case)
    assert_golden(name, case, {"logits": logits})


@pytest.mark.parametrize("name, width, refinements", [
    ("offset_hrnetv2_w18_c19_64x96", 18, 0),
    ("offset_hrnetv2_w18_c19_64x96_it2", 18, 2),
    *(pytest.param(f"offset_hrnetv2_w48_c19_{size}", 48, 2 if size.endswith("it2") else 0, marks=pytest.mark.slow)
      for size in ("64x96", "64x96_it2", "128x160", "128x160_it2")),
])
def test_ovenet(name, width, refinements):
    case = read(name)
    net = build(case, "ovenet", width=width, refinements=refinements)
    outputs = net.details(mx.nd, net.backbone(input_image(case)))
    assert_golden(name, case, dict(zip(["s_i", "offset", "s_s", "s_f", "confidence"], outputs)))


@pytest.mark.slow
@pytest.mark.parametrize("context, size, aux_bins", [
    ("ppm", "c21_64x96", (1, 2, 4, 8)), ("ppm", "c21_128x128_b2", (1, 2, 4, 8)),
    ("ppm", "c59_64x96", (1, 2, 3, 6)), ("ppm", "c59_160x224", (1, 2, 3, 6)),
    ("att", "c21_64x96", (1, 2, 3, 6)), ("att", "c59_64x96", (1, 2, 3, 6)), ("att", "c59_160x224", (1, 2, 3, 6)),
])
def test_flattenet(context, size, aux_bins, monkeypatch):
    from mxnetseg.models import flattenet
    name = f"flattenet_{context}_r101_{size}"
    case = read(name)
    net = build(case, "flattenet", context={"ppm": "ppm", "att": "attention"}[context], aux_bins=aux_bins)
    c3, c4 = net.backbone(input_image(case))[-2:]
    logits, = before_resize(monkeypatch, flattenet, net, case)
    assert_golden(name, case, {"logits": logits, "head": net.head(c4), "aux_head": net.second_head(c3)})


@pytest.mark.slow
def test_acfnet(monkeypatch):
    """Test all four sizes with one network, because drawing its 109 million weights takes longest."""
    from mxnetseg.models import acfnet
    cases = {name: read(name) for name in (f"acfnet_r101eca_c19_{size}"
                                           for size in ("64x96", "65x97", "129x161", "257x321"))}
    first, *others = cases.values()
    assert all(case["keys"] == first["keys"] and case["norm_weight_range"] == first["norm_weight_range"]
               for case in others)
    net = build(first, "acfnet", backbone="ecaresnet101", form="pytorch", aux=True)
    for name, case in cases.items():
        with monkeypatch.context() as patch:
            total, *outputs = before_resize(patch, acfnet, net, case)
        assert_golden(name, case, dict(zip(("final", "coarse", "aux"), outputs)))
        assert np.array_equal(total.asnumpy(), (outputs[0] + outputs[1]).asnumpy())


@pytest.mark.parametrize("name, variant", [
    ("ddrnet23slim_c19_128x192", "23-slim"), ("ddrnet23slim_c19_136x200", "23-slim"),
    ("ddrnet23slim_c19_320x512", "23-slim"), pytest.param("ddrnet23_c19_128x192", "23", marks=pytest.mark.slow)])
def test_ddrnet(name, variant, monkeypatch):
    from mxnetseg.models import ddrnet
    case = read(name)
    net = build(case, "ddrnet", variant=variant, aux=True)
    assert_golden(name, case, {"high3": net.backbone(input_image(case))[0]})
    assert_golden(name, case, dict(zip(("logits", "aux"), before_resize(monkeypatch, ddrnet, net, case))))


@pytest.mark.parametrize("form, end", [("paper", ""), ("mmseg", "_plain")])
@pytest.mark.parametrize("name, variant", [
    ("pidnet_s_c19_128x192", "s"), ("pidnet_s_c11_136x200", "s"),
    pytest.param("pidnet_m_c19_128x192", "m", marks=pytest.mark.slow)])
def test_pidnet(name, variant, form, end):
    case = read(name)
    net = build(case, "pidnet", variant=variant, form=form, aux=True)
    p3, d4, fused = net.backbone(input_image(case))
    seen = {}
    for key, head in (("logits", net.final_layer), ("aux_p" + end, net.seghead_p), ("boundary" + end, net.seghead_d)):
        head.register_forward_hook(lambda block, inputs, output, key=key: seen.update({key: output}))
    net(input_image(case))
    assert_golden(name, case, {"p3": p3, "d4": d4, "bag": fused, **seen})


@pytest.mark.parametrize("name, variant, form", [
    ("segformer_b0_c19_64x96", "b0", "huggingface"), ("segformer_b0_c19_97x129", "b0", "huggingface"),
    ("segformer_b0_c19_64x96_eps", "b0", "huggingface"), ("segformer_b0_c19_64x96_eps", "b0", "paper"),
    ("segformer_b1_c150_64x96", "b1", "huggingface")])
def test_segformer(name, variant, form):
    case = read(name)
    net = build(case, "segformer", variant=variant, form=form)
    end, seen = "_1e-6" if form == "paper" else "", {}
    net.head.register_forward_hook(lambda block, inputs, output: seen.update({"logits" + end: output}))
    taps = net.backbone(input_image(case))
    net(input_image(case))
    assert_golden(name, case, {**seen, **{f"stage{i}{end}": tap for i, tap in enumerate(taps, 1)}})
