"""PyTorch's checkpoint files: what is read, and that nothing is run."""
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import WRITERS, Call, Global, Storage, Tensor, dumps, state_dict, tensor, write_stream, write_zip

from mxnetseg.errors import CheckpointError
from mxnetseg.models.torchfile import Shell, read_torch

GOLDEN = Path(__file__).parent.parent / "golden" / "torch"


@pytest.fixture(params=sorted(WRITERS))
def write(request, tmp_path):
    """``write(object)``: a file in one of the two formats."""
    return lambda value, **how: WRITERS[request.param](tmp_path / "checkpoint.pth", value, **how)


def no_numbers(value):
    return isinstance(value, Shell)


@pytest.mark.parametrize("name", ["zip", "stream"])
def test_what_pytorch_itself_wrote(name):
    checkpoint, expected = read_torch(GOLDEN / f"{name}.pth"), np.load(GOLDEN / "expected.npz")
    state = checkpoint["state_dict"]
    assert [key.replace("module.", "", 1) for key in state] == expected.files
    for key in expected.files:
        got = state[f"module.{key}"]
        assert got.dtype == expected[key].dtype and np.array_equal(got, expected[key]), key
    assert checkpoint["meta"]["epoch"] == 3 and no_numbers(checkpoint["meta"]["args"])
    assert no_numbers(checkpoint["meta"]["best"]) and no_numbers(checkpoint["meta"]["size"])


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_types(write, dtype):
    values = np.array([[1, 0, 3], [4, 5, 0]]).astype(dtype)
    got = read_torch(write({"t": tensor("0", values)}))["t"]
    assert got.dtype == np.dtype("f4" if dtype == "f2" else dtype) and np.array_equal(got, values)


def test_bfloat16_is_the_upper_half_of_a_float32(write):
    halves = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)  # 1, -2, infinity, a subnormal
    got = read_torch(write({"t": tensor("0", halves, "BFloat16Storage")}))["t"]
    assert got.dtype == np.float32
    assert got[:3].tolist() == [1.0, -2.0, np.inf] and 0 < got[3] < 1e-38


@settings(max_examples=50)
@given(shape=st.lists(st.integers(1, 4), min_size=0, max_size=4), data=st.data())
def test_any_strides_and_offset_are_numpys(shape, data, tmp_path_factory):
    order = data.draw(st.permutations(range(len(shape))))
    whole = np.arange(2 * int(np.prod(shape)) + 3, dtype=np.float32)
    offset = data.draw(st.integers(0, int(np.prod(shape)) + 2))
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step * data.draw(st.sampled_from([1, 0]))
        step *= shape[axis]
    path = write_zip(tmp_path_factory.getbasetemp() / "strides.pth", {
        "t": Tensor(Storage("0", whole), tuple(shape), tuple(strides), offset)})
    expected = np.lib.stride_tricks.as_strided(whole[offset:], shape, [4 * s for s in strides])
    assert np.array_equal(read_torch(path)["t"], expected)


def test_a_storage_may_be_shared(write):
    storage = Storage("7", np.arange(6, dtype=np.float32))
    got = read_torch(write({"a": Tensor(storage, (2, 3), (3, 1)), "b": Tensor(storage, (3, 2), (1, 3)),
                            "c": Tensor(storage, (2,), (1,), 4)}))
    assert np.array_equal(got["a"].T, got["b"]) and got["c"].tolist() == [4, 5]


def test_empty_and_single(write):
    got = read_torch(write({"none": tensor("0", np.zeros((0, 3), "f4")), "one": tensor("1", np.float32(7))}))
    assert got["none"].shape == (0, 3) and got["one"].shape == () and got["one"] == 7


def test_parameters_subclasses_and_untyped_storages(tmp_path):
    values = np.array([1.5, -2.0], np.float32)
    inner = tensor("0", values)
    parameter = Call("torch._utils", "_rebuild_parameter", (inner, True, Call("collections", "OrderedDict")))
    arguments = (inner.storage, 0, (2,), (1,), False, Call("collections", "OrderedDict"))
    subclass = Call("torch._tensor", "_rebuild_from_type_v2", (
        Global("torch._utils", "_rebuild_tensor_v2"), Global("torch.nn.parameter", "Mine"), arguments, {"a": 1}))
    untyped = Storage("1", np.frombuffer(values.tobytes(), "u1"), "UntypedStorage")
    third = Call("torch._utils", "_rebuild_tensor_v3", (
        untyped, 0, (2,), (1,), False, Call("collections", "OrderedDict"), Global("torch", "float32")))
    got = read_torch(write_zip(tmp_path / "f.pth", [parameter, subclass, third]))
    assert all(np.array_equal(t, values) for t in got)


