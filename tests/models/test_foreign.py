"""Other people's weight files: kinds, nests and prefixes, forms of names, and what a file is recognised as."""
import json
import zipfile
from collections import OrderedDict

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_cases import GOLDEN, assert_golden, input_image, read, weights
from torch_files import Call, state_dict, tensor, write_stream, write_zip

from mxnetseg.errors import CheckpointError, ConfigError, UnknownNameError
from mxnetseg.models import MODELS, build_model, get_model
from mxnetseg.models._foreign import FORMS, forms_of, load_foreign, recognise, renamed
from mxnetseg.models.weights.tensorfiles import read_safetensors
from mxnetseg.models.weights.tensors import read_tensors

ARRAYS = {"conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2), "bn.bias": np.array([1.5, -2], "f2"),
          "bn.num_batches_tracked": np.array(7, "i8")}


def write_safetensors(path, arrays, *, kinds=(), header=None):
    names = {"f4": "F32", "f2": "F16", "f8": "F64", "i8": "I64", "u2": "BF16"}
    entries, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        entries[name] = {"dtype": dict(kinds).get(name, names[array.dtype.str[1:]]), "shape": list(array.shape),
                         "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps({**entries, **(header or {})}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_params(path, arrays):
    mx.nd.save(str(path), {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()})
    return path


def write_npz(path, arrays):
    np.savez(path, **arrays)
    return path


KINDS = {
    "zip.pth": lambda path, arrays: write_zip(path, state_dict(arrays)),
    "stream.pth": lambda path, arrays: write_stream(path, state_dict(arrays)),
    "file.safetensors": write_safetensors, "no_ending": write_safetensors,
    "file.params": write_params, "file.npz": write_npz,
}


# ---- files --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file(name, tmp_path):
    arrays = {key: np.atleast_1d(value) for key, value in ARRAYS.items()}  # MXNet's files know no 0 dimensions
    got = read_tensors(KINDS[name](tmp_path / name, arrays))
    assert got.keys() == arrays.keys()
    for key, value in arrays.items():
        assert np.array_equal(got[key], value)
        assert got[key].dtype == ("f4" if value.dtype.kind == "f" else value.dtype)


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state}, lambda state: {"epoch": 3, "model": state, "optimizer": {"state": {0: state}}},
    lambda state: {"rng_state": tensor("r", [1.0]), "state_dict": state, "model": {"of_the_optimiser": 1}},
    lambda state: {"model": {"state_dict": state}}, lambda state: {"meta": Call("argparse", "Namespace"), "net": state},
    lambda state: OrderedDict((f"module.{k}", v) for k, v in state.items()),
    lambda state: {"state_dict": OrderedDict((f"module.model.{k}", v) for k, v in state.items())},
    lambda state: OrderedDict([*((f"model.{k}", v) for k, v in state.items()), ("loss.weight", tensor("w", [1.0]))]),
])
def test_nests_and_prefixes(wrap, tmp_path):
    got = read_tensors(write_zip(tmp_path / "f.pth", wrap(state_dict(ARRAYS))))
    assert {k: v.tolist() for k, v in got.items()} == {k: v.tolist() for k, v in ARRAYS.items()}


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    state = state_dict({"model.a": np.ones(1, "f4"), "head.b": np.ones(1, "f4")})
    assert read_tensors(write_zip(tmp_path / "f.pth", state)).keys() == {"model.a", "head.b"}


