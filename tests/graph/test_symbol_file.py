"""``symbol.json`` without MXNet, compared with MXNet's own reader."""
import json

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.errors import CheckpointError
from mxnetseg.graph.params_file import check_params_file, read_arrays, write_arrays
from mxnetseg.graph.symbol_file import parse_symbol, read_symbol, symbol_text, write_symbol


@pytest.fixture(scope="module")
def symbol():
    data = mx.sym.var("data")
    body = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, name="conv", attr={"__lr_mult__": "2"})
    body = mx.sym.BatchNorm(body, name="bn", fix_gamma=False)
    return mx.sym.Group(list(mx.sym.split(body, num_outputs=2, name="halves")))


def test_nodes_and_heads(symbol):
    graph = parse_symbol(symbol.tojson())
    assert graph.variables == ["data", "conv_weight", "conv_bias", "bn_gamma", "bn_beta", "bn_moving_mean",
                               "bn_moving_var"]
    conv = next(node for node in graph.nodes if node.name == "conv")
    assert conv.op == "Convolution" and conv.arguments == {"kernel": "(3, 3)", "num_filter": "4"}
    assert [k for _, k in graph.heads] == [0, 1] and not conv.is_variable


def test_written_symbols_are_read_by_mxnet(symbol, tmp_path):
    graph = parse_symbol(symbol.tojson())
    write_symbol(tmp_path / "net-symbol.json", graph)
    again = mx.sym.load(str(tmp_path / "net-symbol.json"))
    assert again.list_arguments() == symbol.list_arguments()
    assert again.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert again.infer_shape(data=(1, 3, 8, 8)) == symbol.infer_shape(data=(1, 3, 8, 8))
    assert read_symbol(tmp_path / "net-symbol.json")._replace(where=graph.where) == graph


@pytest.mark.parametrize("arguments, user", [("attr", None), ("param", "attr"), ("attrs", None)])
def test_older_keys_give_the_same_graph_as_in_mxnet(symbol, arguments, user):
    content = json.loads(symbol.tojson())
    for node in content["nodes"]:
        values = node.pop("attrs", {})
        own = {key: value for key, value in values.items() if key.startswith("__")} if user else {}
        node[arguments] = {key: value for key, value in values.items() if key not in own}
        if user:
            node[user] = own
        node["inputs"] = [entry[:2] for entry in node["inputs"]]
    assert parse_symbol(json.dumps(content)) == parse_symbol(symbol.tojson())


def test_batch_norms_of_old_files_get_their_statistics(symbol):
    content = json.loads(symbol.tojson())
    kept = [i for i, node in enumerate(content["nodes"]) if "moving" not in node["name"]]
    for node in content["nodes"]:
        node["inputs"] = [[kept.index(i), k] for i, k, _ in node["inputs"] if i in kept]
    content = {"nodes": [content["nodes"][i] for i in kept],
               "heads": [[kept.index(i), k] for i, k, _ in content["heads"]],
               "arg_nodes": [0, 1, 2, 4, 5], "attrs": {"mxnet_version": ["int", 800]}}
    graph = parse_symbol(json.dumps(content))
    theirs = mx.sym.load_json(json.dumps(content))
    assert theirs.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    ours = mx.sym.load_json(symbol_text(graph))
    assert ours.list_auxiliary_states() == theirs.list_auxiliary_states()
    assert ours.infer_shape(data=(1, 3, 8, 8)) == theirs.infer_shape(data=(1, 3, 8, 8))


@pytest.mark.parametrize("change", [
    lambda c: c.pop("nodes"), lambda c: c.pop("heads"), lambda c: c.update(heads=[]), lambda c: c.update(nodes={}),
    lambda c: c["nodes"][0].pop("op"), lambda c: c["nodes"][0].update(name=3),
    lambda c: c["nodes"][3].update(inputs=[[99, 0, 0]]), lambda c: c["nodes"][3].update(inputs=[[3, 0, 0]]),
    lambda c: c["nodes"][3].update(inputs=[[-1, 0, 0]]), lambda c: c["nodes"][3].update(inputs=[[0, -1, 0]]),
    lambda c: c["nodes"][3].update(inputs=[[True, 0, 0]]), lambda c: c["nodes"][3].update(inputs=[[0]]),
    lambda c: c["nodes"][3].update(inputs=7), lambda c: c["nodes"][3].update(attrs={"kernel": [3, 3]}),
    lambda c: c["nodes"][3].update(attr={"kernel": "(1, 1)"}), lambda c: c["nodes"][1].update(name="data"),
    lambda c: c["nodes"][1].update(inputs=[[0, 0, 0]]), lambda c: c.update(heads=[[1000, 0, 0]]),
])
def test_damage_is_refused(symbol, change):
    content = json.loads(symbol.tojson())
    change(content)
    with pytest.raises(CheckpointError, match="no symbol of MXNet"):
        parse_symbol(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"nodes": [], "nodes": []}', "NaN"])
