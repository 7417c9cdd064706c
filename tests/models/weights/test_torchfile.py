"""PyTorch's checkpoint files: what is read, and that nothing is run."""
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate_bytes
from torch_files import WRITERS, Call, Global, Storage, Tensor, dumps, state_dict, tensor, write_stream, write_zip

from mxnetseg.errors import CheckpointError
from mxnetseg.models.weights.tensors import read_tensors
from mxnetseg.models.weights.torchfile import read_torch
from mxnetseg.models.weights.unpickler import Shell

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "torch"


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
    """BUILD sets attributes of the object on the stack: here, of the functions that make tensors."""
    class Slots(tuple):
        """Tuple that BUILD takes for (state, slots)."""
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
            Storage("0", np.ones(2, "f4"), storage_class="QInt8Storage"), (2,), (1,))}))
    with zipfile.ZipFile(tmp_path / "g.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02X\x03\x00\x00\x00fooQ.")  # persistent id 'foo'
    with pytest.raises(CheckpointError, match="damaged"):
        read_torch(tmp_path / "g.pth")


# ---- damage --------------------------------------------------------------------------------------

SOUND = {"state_dict": state_dict({"conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
                                   "bn.bias": np.ones(5, "f2")}), "epoch": 3}


@pytest.mark.parametrize("file_format", sorted(WRITERS))
def test_a_file_cut_anywhere_is_refused(file_format, tmp_path):
    data = WRITERS[file_format](tmp_path / "whole.pth", SOUND).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in [*range(0, len(data) - 1, 7), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_torch(cut)


@settings(max_examples=300)
@given(file_format=st.sampled_from(sorted(WRITERS)), place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255),
       length=st.integers(1, 4))
def test_a_changed_byte_is_refused_or_read_and_nothing_else(file_format, place, byte, length, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(WRITERS[file_format](folder / "whole.pth", SOUND).read_bytes())
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
    with pytest.raises(CheckpointError, match="is not there"):
        read_torch(tmp_path / "none.pth")


def test_what_is_no_regular_file_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "pipe.pth", "not a regular file")):
        with pytest.raises(CheckpointError, match=words):
            read_torch(path)


def test_an_unreadable_file_is_refused(write, monkeypatch):
    path = write(SOUND)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        read_torch(path)
    assert caught.value.received == "Permission denied"


# ---- bombs: small files that ask for much memory or time -----------------------------------------

NEST = b"N" + b"2\x86" * 60  # None, then 60 times the tuple of the top twice: 2^60 entries in 122 bytes
LINE = b"9" * 5000


def archive_of(opcodes, *more):
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x04" + opcodes)
        for name, content in more:
            archive.writestr(name, content)
    return data.getvalue()


def stream_of(opcodes):
    return b"".join(dumps(v, {}) for v in (0x1950A86A20F9469CFC6C, 1001, {})) + b"\x80\x04" + opcodes


def pid_of(storage_class=b"ctorch\nFloatStorage\n", key=b"X\x01\0\0\0" + b"0", numel=b"K\x01"):
    return b"(X\x07\0\0\0storage" + storage_class + key + b"X\x03\0\0\0cpu" + numel + b"tQ."


BOMBS_OF_MEMORY = {
    "a persistent id of nested tuples": NEST + b"Q.",
    "a storage of a nested kind": pid_of(storage_class=NEST),
    "a storage with a nested key": pid_of(key=NEST),
    "a storage with a nested length": pid_of(numel=NEST),
    "a nested key": b"}" + NEST + b"Ns.",
    "nested keys": b"}(" + NEST + b"Nu.",
    "nested keys of DICT": b"(" + NEST + b"Nd.",
    "a set of nested tuples": b"\x8f(" + NEST + b"\x90.",
    "a frozen set of nested tuples": b"(" + NEST + b"\x91.",
    "an ordered dictionary with a nested key": b"ccollections\nOrderedDict\n](" + NEST + b"N\x86e\x85R.",
    "a nested size": b"ctorch._utils\n_rebuild_tensor_v2\n" + NEST + b"K\0(" + NEST + b"t" + NEST + b"\x87R.",
    "a memo that is missing": b"h" + b"\xff.",
    "9 GB of bytes": b"\x8e" + (9 << 30).to_bytes(8, "little") + b".",
    "9 GB of text": b"\x8d" + (9 << 30).to_bytes(8, "little") + b".",
    "9 GB of a byte array": b"\x96" + (9 << 30).to_bytes(8, "little") + b".",
    "a frame of 9 GB": b"\x95" + (9 << 30).to_bytes(8, "little") + b"B\xff\xff\xff\xff.",
    "2 GB of a number": b"\x8b" + b"\xff\xff\xff\x7f.",
    "4 GB of old text": b"T" + b"\xff\xff\xff\x7f.",
    "5000 digits": b"I" + LINE + b"\n.",
    "5000 digits, long": b"L" + LINE + b"L\n.",
    "a long name": b"c" + b"m" * 5000 + b"\nx\n.",
    "a hostile name": b"cos\n" + b"s" * 4000 + b"\n.",
    "2000 classes": b"".join(b"cm\nn%d\n" % i for i in range(2000)) + b".",
    "an array as arguments": b"cm\nn\n" + b"X\x05\0\0\0abcdeR.",
    "nothing but a mark": b"(" * 1000 + b".",
}