def test_a_dictionary_that_holds_itself(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:  # d = {}; d["model"] = d
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.")
    with pytest.raises(CheckpointError, match="no named tensors"):
        read_tensors(tmp_path / "f.pth")


@pytest.mark.parametrize("value", [{}, {"epoch": 3}, [1, 2], Call("my_networks", "Net", state={"weight": 1}),
                                   {"state_dict": {"a": 1}}])
def test_no_named_tensors(value, tmp_path):
    with pytest.raises(CheckpointError, match="no named tensors") as error:
        read_tensors(write_zip(tmp_path / "f.pth", value))
    assert "state_dict" in error.value.fix


def test_safetensors_bfloat16(tmp_path):
    path = write_safetensors(tmp_path / "f.safetensors", {"t": np.array([[0x3F80, 0xC000]], "u2")})
    assert read_safetensors(path)["t"].tolist() == [[1.0, -2.0]]


@pytest.mark.parametrize("header", [
    {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}},
    {"t": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
    {"t": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}},
    {"t": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
    {"t": {"dtype": "F7", "shape": [2], "data_offsets": [0, 8]}}, {"t": {"dtype": "F32"}}, {"t": 3},
])
def test_damaged_safetensors(header, tmp_path):
    path = write_safetensors(tmp_path / "f.safetensors", {"t": np.ones(2, "f4")}, header=header)
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(path)


@settings(max_examples=60)
@given(name=st.sampled_from(["file.safetensors", "file.npz", "file.params", "zip.pth"]), part=st.floats(0, 0.99))
def test_a_file_cut_short_is_refused(name, part, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    path = KINDS[name](folder / name, {"weight": np.ones((4, 4), "f4"), "bias": np.ones(4, "f4")})
    data = path.read_bytes()
    path.write_bytes(data[:int(part * len(data))])
    with pytest.raises(CheckpointError) as error:
        read_tensors(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(300), b"\x80\x04N.",
                                  bytes(257) + b"ustar" + bytes(100)])
def test_files_that_are_something_else(data, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        read_tensors(path)
    assert error.value.fix and str(path) in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="not there"):
        read_tensors(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)


# ---- names --------------------------------------------------------------------------------------

_NETS = {}


def uninitialised(name):
    if name not in _NETS:
        _NETS[name] = build_model(name, nclass=3)
    return _NETS[name]


WORDS = st.sampled_from(["backbone", "head", "decode_head", "conv1", "bn1", "layer1", "transition3", "fuse_layers",
                         "stage2", "neck", "base", "dsn", "0", "1", "7", "x", "downsample", "weight", "bias", "",
                         "running_mean", "layers", "flatten", "norm", "aspp", "incre_modules", "auxiliary_head"])


@pytest.mark.parametrize("name", MODELS.names())
@settings(max_examples=40)
@given(words=st.one_of(st.lists(WORDS, min_size=1, max_size=5).map(".".join), st.text(max_size=8)))
def test_a_map_of_names_takes_any_text(name, words):
    net = uninitialised(name)
    for form in forms_of(net):
        if form != "own":
            got = getattr(net, f"from_{form}")(words)
            assert got is None or isinstance(got, str)


@pytest.mark.parametrize("name", MODELS.names())
def test_what_a_network_declares_of_other_forms_can_be_built(name):
    network = MODELS.get(name)
    assert set(network.foreign_options) <= set(forms_of(network)) <= set(FORMS)
    for options in [*network.foreign_options.values(), *network.structures]:
        assert build_model(name, nclass=2, **options)


def test_two_names_for_one_parameter_do_not_fit(tmp_path):
    net = get_model("sfnet", nclass=2)
    arrays = {"decode_head.conv_seg.bias": np.zeros(2, "f4"), "head.conv_last.1.bias": np.ones(2, "f4")}
    got = renamed(net, "pytorch", arrays)
    assert got["head.conv2.bias"].tolist() == [0, 0] and len(got) == 2


def test_a_form_that_the_network_does_not_read():
    with pytest.raises(UnknownNameError) as error:
        renamed(uninitialised("eprnet"), "gluoncv", {})
    assert "mxnetseg" in error.value.fix


# ---- loading ------------------------------------------------------------------------------------

def as_pytorch(net, case):
    """The state dictionary that the original would have with our network's parameters; its counters included."""
    ours = net.named_parameters()
    return {key: np.array(3, "i8") if key.endswith("num_batches_tracked") else ours[net.from_pytorch(key)].data()
            .asnumpy() for key, shape in case["keys"] if key not in case["skipped"]}


@pytest.mark.parametrize("name, case, arguments, prefix", [
    ("sfnet", "sfnet_r18_dsn_c19_64x96", {"aux": True}, ""),
    ("hrnet", "hrnetv2_w18_c19_64x96", {"width": 18}, "model."),
    pytest.param("ovenet", "offset_hrnetv2_w18_c19_64x96", {"width": 18}, "model.", marks=pytest.mark.slow),
    pytest.param("flattenet", "flattenet_att_r101_c21_64x96", {"context": "attention"}, "model.",
                 marks=pytest.mark.slow),
])
def test_there_and_back_again(name, case, arguments, prefix, tmp_path):
    case = read(case)
    net = get_model(name, nclass=case["classes"], **arguments)
    state = {prefix + key: value for key, value in as_pytorch(net, case).items()}
    if name == "ovenet":
        state["model.coords"] = np.zeros((1, 4, 4, 2), "f4")
    path = write_zip(tmp_path / "f.pth", {"state_dict": state_dict(state)})

    guess = recognise(read_tensors(path), name)
    assert guess.problems == [] and guess.form == "pytorch" and guess.nclass == case["classes"]
    assert {key: guess.arguments[key] for key in arguments} == arguments
    again = get_model(name, nclass=guess.nclass, **guess.arguments)
    assert load_foreign(again, path) == "pytorch"
    x = input_image(case)
    for one, other in zip(net(x), again(x)):
        assert np.array_equal(one.asnumpy(), other.asnumpy())


@pytest.mark.parametrize("name, aux", [
    ("sfsegnets_r18_dsn_c19_64x96", True), pytest.param("sfsegnets_r50_c19_64x96", False, marks=pytest.mark.slow),
    pytest.param("sfsegnets_r101_c19_64x96", False, marks=pytest.mark.slow),
])
def test_sfnet_by_its_authors(name, aux, tmp_path):
    """Their names and their biases before norms; their outputs have the input's size."""
    case = read(name)
    drawn = {f"module.{key}": value for key, value in weights(case).items()}
    path = write_zip(tmp_path / "f.pth", {"state_dict": state_dict(drawn), "epoch": 1})
    guess = recognise(read_tensors(path), "sfnet")
    assert guess.problems == [] and guess.arguments.get("aux", False) is aux
    net = get_model("sfnet", nclass=guess.nclass, **guess.arguments)
    load_foreign(net, path)
    assert_golden(name, case, {"logits_full_size": net(input_image(case))[0]})


def test_the_bias_before_a_norm_is_in_its_mean():
    net = uninitialised("sfnet")
    arrays = {"head.dsn.1.0.bias": np.array([1.0, 2]), "head.dsn.1.1.running_mean": np.array([5.0, 5]),
              "head.dsn.2.0.bias": np.ones(2)}
    assert {k: v.tolist() for k, v in net.adapt_foreign("pytorch", arrays).items()} == {
        "head.dsn.1.1.running_mean": [4, 3]}
    assert net.adapt_foreign("mmseg", arrays) is arrays and arrays["head.dsn.1.1.running_mean"].tolist() == [5, 5]


def own(**arguments):
    net = get_model("fcn", **arguments)
    return net, {name: p.data().asnumpy() for name, p in net.named_parameters().items()}


def test_nothing_is_set_where_something_does_not_fit(tmp_path):
    _, arrays = own(nclass=3)
    net, before = own(nclass=3)
    for change in ({"head.conv2.bias": None}, {"head.conv2.bias": np.zeros(4, "f4")}, {"more": np.zeros(1, "f4")}):
        changed = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        with pytest.raises(CheckpointError, match="do not fit"):
            load_foreign(net, write_npz(tmp_path / "f.npz", changed))
        assert all(np.array_equal(before[name], p.data().asnumpy()) for name, p in net.named_parameters().items())
    assert load_foreign(net, write_npz(tmp_path / "f.npz", arrays)) == "own"
    assert np.array_equal(net.head.conv2.weight.data().asnumpy(), arrays["head.conv2.weight"])
    with pytest.raises(UnknownNameError):
        load_foreign(net, tmp_path / "f.npz", form="torchvision")


# ---- recognising --------------------------------------------------------------------------------

def test_classes_backbone_and_heads_are_told_by_the_file():
    _, arrays = own(nclass=5, backbone="resnet34", aux=True)
    guess = recognise(arrays, "FCN")
    assert (guess.form, guess.nclass, guess.problems, guess.fit) == ("own", 5, [], 1.0)
    assert guess.arguments == {"backbone": "resnet34", "aux": True}
    assert guess.tensors.keys() == arrays.keys()


@pytest.mark.parametrize("model, backbone", [("fcn", "mobilenet_v2_1_0"), ("deeplabv3plus", "xception65")])
def test_a_form_is_recognised_behind_another_backbone(model, backbone):
    """MXNetSeg's names have no ``backbone.``: whose they are shows with the right one only."""
    net = build_model(model, nclass=4, backbone=backbone)
    theirs = {next((a + name[len(b):] for a, b in net.mxnetseg_prefixes.items() if name.startswith(b)), name):
              np.zeros([n or 1 for n in p.shape], "f4") for name, p in
              net.named_parameters().items()}
    theirs = {name.replace("backbone.", "", 1): value for name, value in theirs.items()}
    guess = recognise(theirs, model)
    assert (guess.form, guess.arguments["backbone"], guess.nclass, guess.problems) == ("mxnetseg", backbone, 4, [])


def test_what_is_known_is_not_tried_away():
    _, arrays = own(nclass=5)
    guess = recognise(arrays, "fcn", backbone="resnet34", nclass=7)
    assert guess.arguments["backbone"] == "resnet34" and guess.nclass == 7 and 0.3 < guess.fit < 0.9
    reasons = {p.name: p.reason for p in guess.problems}
    assert reasons["head.conv2.bias"] == "shape (5,) in the file, (7,) in this network"
    assert reasons["backbone.layer1.2.conv1.weight"] == "missing in the file"
    for wrong, error in (({"backbone": "resnet19"}, UnknownNameError), ({"output_stride": 5}, ConfigError),
                         ({"form": "caffe"}, UnknownNameError), ({"widht": 3}, UnknownNameError)):
        with pytest.raises(error):
            recognise(arrays, "fcn", **wrong)


# what stands at the beginning of a golden case's name -> the network
FAMILIES = {"ddrnet23slim": "ddrnet", "ddrnet23_": "ddrnet", "pidnet_s": "pidnet", "pidnet_m": "pidnet",
            "segformer_b0": "segformer", "segformer_b1": "segformer",
            "acfnet": "acfnet", "flattenet_att": "flattenet", "flattenet_ppm": "flattenet", "hrnetv2": "hrnet",
            "offset_hrnetv2": "ovenet", "sfnet_r18_c19": "sfnet", "sfnet_r18_dsn": "sfnet", "sfnet_r50": "sfnet",
            "sfnet_r101": "sfnet", "sfsegnets": "sfnet", "mmseg_bisenetv1": "bisenet", "mmseg_danet": "danet",
            "mmseg_deeplabv3_": "deeplabv3", "mmseg_deeplabv3plus": "deeplabv3plus", "mmseg_fast_scnn": "fastscnn",
            "mmseg_fcn_hr18": "hrnet", "mmseg_fcn_r50": "fcn", "mmseg_fpn": "semanticfpn", "mmseg_icnet": "icnet",
            "mmseg_ocrnet": "ocrnet", "mmseg_pspnet": "pspnet", "mmseg_setr": "setr", "mmseg_upernet": "upernet"}


# one case of each
QUICK = {"ddrnet23slim", "pidnet_s", "acfnet", "flattenet_ppm", "hrnetv2", "sfnet_r18_dsn", "mmseg_bisenetv1",
         "mmseg_fcn_r50"}


def originals():
    cases, seen = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.json.gz")), set()
    for case in cases:
        family = next((f for f in FAMILIES if case.startswith(f)), None)
        if family is not None:
            slow = family in seen or family not in QUICK
            yield pytest.param(case, FAMILIES[family], marks=[pytest.mark.slow] * slow)
            seen.add(family)
    assert seen == FAMILIES.keys()
    assert all(case.startswith((*FAMILIES, "timm_", "losses_")) for case in cases)


@pytest.mark.parametrize("case, name", list(originals()))
def test_every_original_is_recognised_by_its_names_and_shapes(case, name):
    case = read(case)
    shapes = {key: np.broadcast_to(np.float32(0), shape) for key, shape in case["keys"]}
    known = {"grid": [case["H"] // 16, case["W"] // 16]} if name == "setr" else {}
    guess = recognise(shapes, name, **known)
    assert guess.problems == [] and guess.nclass == case["classes"]
    assert guess.form == ("mmseg" if case["name"].startswith("mmseg") else "pytorch")


def test_a_square_grid_of_positions_is_told_by_its_shape():
    network = MODELS.get("setr")
    assert network.arguments_of({"backbone.pos_embed": (1, 48 * 48, 1024)}) == {"grid": 48}
    for shape in ((1, 24, 1024), (5,), (1, 0, 8)):
        assert network.arguments_of({"backbone.pos_embed": shape}) == {}
    assert network.arguments_of({}) == {}


def test_no_weights_of_this_network_at_all():
    guess = recognise({"a.weight": np.ones((3, 3), "f4")}, "fcn", thorough=False)
    assert guess.fit == 0 and guess.nclass is None and len(guess.problems) > 50
