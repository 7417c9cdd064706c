"""DDRNet, PIDNet and SegFormer: every name in mmsegmentation's and the authors' checkpoints leads to one of ours.

The lists of names follow the modules of mmsegmentation 1.2.2; none of its checkpoints can be downloaded here. The
golden files prove the names of the originals.
"""
import numpy as np
import pytest

from mxnetseg.models import get_model
from mxnetseg.models._foreign import recognise

BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def conv_bn(stem, conv="conv", bn="bn", bias=False):
    return [f"{stem}.{conv}.weight", *([f"{stem}.{conv}.bias"] * bias), *(f"{stem}.{bn}.{last}" for last in BN)]


def block(stem, convs, downsample=None):
    names = [name for i in range(1, convs + 1) for name in conv_bn(f"{stem}.conv{i}")]
    return names + (conv_bn(f"{stem}.downsample", *downsample) if downsample else [])


def pyramid(stem, processes):
    names = conv_bn(f"{stem}.scales.0")
    for i in range(1, 5):
        names += conv_bn(f"{stem}.scales.{i}.1")
    for process in processes:
        names += conv_bn(f"{stem}.{process}")
    return names + conv_bn(f"{stem}.compression") + conv_bn(f"{stem}.shortcut")


def stem(few, shortcut):
    names = conv_bn("backbone.stem.0") + conv_bn("backbone.stem.1")
    for i in range(few):
        names += block(f"backbone.stem.2.{i}", 2)
    for i in range(few):
        names += block(f"backbone.stem.4.{i}", 2, None if i else shortcut)
    return names


def ddrnet():
    shortcut = ("0", "1")
    names = stem(2, shortcut)
    for branch, strided in (("context", True), ("spatial", False)):
        for stage in range(2):
            for i in range(2):
                names += block(f"backbone.{branch}_branch_layers.{stage}.{i}", 2,
                               shortcut if strided and not i else None)
        names += block(f"backbone.{branch}_branch_layers.2.0", 3, shortcut)
    for name in ("compression_1", "down_1", "compression_2", "down_2.0", "down_2.1"):
        names += conv_bn(f"backbone.{name}")
    names += pyramid("backbone.spp", [f"processes.{i}" for i in range(4)])
    for head, last in (("head", "conv_seg"), ("aux_head", "aux_cls_seg")):
        names += conv_bn(f"decode_head.{head}.0") + [f"decode_head.{head}.1.{end}" for end in BN]
        names += [f"decode_head.{last}.weight", f"decode_head.{last}.bias"]
    return names


def pidnet(large=False):
    few, many, shortcut = (3, 4, ("conv", "bn")) if large else (2, 3, ("conv", "bn"))
    names = stem(few, shortcut)
    for stage in range(2):
        for i in range(many):
            names += block(f"backbone.i_branch_layers.{stage}.{i}", 2, None if i else shortcut)
        for i in range(few):
            names += block(f"backbone.p_branch_layers.{stage}.{i}", 2)
    names += block("backbone.i_branch_layers.2.0", 3, shortcut) + block("backbone.i_branch_layers.2.1", 3)
    names += block("backbone.p_branch_layers.2.0", 3, shortcut)
    names += block("backbone.d_branch_layers.0", 2, None if large else shortcut)
    names += block("backbone.d_branch_layers.1", 2) if large else block("backbone.d_branch_layers.1.0", 3, shortcut)
    names += block("backbone.d_branch_layers.2.0", 3, shortcut)
    for name in ("compression_1", "compression_2", "pag_1.f_i", "pag_1.f_p", "pag_2.f_i", "pag_2.f_p", "diff_1",
                 "diff_2", *(["dfm.conv"] if large else ["dfm.f_p", "dfm.f_i"])):
        names += conv_bn(f"backbone.{name}")
    names += pyramid("backbone.spp", [f"processes.{i}" for i in range(4)] if large else ["processes"])
    for head, last in (("i", "conv_seg"), ("p", "p_cls_seg"), ("d", "d_cls_seg")):
        names += conv_bn(f"decode_head.{head}_head.conv") + [f"decode_head.{head}_head.norm.{end}" for end in BN]
        names += [f"decode_head.{last}.weight", f"decode_head.{last}.bias"]
    return names


def pair(stem):
    return [f"{stem}.weight", f"{stem}.bias"]


def segformer():
    names = []
    for i in range(4):
        names += pair(f"backbone.layers.{i}.0.projection") + pair(f"backbone.layers.{i}.0.norm")
        for j in range(2):
            at = f"backbone.layers.{i}.1.{j}"
            names += pair(f"{at}.norm1") + [f"{at}.attn.attn.in_proj_weight", f"{at}.attn.attn.in_proj_bias"]
            names += pair(f"{at}.attn.attn.out_proj") + pair(f"{at}.norm2")
            names += (pair(f"{at}.attn.sr") + pair(f"{at}.attn.norm")) if i < 3 else []
            names += pair(f"{at}.ffn.layers.0") + pair(f"{at}.ffn.layers.1") + pair(f"{at}.ffn.layers.4")
        names += pair(f"backbone.layers.{i}.2") + conv_bn(f"decode_head.convs.{i}")
    return names + conv_bn("decode_head.fusion_conv") + pair("decode_head.conv_seg")


