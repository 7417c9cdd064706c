"""MXNet's .params files: the index agrees with MXNet, and no damage costs memory or another error than ours."""
import os
import struct
import subprocess
import sys
import tracemalloc

import mxnet as mx
import numpy as np
import pytest
from mutations import mutate_bytes

from mxnetseg.errors import CheckpointError
from mxnetseg.graph.params_file import check_params_file
from mxnetseg.models.weights.loading import load_arrays, read_params
from mxnetseg.models.weights.tensors import read_tensors

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
ONE = struct.pack("<f", 1.5)
TYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def array(magic=V2, *, storage=0, shape=(1,), ndim=None, context=(1, 0), code=0, data=ONE):
    ndim = len(shape) if ndim is None else ndim
    head = struct.pack("<Iii", magic, storage, ndim) if magic in (V2, V3) else struct.pack("<Ii", magic, ndim)
    return head + struct.pack(f"<{len(shape)}q", *shape) + struct.pack("<iii", *context, code) + data


def file_of(arrays, names=None, *, count=None, named=None, end=b""):
    names = [f"n{i}" for i in range(len(arrays))] if names is None else names
    texts = [name if isinstance(name, bytes) else name.encode() for name in names]
    return b"".join([u64(0x112, 0, len(arrays) if count is None else count), *arrays,
                     u64(len(texts) if named is None else named), *(u64(len(t)) + t for t in texts), end])


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "x.params"
        path.write_bytes(data)
        return path
    return write


def refused(path, *words):
    """The message of every reader, which must be of our kind and short."""
    for read in (check_params_file, read_params, load_arrays, read_tensors):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 600 + len(str(path))
    with pytest.raises(CheckpointError) as caught:
        check_params_file(path)
    for word in words:
        assert word in str(caught.value)
    return caught.value


# ---- sound files ---------------------------------------------------------------------------------


def test_the_index_is_what_mxnet_wrote(tmp_path):
    """Every type, several shapes: type, shape and position of the numbers."""
    path, generator = tmp_path / "x.params", np.random.default_rng(0)
    arrays = {f"{dtype}.{i}": (generator.random(shape) * 4).astype(dtype)
              for dtype in TYPES for i, shape in enumerate([(1,), (2, 3), (2, 1, 3, 4), (0, 3)])}
    mx.nd.save(str(path), {name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()})
    index, data = check_params_file(path), path.read_bytes()
    assert [t.name for t in index.tensors] == list(arrays) and not index.numpy_shapes
    for tensor in index.tensors:
        expected = arrays[tensor.name]
        assert (tensor.dtype, tensor.shape) == (expected.dtype.name, expected.shape)
        got = np.frombuffer(data, tensor.dtype, expected.size, tensor.offset).reshape(tensor.shape)
        assert np.array_equal(got, expected), tensor.name
    assert read_params(path).keys() == arrays.keys()


def test_lists_and_empty_files(tmp_path):
    path = str(tmp_path / "x.params")
    mx.nd.save(path, [mx.nd.ones((2,)), mx.nd.ones((3,))])
    assert [(t.name, t.shape) for t in check_params_file(path).tensors] == [("", (2,)), ("", (3,))]
    with pytest.raises(CheckpointError, match="no named tensors"):
        read_params(path)
    mx.nd.save(path, {})
    assert check_params_file(path).tensors == []
    with pytest.raises(CheckpointError, match="no named tensors"):
        read_params(path)


@pytest.mark.parametrize("one", [array(), array(V1), u32(1, 1) + struct.pack("<iii", 1, 0, 0) + ONE,
                                 array(context=(2, 7)), array(context=(5, -1))],
                         ids=["v2", "v1", "before 0.11", "GPU 7", "shared memory"])
def test_every_version_and_device(write, one):
    path = write(file_of([one, array()], ["arg:a", "b"]))
    assert [(t.name, t.dtype, t.shape) for t in check_params_file(path).tensors] == [
        ("arg:a", "float32", (1,)), ("b", "float32", (1,))]
    assert {name: value.asscalar() for name, value in read_params(path).items()} == {"a": 1.5, "b": 1.5}


def test_files_with_numpys_shapes(tmp_path):
    path = str(tmp_path / "x.params")
    with mx.util.np_shape(True):
        mx.nd.save(path, {"scalar": mx.nd.array(np.float32(3)), "row": mx.nd.ones((2,))})
    index = check_params_file(path)
    assert index.numpy_shapes and [t.shape for t in index.tensors] == [(), (2,)]
    found = read_tensors(path)
    assert found["scalar"].shape == () and found["scalar"] == 3 and found["row"].tolist() == [1, 1]
    assert not mx.util.is_np_shape()