@pytest.mark.parametrize("make", [archive_of, stream_of])
@pytest.mark.parametrize("name", BOMBS_OF_MEMORY)
def test_bombs_of_memory_and_time_are_refused_with_a_short_message(name, make, tmp_path):
    path = tmp_path / "bomb.pth"
    path.write_bytes(make(BOMBS_OF_MEMORY[name]))
    begin = time.process_time()
    tracemalloc.start()
    try:
        for read in (read_torch, read_tensors):
            with pytest.raises(CheckpointError) as caught:
                read(path)
            assert len(str(caught.value)) < 600 + len(str(path))
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 << 20 and time.process_time() - begin < 10


def test_too_many_instructions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mxnetseg.models.weights.unpickler._MOST_READS", 1000)
    path = tmp_path / "bomb.pth"
    path.write_bytes(archive_of(b"}" * 2000 + b"."))
    with pytest.raises(CheckpointError, match="damaged") as caught:
        read_torch(path)
    assert "more than 1,000 instructions" in caught.value.received


def test_keys_of_small_tuples_are_read(write):
    assert read_torch(write({(1, ("a", 2)): 3, 4: 5})) == {(1, ("a", 2)): 3, 4: 5}


def test_entries_that_lie_over_one_another_are_refused(tmp_path):
    """The directory of a zip file can name the same bytes many times."""
    storages = {str(i): Tensor(Storage(str(i), np.zeros(25_000, "f4")), (1,), (1,)) for i in range(20)}
    path = write_zip(tmp_path / "f.pth", storages)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        offsets = {info.filename: info.header_offset for info in archive.infolist()}
    first, entries = offsets["archive/data/0"], data[data.index(b"PK\x01\x02"):]
    directory = bytearray(entries)
    for name, offset in offsets.items():
        if name.startswith("archive/data/"):
            place = directory.index(name.encode(), directory.index(b"PK\x01\x02")) - 4
            directory[place:place + 4] = struct.pack("<I", first)
            assert offset >= first
    end = first + 30 + len("archive/data/0") + 100_000
    directory[-6:-2] = struct.pack("<I", end)
    path.write_bytes(data[:end] + directory)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        read_torch(path)
    assert "entries together are larger" in caught.value.received or "Overlapped" in caught.value.received


# opcodes of pickles and extreme numbers
ODD = [b"(", b"2", b"\x86", b"Q", b"R", b"b", b"s", b"u", b"}", b"]", b"e", b"0", b"1", b"h\x01", b"\x8f", b"\x90",
       b"\x91", b"\x96", b"\x8e", b"\x95", b"\x81", b"\x92", b"I9\n", b"cos\nsystem\n",
       *((number % (1 << 8 * width)).to_bytes(width, "little") for width in (1, 2, 4, 8)
         for number in (0, 1, -1, 1 << 7, 1 << 15, 1 << 31, (1 << 31) - 1, (1 << 63) - 1, 1 << 40))]


def test_mutated_weight_files_are_read_or_refused_with_little_memory(tmp_path):
    """In a process that may take 256 MiB more than after the imports: .pth of both formats, .safetensors, .npz."""
    arrays = {"conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2), "bn.bias": np.ones(5, "f2")}
    header = json.dumps({"conv.weight": {"dtype": "F32", "shape": [2, 3, 2, 2], "data_offsets": [0, 96]},
                         "bn.bias": {"dtype": "F16", "shape": [5], "data_offsets": [96, 106]}}).encode()
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    originals = {"zip.pth": write_zip(tmp_path / "f", SOUND).read_bytes(),
                 "stream.pth": write_stream(tmp_path / "f", SOUND).read_bytes(),
                 "x.safetensors": len(header).to_bytes(8, "little") + header + b"".join(
                     a.tobytes() for a in arrays.values()),
                 "plain.npz": (tmp_path / "plain.npz").read_bytes(),
                 "small.npz": (tmp_path / "small.npz").read_bytes()}
    for name, data in originals.items():
        (tmp_path / f"0-{name}").write_bytes(data)
        for seed in range(300):
            (tmp_path / f"m{seed}-{name}").write_bytes(mutate_bytes(data, seed, ODD))
    for i, opcodes in enumerate(BOMBS_OF_MEMORY.values()):
        (tmp_path / f"zip{i}-bomb.pth").write_bytes(archive_of(opcodes))
        (tmp_path / f"stream{i}-bomb.pth").write_bytes(stream_of(opcodes))
    code = """
import resource, sys
from pathlib import Path
from mxnetseg.errors import MXNetSegError
from mxnetseg.models.weights.tensors import read_tensors
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
read = 0
for path in sorted(Path(sys.argv[1]).glob("*-*")):
    try:
        read_tensors(path)
        read += 1
    except MXNetSegError as error:
        assert len(str(error)) < 800 and "Memory" not in str(error), (path, error)
        assert path.name[:2] != "0-", error
print(read)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 50