def test_big_endian(tmp_path):
    for dtype in ("f4", "f2", "i8"):
        values = np.array([1, 2, 300]).astype(dtype)
        got = read_torch(write_zip(tmp_path / "f.pth", {"t": tensor("0", values)}, byteorder="big"))["t"]
        assert np.array_equal(got, values) and got.dtype.isnative
    path = write_zip(tmp_path / "f.pth", {"t": tensor("0", np.array([0x3F80], "u2"), "BFloat16Storage")},
                     byteorder="big")
    assert read_torch(path)["t"] == 1.0
    with pytest.raises(CheckpointError, match="damaged"):
        read_torch(write_zip(tmp_path / "f.pth", state_dict({"t": np.ones(1, "f4")}), byteorder="middle"))


def test_an_old_archive_says_nothing_of_its_byte_order(tmp_path):
    path = write_zip(tmp_path / "f.pth", {"t": tensor("0", np.ones(2, "f4"))}, leave_out=("byteorder",))
    assert read_torch(path)["t"].tolist() == [1, 1]


# ---- nothing is run ------------------------------------------------------------------------------

BOMBS = [("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval"),
         ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "__import__"), ("runpy", "run_path"),
         ("importlib", "import_module"), ("socket", "create_connection"), ("shutil", "rmtree"), ("pty", "spawn"),
         ("os.path", "exists"), ("webbrowser", "open"), ("builtins", "open")]


@pytest.mark.parametrize("module, name", BOMBS)
def test_a_bomb_is_refused_by_name_and_does_not_go_off(write, tmp_path, module, name):
    trace = tmp_path / "trace"
    command = f"touch {trace}" if name != "eval" else f"open({str(trace)!r}, 'w')"
    path = write({"state_dict": state_dict({"w": np.ones(2, "f4")}), "x": Call(module, name, (command,))})
    with pytest.raises(CheckpointError, match="no checkpoint needs") as error:
        read_torch(path)
    assert error.value.received == f"{module}.{name}" and not trace.exists()


def test_a_class_that_nobody_knows_is_an_empty_shell_and_is_not_imported(write, tmp_path, monkeypatch):
    module = tmp_path / "booby_trap.py"
    module.write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    odd = Call("booby_trap", "Trap", (1, "a"), {"state": 2}, {"key": "value"})
    values = {"t": tensor("0", np.ones(2, "f4")), "odd": odd, "instance": Call("booby_trap", "Trap"),
              "class": Global("booby_trap", "Trap"), "method": Call("builtins", "getattr", (odd, "__class__"))}
    got = read_torch(write(values))
    assert got["t"].tolist() == [1, 1]
    assert no_numbers(got["odd"]) and vars(got["odd"]) == {} and no_numbers(got["method"])


def test_state_cannot_change_the_reader(write):
    """BUILD sets attributes of whatever lies on the stack: here, of the functions that make tensors."""
    class Slots(tuple):
        """What BUILD takes for (state, slots)."""
    attack = Call("torch._utils", "_rebuild_parameter", (Global("torch._utils", "_rebuild_tensor_v2"),),
                  Slots((None, {"__defaults__": (1,), "__doc__": "changed"})))
    more = Call("torch._utils", "_rebuild_parameter", (Global("collections", "OrderedDict"),),
                Slots(({"__module__": "changed"}, {"fromkeys": 1})))
    got = read_torch(write({"a": attack, "b": more, "t": tensor("0", np.ones(2, "f4"))}))
    assert got["a"].__doc__ != "changed" and got["b"].__module__ != "changed"
    assert got["t"].tolist() == [1, 1] and OrderedDict.fromkeys("a") == {"a": None}


def test_other_references_than_to_storages_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="QInt8Storage|not read"):
        read_torch(write_zip(tmp_path / "f.pth", {"t": Tensor(
            Storage("0", np.ones(2, "f4"), kind="QInt8Storage"), (2,), (1,))}))
    with zipfile.ZipFile(tmp_path / "g.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02X\x03\x00\x00\x00fooQ.")  # persistent id 'foo'
    with pytest.raises(CheckpointError, match="damaged"):
        read_torch(tmp_path / "g.pth")


# ---- damage --------------------------------------------------------------------------------------

SOUND = {"state_dict": state_dict({"conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
                                   "bn.bias": np.ones(5, "f2")}), "epoch": 3}


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_file_cut_anywhere_is_refused(kind, tmp_path):
    data = WRITERS[kind](tmp_path / "whole.pth", SOUND).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in [*range(0, len(data) - 1, 7), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_torch(cut)


@settings(max_examples=300)
@given(kind=st.sampled_from(sorted(WRITERS)), place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255),
       length=st.integers(1, 4))
