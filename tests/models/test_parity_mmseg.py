"""The ``mmseg`` variants against mmsegmentation's outputs with the same weights, see tests/golden/README.md.

The weights have mmsegmentation's names, and are converted by ``from_mmseg``.
"""
import inspect

import numpy as np
import pytest
from pytorch_cases import GOLDEN, assert_golden, input_image, read, weights

from mxnetseg.models import MODELS, get_model
from mxnetseg.models._foreign import renamed
from mxnetseg.models.weights.tensors import set_parameters

HEADS = ["decode_head", "auxiliary_head"]
TWO_AUX = ["decode_head", "auxiliary_head.0", "auxiliary_head.1"]
# mmsegmentation counts the heads from the first tap, our network from the last
SETR = ["decode_head", *(f"auxiliary_head.{i}" for i in (2, 1, 0))]
MLA = ["decode_head", *(f"auxiliary_head.{i}" for i in range(4))]
DANET = [*(f"decode_head_out{i}" for i in range(3)), "auxiliary_head"]

# case -> our network, its arguments, and the golden names of its outputs in our order
CASES = {
    "fcn_r50-d8_c19_64x96": ("fcn", {"backbone": "resnet50_v1c"}, HEADS),
    "fcn_r50-d8_c19_129x161": ("fcn", {"backbone": "resnet50_v1c"}, HEADS),
    "pspnet_r50-d8_c19_64x96": ("pspnet", {"backbone": "resnet50_v1c"}, HEADS),
    "pspnet_r50-d8_c19_129x161": ("pspnet", {"backbone": "resnet50_v1c"}, HEADS),
    "deeplabv3_r50-d8_c19_64x96": ("deeplabv3", {"backbone": "resnet50_v1c"}, HEADS),
    "deeplabv3_r50-d8_c19_192x224": ("deeplabv3", {"backbone": "resnet50_v1c"}, HEADS),
    "danet_r50-d8_c19_64x96": ("danet", {"backbone": "resnet50_v1c"}, DANET),
    "danet_r50-d8_c19_128x160": ("danet", {"backbone": "resnet50_v1c"}, DANET),
    "fpn_r50_c19_64x96": ("semanticfpn", {"backbone": "resnet50_v1c"}, HEADS),
    "upernet_r50_c19_64x96": ("upernet", {"backbone": "resnet50_v1c"}, HEADS),
    "fast_scnn_c19_64x96": ("fastscnn", {}, TWO_AUX),
    "icnet_r50-d8_c19_64x96": ("icnet", {"backbone": "resnet50_v1c"}, TWO_AUX),
    "ocrnet_hr18_c19_64x96": ("ocrnet", {"width": 18}, ["decode_head.1", "decode_head.0"]),
    "deeplabv3plus_r50-d8_c19_64x96": ("deeplabv3plus", {"backbone": "resnet50_v1c"}, HEADS),
    "deeplabv3plus_r50-d8_c19_129x161": ("deeplabv3plus", {"backbone": "resnet50_v1c"}, HEADS),
    "bisenetv1_r18-d32_c19_64x96": ("bisenet", {}, TWO_AUX),
    "fcn_hr18_c19_64x96": ("hrnet", {"width": 18}, HEADS),
    **{f"setr_{decoder}_c19_64x96": ("setr", {"decoder": decoder, "grid": (4, 6)}, names)
       for decoder, names in (("naive", SETR), ("pup", SETR), ("mla", MLA))},
}
# case -> number of mmsegmentation's parameters that no output depends on: MLA's class token. (In the other SETRs, our
# class token includes its position embedding, and our patch embedding has a bias; both have the same number of values.)
UNREAD = {"setr_mla_c19_64x96": 1024}
QUICK = ("pspnet_r50-d8_c19_64x96", "fast_scnn_c19_64x96", "bisenetv1_r18-d32_c19_64x96", "fpn_r50_c19_64x96")


def build(case, model, arguments):
    """Return the network with the golden weights."""
    arguments = {**MODELS.get(model).foreign_options.get("mmseg", {}), **arguments}
    if any(key.startswith("auxiliary_head") for key, _ in case["keys"]):
        arguments["aux"] = True
    net = get_model(model, nclass=case["classes"], **arguments)
    set_parameters(net, renamed(net, "mmseg", weights(case)), where=case["name"])
    assert all(net.from_mmseg(key) is None for key, _ in case["keys"] if key.endswith("num_batches_tracked"))
    trainable = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert sum(int(np.prod(p.shape)) for p in trainable) + UNREAD.get(case["name"][len("mmseg_"):], 0) == case["params"]
    return net


def before_last_resize(monkeypatch, net, x):
    """Return the outputs before they are resized to the input's size."""
    module = inspect.getmodule(type(net))
    plain = module.resize
    monkeypatch.setattr(module, "resize", lambda F, y, like, **how: (
        y if like.shape[2:] == x.shape[2:] else plain(F, y, like, **how)))
    return net(x)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES])
def test_parity(name, monkeypatch):
    model, arguments, names = CASES[name]
    name = f"mmseg_{name}"
    case = read(name)
    net = build(case, model, arguments)
    outputs = dict(zip(names, before_last_resize(monkeypatch, net, input_image(case))))
    assert outputs.keys() == case["outputs"].keys()
    assert_golden(name, case, outputs)


@pytest.mark.parametrize("name", ["bisenetv1_r18-d32", pytest.param("fcn_hr18", marks=pytest.mark.slow), "fpn_r50",
                                  pytest.param("icnet_r50-d8", marks=pytest.mark.slow)])
def test_odd_sizes(name, monkeypatch):
    """Compare the outputs at 65 x 97 pixels, where halves are rounded, and maps are resized twice."""
    model, arguments, names = CASES[f"{name}_c19_64x96"]
    net = build(read(f"mmseg_{name}_c19_64x96"), model, arguments)
    outputs = dict(zip(names, before_last_resize(monkeypatch, net, input_image({"N": 1, "H": 65, "W": 97}))))
    with np.load(GOLDEN / "mmseg_odd_65x97.npz") as golden:
        wanted = {key.split("/")[1]: golden[key] for key in golden.files if key.startswith(f"{name}/")}
    assert wanted
    for key, array in wanted.items():
        assert outputs[key].shape == array.shape
        assert np.abs(outputs[key].asnumpy() - array).max() <= 1e-4 * np.abs(array).max()