def test_text_that_is_no_symbol_is_refused(text):
    with pytest.raises(CheckpointError, match="no symbol of MXNet"):
        parse_symbol(text)


def test_files_that_are_missing_or_binary_are_refused(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\x12\x01\xff\xfe")
    for name in ("binary.json", "missing.json", "."):
        with pytest.raises(CheckpointError):
            read_symbol(tmp_path / name)


# ---- values of .params files ----------------------------------------------------------------

TYPES = ("float32", "float64", "float16", "uint8", "int8", "int32", "int64")


@given(st.dictionaries(st.text("abc:_.é", min_size=1, max_size=8),
                       st.tuples(st.sampled_from(TYPES), st.lists(st.integers(1, 4), min_size=1, max_size=4)),
                       min_size=1, max_size=5))
def test_arrays_are_those_of_mxnet_both_ways(tmp_path_factory, description):
    folder = tmp_path_factory.mktemp("arrays")
    arrays = {name: (np.random.RandomState(0).normal(size=shape) * 50).astype(dtype)
              for name, (dtype, shape) in description.items()}
    mx.nd.save(str(folder / "theirs"), {name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()})
    write_arrays(folder / "ours", arrays)
    loaded = mx.nd.load(str(folder / "ours"))
    for found in (read_arrays(folder / "theirs"), {name: value.asnumpy() for name, value in loaded.items()},
                  read_arrays(folder / "ours")):
        assert set(found) == set(arrays)
        for name, value in arrays.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
    for file in folder.iterdir():
        file.unlink()


def test_bool_and_bfloat16(tmp_path):
    write_arrays(tmp_path / "mask", {"mask": np.array([True, False])})
    assert mx.nd.load(str(tmp_path / "mask"))["mask"].asnumpy().tolist() == [True, False]

    # bfloat16 (type 12) is the upper half of float32: 1, -2.5, 3.140625
    write_arrays(tmp_path / "half", {"half": np.array([0x3F80, 0xC020, 0x4049], "<u2").view("float16")})
    data = (tmp_path / "half").read_bytes()
    place = 8 + 16 + 12 + 8 + 8  # header, array header, one size, context
    assert data[place:place + 4] == (2).to_bytes(4, "little")
    (tmp_path / "half").write_bytes(data[:place] + (12).to_bytes(4, "little") + data[place + 4:])
    found = read_arrays(tmp_path / "half")["half"]
    assert found.dtype == np.float32 and found.tolist() == [1, -2.5, 3.140625]


def test_files_without_names_and_unwritable_arrays_are_refused(tmp_path):
    mx.nd.save(str(tmp_path / "list"), [mx.nd.zeros((2,))])
    assert len(check_params_file(tmp_path / "list").tensors) == 1
    with pytest.raises(CheckpointError, match="no names"):
        read_arrays(tmp_path / "list")
    for arrays in ({"a": np.float32(3)}, {"a": np.zeros((0, 2))}, {"a": np.array(["text"])}, {"": np.zeros(2)},
                   {"a\0b": np.zeros(2)}):
        with pytest.raises(CheckpointError):
            write_arrays(tmp_path / "bad", arrays)
    assert not (tmp_path / "bad").exists()


def test_every_cut_of_a_file_is_refused(tmp_path):
    write_arrays(tmp_path / "whole", {"arg:weight": np.ones((2, 3), "float32"), "aux:mean": np.ones(3)})
    data = (tmp_path / "whole").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_arrays(tmp_path / "cut")