def nvlabs():
    names = []
    for i in range(1, 5):
        for layer in (f"patch_embed{i}.proj", f"patch_embed{i}.norm", f"norm{i}"):
            names += pair(f"backbone.{layer}")
        for j in range(2):
            at = f"backbone.block{i}.{j}"
            for layer in ("norm1", "attn.q", "attn.kv", "attn.proj", "norm2", "mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2",
                          *(["attn.sr", "attn.norm"] if i < 4 else [])):
                names += pair(f"{at}.{layer}")
        names += pair(f"decode_head.linear_c{i}.proj")
    return names + conv_bn("decode_head.linear_fuse") + pair("decode_head.linear_pred") + pair("decode_head.conv_seg")


def read(net, form, names, value=lambda name: None):
    """Return our name -> tensor for a file with these names, from random tensors of the right shapes."""
    rename = net.from_mmseg if form == "mmseg" else net.from_pytorch
    ours = {name: p.shape for name, p in net.named_parameters().items()}
    rng, tensors = np.random.RandomState(0), {}
    for name in names:
        found = rename(name)
        if name.endswith("in_proj_weight") or name.endswith("in_proj_bias") or ".kv." in name:
            parts = 2 if ".kv." in name else 3
            base = name.replace("attn.attn.in_proj_", "attn.query.").replace(".kv.", ".key.")
            shape = ours[rename(base)]
            shape = (parts * shape[0], *shape[1:])
        elif found is None:
            continue
        else:
            assert found in ours, (name, found)
            shape = ours[found]
        if name.endswith((".ffn.layers.0.weight", ".ffn.layers.4.weight")):
            shape = (*shape, 1, 1)
        tensors[name] = rng.rand(*shape).astype("float32")
    adapted = net.adapt_foreign(form, tensors)
    filled = {rename(name): value for name, value in adapted.items()}
    assert len(filled) == len(adapted)  # no two lead to one
    return filled, tensors


@pytest.mark.parametrize("model, form, names, arguments", [
    ("ddrnet", "mmseg", ddrnet(), {"aux": True}), ("pidnet", "mmseg", pidnet(), {"aux": True}),
    ("pidnet", "mmseg", pidnet(large=True), {"variant": "l", "aux": True}),
    ("segformer", "mmseg", segformer(), {"form": "mmseg"}), ("segformer", "pytorch", nvlabs(), {})])
def test_every_parameter_is_filled_once(model, form, names, arguments):
    net = get_model(model, nclass=19, **arguments)
    filled, _ = read(net, form, names)
    ours = {name: p.shape for name, p in net.named_parameters().items()}
    assert {name: value.shape for name, value in filled.items()} == ours
    assert all((net.from_mmseg if form == "mmseg" else net.from_pytorch)(name) is None
               for name in names if name.endswith("num_batches_tracked"))


def test_joined_projections_are_split_in_their_order():
    net = get_model("segformer", nclass=19)
    filled, tensors = read(net, "pytorch", nvlabs())
    joined, at = tensors["backbone.block2.1.attn.kv.weight"], "backbone.stages.1.blocks.1.attn"
    assert np.array_equal(filled[f"{at}.key.weight"], joined[:64])
    assert np.array_equal(filled[f"{at}.value.weight"], joined[64:])
    net = get_model("segformer", nclass=19, form="mmseg")
    filled, tensors = read(net, "mmseg", segformer())
    joined = tensors["backbone.layers.1.1.1.attn.attn.in_proj_bias"]
    for part, piece in zip(("query", "key", "value"), np.split(joined, 3)):
        assert np.array_equal(filled[f"{at}.{part}.bias"], piece)


@pytest.mark.parametrize("model, form, names, arguments", [
    ("ddrnet", "mmseg", ddrnet(), {"variant": "23-slim", "aux": True}),
    ("pidnet", "mmseg", pidnet(), {"variant": "s", "form": "mmseg", "aux": True}),
    ("segformer", "mmseg", segformer(), {"form": "mmseg"})])
def test_convert_finds_out_what_a_file_is(model, form, names, arguments):
    net = get_model(model, nclass=11, **arguments)
    _, tensors = read(net, form, names)
    guess = recognise(tensors, model)
    assert not guess.problems and guess.form == form and guess.nclass == 11
    assert {key: value for key, value in guess.arguments.items() if arguments.get(key, value) != value} == {}
    assert guess.arguments.get("aux", False) == arguments.get("aux", False)