def test_a_changed_byte_is_refused_or_read_and_nothing_else(kind, place, byte, length, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(WRITERS[kind](folder / "whole.pth", SOUND).read_bytes())
    begin = int(place * len(data))
    data[begin:begin + length] = bytes([byte]) * len(data[begin:begin + length])
    path = folder / "changed.pth"
    path.write_bytes(data)
    try:
        read_torch(path)
    except CheckpointError as error:
        assert str(path) in str(error)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_garbage_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "garbage.pth"
    for beginning in (b"", b"\x80\x02", b"PK\x03\x04", dumps(0x1950A86A20F9469CFC6C, {}) + dumps(1001, {})):
        path.write_bytes(beginning + data)
        with pytest.raises(CheckpointError):
            read_torch(path)


@pytest.mark.parametrize("what", [
    Tensor(Storage("0", np.ones(4, "f4")), (5,), (1,)),  # longer than its storage
    Tensor(Storage("0", np.ones(4, "f4")), (2,), (1,), 3),  # begins too late
    Tensor(Storage("0", np.ones(4, "f4")), (2,), (-1,), 3),  # backwards
    Tensor(Storage("0", np.ones(4, "f4")), (-2,), (1,)),
    Tensor(Storage("0", np.ones(4, "f4")), (2, 2), (1,)),  # fewer strides than sizes
    Tensor(Storage("0", np.ones(4, "f4")), (1 << 40, 1 << 40), (0, 0)),  # a single number, 10^24 times
    Tensor(Storage("0", np.ones(4, "f4")), (1.5,), (1,)),
    Tensor(Storage("0", np.ones(4, "f4")), (1,) * 70, (1,) * 70),  # more dimensions than NumPy has
    Tensor(Storage("0", np.ones(4, "f4"), numel=1 << 60), (1 << 60,), (1,)),  # more than the file
    Tensor(Storage("0", np.ones(4, "f4"), numel=5), (5,), (1,)),
])
def test_a_tensor_beyond_its_storage_is_refused(write, what):
    with pytest.raises(CheckpointError, match="damaged"):
        read_torch(write({"t": what}))


def test_a_few_numbers_cannot_become_many_gigabytes(tmp_path):
    storage = Storage("0", np.ones(1, "f4"))
    many = {str(i): Tensor(storage, (1 << 20,), (0,)) for i in range(2000)}  # 8 GB out of 200 KB
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_torch(write_zip(tmp_path / "f.pth", many))


def test_numbers_of_a_pickle_reserve_no_memory(tmp_path):
    """A memo index of 2^32 - 1 makes CPython's unpickler in C reserve 64 GB."""
    claims = {"memo": b"Nr\xff\xff\xff\xff.", "bytes": b"B\xff\xff\xff\xffabc.", "long": b"\x8b\xff\xff\xff\x7fabc.",
              "more": b"\x8e" + b"\xff" * 8 + b"."}
    for name, opcodes in claims.items():
        with zipfile.ZipFile(tmp_path / "f.pth", "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x04" + opcodes)
        if name == "memo":
            assert read_torch(tmp_path / "f.pth") is None
        else:
            with pytest.raises(CheckpointError):
                read_torch(tmp_path / "f.pth")


def test_entries_of_the_archive(tmp_path):
    path = tmp_path / "f.pth"
    with pytest.raises(CheckpointError, match="data/0 is missing"):
        read_torch(write_zip(path, SOUND, leave_out=("data/0",)))
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
        read_torch(write_zip(path, SOUND, leave_out=("data.pkl",)))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch(write_zip(path, SOUND, compress=True))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="TorchScript") as error:
        read_torch(path)
    assert "state_dict" in error.value.fix


def test_headers_of_the_stream(tmp_path):
    path = tmp_path / "f.pth"
    for how in ({"magic": 5}, {"protocol": 1002}, {"sizes": {"0": 3}}, {"sizes": {"0": -1}}):
        with pytest.raises(CheckpointError, match="damaged"):
            read_torch(write_stream(path, SOUND, **how))


def test_views_of_storages_in_the_stream(tmp_path):
    """Before PyTorch 0.4 a storage could be a part of another: (key, offset, length)."""
    import torch_files
    numbers = np.arange(6, dtype="f4")
    path = tmp_path / "f.pth"
    whole = write_stream(path, {"t": Tensor(Storage("0", numbers), (2,), (1,))}).read_bytes()
    view = torch_files.dumps(("v", 3, 2), {})[2:-1]
    # the last item of the persistent id, None, becomes the view
    marked = whole.replace(b"\x8a\x01\x06NtQ", b"\x8a\x01\x06" + view + b"tQ", 1)
    assert marked != whole
    path.write_bytes(marked)
    assert read_torch(path)["t"].tolist() == [3, 4]
    path.write_bytes(marked.replace(struct.pack("<B", 0x8A) + b"\x01\x03", b"\x8a\x01\x05", 1))
    with pytest.raises(CheckpointError, match="beyond"):
        read_torch(path)


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch(tmp_path / "none.pth")