def test_bfloat16_comes_as_float32(write):
    path = write(file_of([array(code=12, shape=(2,), data=struct.pack("<HH", 0x3F80, 0xC000))], ["x"]))
    assert check_params_file(path).tensors[0].dtype == "bfloat16"
    assert read_params(path)["x"].dtype == np.float32 and read_tensors(path)["x"].tolist() == [1, -2]


# ---- hostile files -------------------------------------------------------------------------------

HOSTILE = {
    "24 bytes that ask for 9 GB": (u64(0x112, 0, 1 << 28), "announces 268,435,456 arrays"),
    "more arrays than bytes": (file_of([array()], count=1 << 62), "announces"),
    "one array more than there is": (file_of([array(), array()], count=3), "the file ends there"),
    "terabytes": (file_of([array(shape=(1 << 20, 1 << 20))]), "takes 4398046511104 bytes"),
    "a product beyond 64 bits": (file_of([array(shape=(1 << 62,) * 30)]), "bits bytes"),
    "a product that is 0 modulo 2^64": (file_of([array(shape=(1 << 32, 1 << 32))]), "takes 73786976294838206464"),
    "negative size": (file_of([array(shape=(-1, -1))]), "shape (-1, -1)"),
    "2^31 - 1 dimensions": (file_of([array(ndim=(1 << 31) - 1)]), "2147483647 dimensions"),
    "no shape": (file_of([struct.pack("<Iii", V2, 0, 0), array()]), "0 dimensions"),
    "no shape, NumPy's": (file_of([struct.pack("<Iii", V3, 0, -1), array(V3)]), "-1 dimensions"),  # ends MXNet
    "no shape, old": (file_of([u32(0), array()]), "0 dimensions"),
    "both kinds of shapes": (file_of([array(V2), array(V3)]), "with and without NumPy's shapes"),
    "old, many dimensions": (file_of([u32(1 << 30), array()]), "1073741824 dimensions"),
    "row_sparse": (file_of([array(storage=1)]), "row_sparse"),
    "csr": (file_of([array(storage=2)]), "csr"),
    "storage type 7": (file_of([array(storage=7)]), "storage type 7"),
    "type 8": (file_of([array(code=8)]), "type 8"),
    "type -1": (file_of([array(code=-1)]), "type -1"),
    "long name": (file_of([array()], ["x" * 5000]), "a name of 5,000 bytes"),
    "endless name": (file_of([array()], [], named=1) + u64(1 << 63) + b"abc", "a name of"),
    "names missing": (file_of([array(), array()], ["a"]), "1 names of 2 arrays"),
    "many names": (file_of([array()], named=1 << 60), "announces"),
    "no UTF-8": (file_of([array()], [b"\xff"]), "not UTF-8"),
    "a zero byte in a name": (file_of([array()], ["a\0b"]), "zero byte"),
    "one name twice": (file_of([array(), array()], ["a", "a"]), "given twice"),
    "bytes after the end": (file_of([array()], end=b"more"), "4 bytes follow the end"),
    "nothing": (b"", "the file ends there"),
    "a web page": (b"<!DOCTYPE html><html>", "does not begin"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_what_is_wrong(write, name):
    data, words = HOSTILE[name]
    path = write(data)
    with pytest.raises(CheckpointError) as caught:
        check_params_file(path)
    assert words in str(caught.value) and len(str(caught.value)) < 600
    for read in (read_params, load_arrays, read_tensors):
        with pytest.raises(CheckpointError):
            read(path)


def test_too_many_small_arrays_are_refused(write, monkeypatch):
    monkeypatch.setattr("mxnetseg.graph.params_file._MOST_ARRAYS", 3)
    assert len(check_params_file(write(file_of([array()] * 3))).tensors) == 3
    refused(write(file_of([array()] * 4)), "too many arrays", "3 are read at most")


def test_sparse_arrays_of_mxnet_itself_are_refused_and_the_fix_works(tmp_path):
    path, value = tmp_path / "x.params", mx.nd.array([[0, 1], [0, 0]])
    for kind in ("row_sparse", "csr"):
        mx.nd.save(str(path), {"x": value.tostype(kind)})
        assert "tostype('default')" in refused(path, kind).fix
    mx.nd.save(str(path), {"x": value.tostype("csr").tostype("default")})
    assert read_params(path)["x"].asnumpy().tolist() == [[0, 1], [0, 0]]


# ---- what is no file -----------------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused_and_does_not_hang(tmp_path):
    refused(tmp_path / "none.params", "is not there")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe.params")
    refused(tmp_path / "pipe.params", "is not a regular file")
    refused(tmp_path / ("x" * 5000), "is not there")


def test_an_unreadable_file_is_refused(write, monkeypatch):
    path = write(file_of([array()]))
    real = open

    def denied(file, *args, **kwargs):
        if str(file) == str(path):
            raise PermissionError(13, "Permission denied")
        return real(file, *args, **kwargs)
    monkeypatch.setattr("builtins.open", denied)
    refused(path, "cannot be read", "Permission denied", "permissions")


# ---- mutations -----------------------------------------------------------------------------------


# extreme numbers, and the marks of arrays
ODD = [*((number % (1 << 64)).to_bytes(8, "little")
         for number in (0, 1, 2, -1, -2, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, (1 << 63) - 1)),
       *(number.to_bytes(4, "little") for number in (0, 1, V1, V2, V3, 0xFFFFFFFF))]


def original(folder):
    path = folder / "original.params"
    mx.nd.save(str(path), {"conv.weight": mx.nd.ones((2, 3, 1, 1)), "bn.gamma": mx.nd.ones((2,), dtype="float16"),
                           "count": mx.nd.ones((1,), dtype="int64")})
    return path.read_bytes()


def test_a_mutated_file_is_refused_or_read_and_what_the_check_accepts_mxnet_reads(write, tmp_path):
    data, read = original(tmp_path), 0
    path = write(data)
    tracemalloc.start()
    for seed in range(600):
        path.write_bytes(mutate_bytes(data, seed, ODD))
        try:
            index = check_params_file(path)
        except CheckpointError as error:
            assert str(path) in str(error) and len(str(error)) < 600
            continue
        if index.tensors:
            found = mx.nd.load(str(path)) if not index.numpy_shapes else load_arrays(path)
            found = list(found.values() if isinstance(found, dict) else found)
            assert [v.shape for v in found] == [t.shape for t in index.tensors], seed
            read += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read > 10 and peak < 4 << 20


def test_a_process_with_little_memory_reads_hostile_files(tmp_path):
    """MXNet itself would allocate; the limit is on what it asks for beyond what the import took."""
    paths = []
    for i, (data, _) in enumerate(HOSTILE.values()):
        paths.append(tmp_path / f"{i}.params")
        paths[-1].write_bytes(data)
    data = original(tmp_path)
    for seed in range(300):
        paths.append(tmp_path / f"m{seed}.params")
        paths[-1].write_bytes(mutate_bytes(data, seed, ODD))
    code = """
import resource, sys
from pathlib import Path
from mxnetseg.errors import MXNetSegError
from mxnetseg.models.weights.tensors import read_tensors
from mxnetseg.models.weights.loading import read_params
import mxnet as mx
mx.nd.ones((2,)).asnumpy()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for path in sorted(Path(sys.argv[1]).glob("*.params")):
    for read in (read_params, read_tensors):
        try:
            read(path)
        except MXNetSegError as error:
            assert "alloc" not in str(error) and "Memory" not in str(error), error
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout == "done\n", done.stderr[-2000:]


def test_a_checkpoint_with_a_pipe_or_folder_in_a_files_place_is_refused(tmp_path):
    from sidecars import sections

    from mxnetseg.engine import checkpoint as module
    from mxnetseg.models import get_model

    net = get_model("fcn", nclass=2, backbone="resnet18", norm="bn", ctx=[mx.cpu()])
    record = sections()
    for suffix, make, words in ((".params", os.mkfifo, "not a regular file"),
                                (".state", os.mkfifo, "not a regular file"), (".params", os.mkdir, "is a folder")):
        checkpoint = module.Checkpoint(tmp_path / "run.params")
        checkpoint.write(net, record, {"momentum": mx.nd.ones((2,))})
        checkpoint.read(state=True)
        file = tmp_path / f"run{suffix}"
        file.unlink()
        make(file)
        with pytest.raises(CheckpointError, match=words):
            checkpoint.read(state=True)
        file.rmdir() if file.is_dir() else file.unlink()
